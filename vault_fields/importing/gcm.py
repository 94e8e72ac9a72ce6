"""Readers of AES-GCM: with keys in a setting, and through a primitive of Tink that the project makes."""

from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.core.exceptions import ImproperlyConfigured
from django.utils.deconstruct import deconstructible

from vault_fields.importing.reader import Reader
from vault_fields.importing.secrets import Source, require_function, require_source, secrets
from vault_fields.runtime.frames import forgetful

__all__ = ["SearchableEncryptedFields", "TinkFields"]

_NONCE_BYTES = 16
_TAG_BYTES = 16


@deconstructible(path="vault_fields.importing.SearchableEncryptedFields")
class SearchableEncryptedFields(Reader):
    """django-searchable-encrypted-fields: keys of 32 bytes in hexadecimal. Stored are nonce, tag and ciphertext."""

    @forgetful
    def __init__(self, keys: Source = "FIELD_ENCRYPTION_KEYS") -> None:
        self.keys = require_source("keys", keys)

    @forgetful
    def opener(self) -> Callable[[bytes], Any]:
        return _AnyKey([_aead(key) for key in secrets(self.keys)])


class _AnyKey:
    """A function that opens a value by the first of several keys that fits."""

    def __init__(self, keys: list[AESGCM]) -> None:
        self._keys = keys

    def __call__(self, stored: bytes) -> bytes:
        start = _NONCE_BYTES + _TAG_BYTES
        nonce, tag, ciphertext = stored[:_NONCE_BYTES], stored[_NONCE_BYTES:start], stored[start:]
        for key in self._keys:
            try:
                return key.decrypt(nonce, ciphertext + tag, None)
            except InvalidTag:
                continue
        raise InvalidTag


def _aead(key: Any) -> AESGCM:
    try:
        return AESGCM(bytes.fromhex(key))
    except (TypeError, ValueError):
        pass
    # Outside of the handler: the error may hold the key.
    raise ImproperlyConfigured("A key of the old column is no AES key in hexadecimal: 64 digits.")


@deconstructible(path="vault_fields.importing.TinkFields")
class TinkFields(Reader):
    """
    django-tink-fields. ``primitive`` is a function that returns Tink's primitive, made of your keyset.

    Anything with a method ``decrypt(ciphertext, associated_data)`` will do, or with ``decrypt_deterministically`` for a
    deterministic field: this package does not need Tink. ``associated_data`` is a function that returns what the
    ``aad_callback`` of the field returned, if it had one.
    """

    @forgetful
    def __init__(
        self, primitive: Callable[[], Any], associated_data: Callable[[], bytes] | None = None, daead: bool = False
    ) -> None:
        require_function("primitive", primitive)
        if associated_data is not None:
            require_function("associated_data", associated_data)
        self.primitive = primitive
        self.associated_data = associated_data
        self.daead = daead

    @forgetful
    def opener(self) -> Callable[[bytes], Any]:
        primitive = self.primitive()
        decrypt = primitive.decrypt_deterministically if self.daead else primitive.decrypt
        associated_data = b"" if self.associated_data is None else self.associated_data()
        return lambda stored: decrypt(stored, associated_data)
