"""Parameters of the query string: each read strictly, or an answer that says which one is wrong."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from django.http import HttpRequest
from django.utils.dateparse import parse_datetime

from vault_fields.embedded.objects.rows import ObjectQuery
from vault_fields.server.bodies import Rejected

__all__ = ["choice", "cursor", "limit", "moment", "search"]

DEFAULT_LIMIT = 10
# A request for more than this gets this many, and a cursor for the rest.
MAX_LIMIT = 100
MAX_SEARCH_LENGTH = 10_000


def limit(request: HttpRequest) -> int:
    text = request.GET.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and text.strip("0")):
        raise Rejected(400, "limit must be a whole number of at least 1.")
    return MAX_LIMIT if len(text.lstrip("0")) > 3 else min(int(text), MAX_LIMIT)


def choice(request: HttpRequest, name: str, choices: tuple[str, ...], default: str) -> str:
    text = request.GET.get(name, default)
    if text not in choices:
        raise Rejected(400, f"{name} must be one of {', '.join(choices)}.")
    return text


def cursor(request: HttpRequest, name: str) -> str | None:
    """Return the id of an object, which a page follows or leads up to."""
    text = request.GET.get(name)
    if text is not None and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        raise Rejected(400, f"{name} must be a cursor of an earlier page.")
    return text


def moment(request: HttpRequest, name: str) -> datetime | None:
    """Return a moment given in ISO 8601, in UTC if it does not say otherwise."""
    text = request.GET.get(name)
    if text is None:
        return None
    try:
        found = parse_datetime(text)
        if found is not None:
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
            # Moments close to the first and the last year cannot be expressed in UTC.
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Rejected(400, f"{name} must be a moment in ISO 8601, such as 2024-01-01T00:00:00Z.")


def search(request: HttpRequest) -> ObjectQuery:
    """
    Return a part of a name; or the ``name`` of a JSON object and the items of its ``key_context``.

    A name that looks like a JSON object is found by ``{"name": …}``.
    """
    text = request.GET.get("search", "")
    updated_after = moment(request, "updatedAfter")
    name, context = _structured(text) if text.lstrip().startswith("{") else (text, {})
    if len(text) > MAX_SEARCH_LENGTH or "\0" in name or not _encodable(name, *context, *context.values()):
        raise Rejected(400, "search is longer than any search, or holds characters that no name has.")
    return ObjectQuery(name, context, updated_after)


def _structured(text: str) -> tuple[str, dict[str, str]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        # It may be the beginning of somebody's name.
        return text, {}
    name, context = found.pop("name", ""), found.pop("key_context", {})
    if found or not isinstance(name, str) or not isinstance(context, Mapping):
        raise Rejected(400, "A structured search has a name, a key_context, and nothing else.")
    if not all(isinstance(value, str) for value in context.values()) or len(context) > 10:
        raise Rejected(400, "key_context in a structured search has up to 10 strings.")
    return name, dict(context)


def _encodable(*texts: str) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True
