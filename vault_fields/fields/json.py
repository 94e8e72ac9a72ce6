"""Encrypted JSON."""

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, overload

from django.db.models import Model

from vault_fields.exceptions import DecryptionError, ValueRefused
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.context import KeyContextDeclaration
from vault_fields.fields.typed import GenericJSONField, GetT_co, JSONInput, JSONValue, SetT_contra
from vault_fields.stored import envelope as envelope_format

__all__ = ["EncryptedJSONField"]

# The beginning of the text of a JSON string; an envelope begins otherwise.
_BEFORE_STRING = ('"', " ", "\t", "\r", "\n")


class EncryptedJSONField(EncryptedField[SetT_contra, GetT_co], GenericJSONField[SetT_contra, GetT_co]):
    """
    A ``JSONField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    ``None`` is NULL in the database, as for any other field, and not JSON's null. NaN and the infinities, which JSON
    does not have, are refused.
    """

    description = "Encrypted JSON"
    is_indexable = False

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: "EncryptedJSONField[JSONInput, JSONValue]",
            *args: Any,
            key_context: KeyContextDeclaration,
            encoder: None = ...,
            decoder: None = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedJSONField[object, Any]",
            *args: Any,
            key_context: KeyContextDeclaration,
            encoder: type[json.JSONEncoder] | None = ...,
            decoder: type[json.JSONDecoder] | None = ...,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def serialized_text(self, obj: Model) -> Any:
        held = super().serialized_text(obj)
        if isinstance(held, str) and not envelope_format.is_envelope(held):
            # ``loaddata`` would take the text of it for a JSON string.
            raise ValueRefused(
                f"{self.label}: JSON that is not encrypted yet cannot be serialized. Encrypt the rows first, with "
                "vault_fields.operations.EncryptField or `manage.py vault_encrypt`."
            )
        return held

    def stored_text(self, text: str) -> str:
        # A plain JSONField, in a process that runs older code, loads an envelope as a string, and saves it as JSON.
        if text[:1] in _BEFORE_STRING:
            with suppress(ValueError, RecursionError):
                value = json.loads(text)
                if isinstance(value, str) and envelope_format.is_envelope(value):
                    return value
        return text

    def to_plaintext(self, value: Any) -> str:
        return json.dumps(value, cls=self.encoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def from_plaintext(self, text: str) -> Any:
        # Catch everything: a decoder is the project's own code, and its frames hold the plaintext.
        with suppress(Exception):
            return json.loads(text, cls=self.decoder)
        # Raised outside of the handler: json's error holds the plaintext, and would stay in the context of this one.
        raise DecryptionError("the value is not JSON, or nested too deeply, or its decoder failed.")
