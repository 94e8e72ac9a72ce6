"""Encrypted JSON."""

import json
from contextlib import suppress
from typing import Any

from django.db.models import JSONField

from vault_fields.exceptions import DecryptionError
from vault_fields.fields.base import EncryptedField

__all__ = ["EncryptedJSONField"]


class EncryptedJSONField(EncryptedField, JSONField):
    """
    A ``JSONField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    ``None`` is NULL in the database, as for any other field, and not JSON's null. NaN and the infinities, which JSON
    does not have, are refused.
    """

    description = "Encrypted JSON"

    def get_internal_type(self) -> str:
        # The column holds an envelope, which is text.
        return "TextField"

    def to_plaintext(self, value: Any) -> str:
        return json.dumps(value, cls=self.encoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def from_plaintext(self, text: str) -> Any:
        # Everything: a decoder is the project's own code, and its frames hold the plaintext.
        with suppress(Exception):
            return json.loads(text, cls=self.decoder)
        # Not raised from within: json's error holds the plaintext, and would stay in the context of this one.
        raise DecryptionError("the value is not JSON, or nested too deeply, or its decoder failed.")
