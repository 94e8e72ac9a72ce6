"""The three calls for data keys."""

from typing import Any

from vault_fields.keys import DataKey, KeyContext
from vault_fields.server.bodies import text_field
from vault_fields.server.calls import Answer, Call, key_context
from vault_fields.text.encoding import encode_base64

__all__ = ["create", "decrypt", "rekey"]


def create(call: Call) -> Answer:
    context = key_context(call.body(), "context")
    return _described(call.vault.create(context), context)


def decrypt(call: Call) -> Answer:
    return Answer(_opened(call.vault.decrypt(text_field(call.body(), "keys"))))


def rekey(call: Call) -> Answer:
    body = call.body()
    encrypted_keys = text_field(body, "encrypted_keys")
    context = key_context(body, "context")
    return _described(call.vault.rekey(encrypted_keys, context), context)


def _opened(key: DataKey) -> dict[str, Any]:
    return {"id": key.id, "data_key": encode_base64(key.plaintext)}


def _described(key: DataKey, context: KeyContext) -> Answer:
    return Answer({**_opened(key), "encrypted_keys": key.encrypted_keys, "context": dict(context)})
