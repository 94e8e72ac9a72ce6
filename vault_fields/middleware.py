"""Responses in place of errors of a Vault that the view did not catch: a status, a reason and a code."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import Context, Engine, TemplateDoesNotExist, loader
from django.utils.log import log_response
from django.utils.translation import get_language, gettext

from vault_fields.exceptions import (
    KeyRevoked,
    ObjectConflict,
    ObjectMissing,
    VaultError,
    VaultRefused,
    VaultUnavailable,
)
from vault_fields.fields.attempts import reason_of

__all__ = ["VaultErrorMiddleware"]

logger = logging.getLogger("vault_fields.middleware")

TEMPLATE = "vault_fields/vault_error.html"

# A Vault may name any moment. Nobody should wait longer than a day without asking.
LONGEST_RETRY_AFTER = 24 * 60 * 60


class VaultErrorMiddleware:
    """
    Answers a ``VaultUnavailable`` that leaves a view with 503, and a ``VaultRefused`` with 403.

    The answer is JSON (``detail`` and ``code``) for clients that ask for it, or send it, and the template
    ``vault_fields/vault_error.html`` otherwise. The error is logged once, as a warning with its own message, which no
    client gets. For views in threads and in coroutines.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, VaultError) or (answer := _status_and_code(exception)) is None:
            return None
        response = _response(request, exception, *answer)
        response["Cache-Control"] = "no-store"
        if exception.retry_after is not None:
            response["Retry-After"] = str(math.ceil(min(exception.retry_after, LONGEST_RETRY_AFTER)))
        # Django would log the answer too, as an error about which administrators get a mail.
        log_response("%s", str(exception), response=response, request=request, logger=logger, level="warning")
        return response


def _status_and_code(error: VaultError) -> tuple[int, str] | None:
    """Return the HTTP status of the error, and its name for programs; None if the project has to decide."""
    if isinstance(error, VaultUnavailable):
        return 503, "vault_unavailable"
    if isinstance(error, KeyRevoked):
        return 403, "key_revoked"
    # The project's own code asks for objects, and knows the meaning of a missing one.
    if isinstance(error, VaultRefused) and not isinstance(error, ObjectConflict | ObjectMissing):
        return 403, "vault_refused"
    return None


def _response(request: HttpRequest, error: VaultError, status: int, code: str) -> HttpResponse:
    reason = str(reason_of(error))
    if _wants_json(request):
        return JsonResponse({"detail": reason, "code": code}, status=status)
    title = gettext("Not available at the moment") if status == 503 else gettext("Not available")
    context = {"title": title, "reason": reason, "code": code, "status": status, "language": get_language() or "en"}
    return HttpResponse(_page(context), status=status)


def _wants_json(request: HttpRequest) -> bool:
    """Whether the client prefers JSON to HTML; if it asks for neither, whether it sends JSON."""
    for accepted in request.accepted_types:
        is_json = _is_json(str(accepted.sub_type))
        if accepted.quality and (is_json or accepted.sub_type in {"html", "xhtml+xml"}):
            return is_json
    return _is_json((request.content_type or "").partition("/")[2])


def _is_json(sub_type: str) -> bool:
    return sub_type == "json" or sub_type.endswith("+json")


def _page(context: dict[str, Any]) -> str:
    # Rendered without the request: a context processor may need the very key that is missing.
    try:
        return loader.render_to_string(TEMPLATE, context)
    except TemplateDoesNotExist:
        engine = Engine(dirs=[str(Path(__file__).parent / "templates")])
        return engine.get_template(TEMPLATE).render(Context(context))
