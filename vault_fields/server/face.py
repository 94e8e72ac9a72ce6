"""The HTTP face of one embedded Vault: who may call it, and what each of the three key calls answers."""

import base64
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, JsonResponse

from vault_fields.embedded.service import EmbeddedVault
from vault_fields.exceptions import KeyContextError, KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.server.bearers import Bearers
from vault_fields.server.bodies import Rejected, read_body, text_field

__all__ = ["PATHS", "Face", "refusal", "safely"]

logger = logging.getLogger("vault_fields.server")

Operation = Callable[[EmbeddedVault, Mapping[str, Any]], dict[str, Any]]


class Face:
    """An embedded Vault and the bearers that may call it. ``answer`` is the whole of a view."""

    def __init__(self, vault: EmbeddedVault, bearers: Bearers) -> None:
        self._vault = vault
        self._bearers = bearers

    def answer(self, request: HttpRequest, operation: Operation) -> JsonResponse:
        # Before anything else: who has no key learns nothing about what is here.
        if not self._bearers.admit(request.headers.get("Authorization")):
            content = {"message": "Unauthorized", "code": "unauthorized"}
            return respond(content, 401, {"WWW-Authenticate": "Bearer"})
        if request.method != "POST":
            return refusal(405, "Only POST is allowed here.", {"Allow": "POST"})
        try:
            return respond(operation(self._vault, read_body(request)))
        except Rejected as rejected:
            return refusal(rejected.status, rejected.reason)
        except KeyContextError as error:
            return refusal(422, str(error))
        # What the hosted Vault answers here is not public. 400 is what it documents for keys that do not open.
        except KeyRevoked:
            return refusal(400, "A key that is needed for this was revoked.")
        except VaultRefused:
            return refusal(400, "The encrypted keys do not open in this vault.")


def create_data_key(vault: EmbeddedVault, body: Mapping[str, Any]) -> dict[str, Any]:
    context = _context(body)
    return _described(vault.create(context), context)


def decrypt_data_key(vault: EmbeddedVault, body: Mapping[str, Any]) -> dict[str, Any]:
    return _opened(vault.decrypt(text_field(body, "keys")))


def rekey_data_key(vault: EmbeddedVault, body: Mapping[str, Any]) -> dict[str, Any]:
    encrypted_keys = text_field(body, "encrypted_keys")
    context = _context(body)
    return _described(vault.rekey(encrypted_keys, context), context)


PATHS: Mapping[str, Operation] = {
    "vault/v1/keys/data-key": create_data_key,
    "vault/v1/keys/decrypt": decrypt_data_key,
    "vault/v1/keys/rekey": rekey_data_key,
}


def safely(face: Callable[[], Face], request: HttpRequest, operation: Operation) -> JsonResponse:
    """
    The answer of a face, whatever happens: a failure on this side is logged here and only its kind leaves.

    Without this Django's debug page would show the local variables, and with them data keys.
    """
    request_id = f"req_{uuid.uuid4().hex}"
    try:
        response = face().answer(request, operation)
    except (VaultUnavailable, ImproperlyConfigured) as error:
        logger.error("The vault cannot answer (request %s): %s", request_id, error)  # noqa: TRY400 - it says it all.
        response = refusal(503, "The vault is not available.")
    except Exception:
        logger.exception("The vault failed (request %s).", request_id)
        response = refusal(500, "The vault failed.")
    response["X-Request-ID"] = request_id
    return response


def refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JsonResponse:
    return respond({"error": reason}, status, headers)


def respond(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> JsonResponse:
    response = JsonResponse(content, status=status, headers=dict(headers or {}))
    response["Content-Length"] = str(len(response.content))
    response["Cache-Control"] = "no-store"
    return response


def _context(body: Mapping[str, Any]) -> KeyContext:
    context = body.get("context")
    if not isinstance(context, Mapping):
        raise Rejected(400, "context must be an object.")
    return KeyContext(context)


def _opened(key: DataKey) -> dict[str, Any]:
    return {"id": key.id, "data_key": base64.b64encode(key.plaintext).decode()}


def _described(key: DataKey, context: KeyContext) -> dict[str, Any]:
    return {**_opened(key), "encrypted_keys": key.encrypted_keys, "context": dict(context)}
