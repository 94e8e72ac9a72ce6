"""Encrypted JSON."""

import json
from contextlib import suppress
from typing import Any

from django.db.models import JSONField, Model

from vault_fields import envelope as envelope_format
from vault_fields.exceptions import DecryptionError, ValueRefused
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

    def value_to_string(self, obj: Model) -> Any:
        held = super().value_to_string(obj)
        if isinstance(held, str) and not envelope_format.is_envelope(held):
            # ``loaddata`` would take the text of it for a JSON string.
            raise ValueRefused(
                f"{self.label}: JSON that is not encrypted yet cannot be serialized. Encrypt the rows first, with "
                "vault_fields.operations.EncryptField or `manage.py vault_encrypt`."
            )
        return held

    def to_plaintext(self, value: Any) -> str:
        return json.dumps(value, cls=self.encoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def from_plaintext(self, text: str) -> Any:
        # Everything: a decoder is the project's own code, and its frames hold the plaintext.
        with suppress(Exception):
            return json.loads(text, cls=self.decoder)
        # Not raised from within: json's error holds the plaintext, and would stay in the context of this one.
        raise DecryptionError("the value is not JSON, or nested too deeply, or its decoder failed.")
