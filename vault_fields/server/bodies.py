"""Request bodies: JSON objects, bounded in size, or an answer that says what is wrong with them."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

__all__ = ["MAX_BODY_BYTES", "Rejected", "read_body", "text_field"]

# The longest context that is allowed, each of its characters escaped as a surrogate pair of 12 bytes, makes 75 kB, and
# the longest encrypted keys 110 kB.
MAX_BODY_BYTES = 256 * 1024


class Rejected(Exception):
    """The request cannot be answered; ``status`` tells the kind of fault."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def read_body(request: HttpRequest) -> Mapping[str, Any]:
    if request.content_type != "application/json":
        raise Rejected(415, "The body must be JSON: Content-Type: application/json.")
    try:
        # The announced length is checked first, so that nothing long is read. Not every server insists on one.
        too_long = int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES
        body = b"" if too_long else request.body
    except RequestDataTooBig:
        too_long, body = True, b""
    except (UnreadablePostError, ValueError):
        raise Rejected(400, "The body could not be read.") from None
    if too_long or len(body) > MAX_BODY_BYTES:
        raise Rejected(413, f"The body is longer than {MAX_BODY_BYTES // 1024} KiB.")
    if not body and "HTTP_TRANSFER_ENCODING" in request.META:
        # WSGI cannot say where a body without an announced length ends.
        raise Rejected(411, "This server reads bodies of announced length only: send Content-Length.")
    try:
        content = json.loads(body.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Rejected(400, "The body is not valid JSON.") from None
    if not isinstance(content, Mapping):
        raise Rejected(400, "The body must be a JSON object.")
    return content


def text_field(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Rejected(400, f"{name} must be a string.")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and the infinities are not JSON.


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two items with one name are ambiguous: a proxy that inspects requests might choose the other.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found
