"""The three key calls of the Vault's API: their payloads, and the check that the answer is a data key."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vault_fields.client.failures import Answer
from vault_fields.keys import DATA_KEY_BYTES, DataKey, KeyContext

__all__ = ["MAX_ENCRYPTED_KEYS_LENGTH", "KeyCall"]

MAX_ENCRYPTED_KEYS_LENGTH = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeyCall:
    """
    One call for a data key.

    Each may be repeated without harm: a data key that was made twice is a key that nobody uses, and the other two
    change nothing.
    """

    path: str
    payload: Mapping[str, Any] = field(repr=False)
    context: KeyContext | None = field(default=None, repr=False)
    encrypted_keys: str | None = field(default=None, repr=False)

    @classmethod
    def create(cls, context: KeyContext) -> "KeyCall":
        return cls("/vault/v1/keys/data-key", {"context": dict(context)}, context=context)

    @classmethod
    def decrypt(cls, encrypted_keys: str) -> "KeyCall":
        return cls("/vault/v1/keys/decrypt", {"keys": encrypted_keys}, encrypted_keys=encrypted_keys)

    @classmethod
    def rekey(cls, encrypted_keys: str, context: KeyContext) -> "KeyCall":
        payload = {"context": dict(context), "encrypted_keys": encrypted_keys}
        return cls("/vault/v1/keys/rekey", payload, context=context)

    def data_key(self, answer: Answer, *, alias: str) -> DataKey:
        """
        Return the data key in the answer. Raises ``VaultRefused`` if there is none, or if it is for another context.
        """
        found = self._found(answer.content)
        if isinstance(found, DataKey):
            return found
        raise answer.refusal(f"The Vault answered something that is not a data key: {found}.", alias=alias)

    # A fault is returned and not raised, so that no traceback has a frame in which the plaintext is a local variable.
    def _found(self, content: Mapping[str, Any]) -> DataKey | str:
        name = content.get("id")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", name):
            return "its id is not a name"
        plaintext = _decoded(content.get("data_key"))
        if plaintext is None or len(plaintext) != DATA_KEY_BYTES:
            return f"data_key is not the base64 of {DATA_KEY_BYTES} bytes"
        encrypted_keys = content.get("encrypted_keys") if self.encrypted_keys is None else self.encrypted_keys
        if not isinstance(encrypted_keys, str) or len(encrypted_keys) > MAX_ENCRYPTED_KEYS_LENGTH:
            return "encrypted_keys is not a text of bounded length"
        if self.encrypted_keys is None and not _decoded(encrypted_keys):
            return "encrypted_keys is not base64"
        if self.context is not None and content.get("context") != dict(self.context):
            return "it is for another context than was asked for"
        return DataKey(name, encrypted_keys, plaintext)


def _decoded(text: object) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
