"""
The receiver of webhooks: one is believed if it is signed, and acted on once.

WorkOS repeats a webhook that was not answered with 200, with the same id and a new signature. So a repeated id is
answered with 200 and does nothing. But if acting on an event failed, its id is forgotten again, so that its repetition
counts.
"""

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig
from django.http import HttpRequest, JsonResponse, UnreadablePostError

from vault_fields.runtime.frames import forgetful
from vault_fields.vaults import vaults
from vault_fields.webhooks.configuration import WebhookSettings, webhook_settings
from vault_fields.webhooks.verification import is_signed

__all__ = ["MAX_BODY_BYTES", "receive"]

logger = logging.getLogger("vault_fields.webhooks")

MAX_BODY_BYTES = 64 * 1024

DELETED = "vault.byok_key.deleted"
VERIFICATION = "vault.byok_key.verification_completed"


@forgetful
def receive(request: HttpRequest) -> JsonResponse:
    """Receive one webhook: the whole of the view."""
    if request.method != "POST":
        return _refusal(405, "Only POST is allowed here.", {"Allow": "POST"})
    try:
        settings = webhook_settings()
    except ImproperlyConfigured as error:
        logger.error("A webhook could not be received: %s", error)  # noqa: TRY400 - it says it all.
        return _refusal(503, "Webhooks are not configured.")
    body = _body(request)
    if body is None:
        return _refusal(413, f"The body is longer than {MAX_BODY_BYTES // 1024} KiB, or could not be read.")
    header = request.headers.get("WorkOS-Signature", "")
    if not is_signed(header, body, settings.secrets, now=time.time(), tolerance=settings.tolerance):
        # One answer for every cause.
        return _refusal(400, "The signature does not fit.")
    event = _event(body)
    if event is None:
        return _refusal(400, "The body is not an event.")
    return JsonResponse({"handled": _act_once(event, settings)})


def _act_once(event: Mapping[str, Any], settings: WebhookSettings) -> bool:
    if not _withdraws(event):
        return False
    remembered, name = settings.remembered(), f"vault_fields:webhook:{event['id']}"
    # The signature of a replay is too old by the time that its event is forgotten.
    if not remembered.add(name, True, timeout=2 * settings.tolerance):
        return False
    try:
        organization = event["data"]["organization_id"]
        dropped = vaults.purge({settings.item_name: organization})
    except BaseException:
        remembered.delete(name)
        raise
    logger.warning("%s: %d cached data keys of %s were dropped.", event["event"], dropped, organization)
    return True


def _withdraws(event: Mapping[str, Any]) -> bool:
    kind, data = event["event"], event["data"]
    return kind == DELETED or (kind == VERIFICATION and data.get("verified") is not True)


def _event(body: bytes) -> Mapping[str, Any] | None:
    """Return the event in a signed body, with the organization's id if it may withdraw a key."""
    try:
        event = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        return None
    if not isinstance(event.get("event"), str) or not _is_name(event.get("id")):
        return None
    return event if not _withdraws(event) or _is_name(event["data"].get("organization_id")) else None


def _is_name(text: object) -> bool:
    # It becomes part of a cache key and of the log.
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", text) is not None


def _body(request: HttpRequest) -> bytes | None:
    try:
        # The announced length is checked first, so that nothing long is read. Not every server insists on one.
        if int(request.headers.get("Content-Length") or 0) > MAX_BODY_BYTES:
            return None
        body = request.body
    except (RequestDataTooBig, UnreadablePostError, ValueError):
        return None
    return body if len(body) <= MAX_BODY_BYTES else None


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JsonResponse:
    return JsonResponse({"error": reason}, status=status, headers=dict(headers or {}))
