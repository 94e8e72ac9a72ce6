"""The reader of django-cryptography: pickled values, by AES-CBC, signed."""

import hmac
import io
import pickle
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7
from django.conf import settings
from django.utils.deconstruct import deconstructible
from django.utils.encoding import force_bytes

from vault_fields.exceptions import DecryptionError
from vault_fields.importing.reader import Reader
from vault_fields.importing.secrets import Source, require_source, secret
from vault_fields.runtime.frames import forgetful

__all__ = ["DjangoCryptography"]

_VERSION = b"\x80"
_HEADER_BYTES = 9
_IV_BYTES = 16
_SIGNATURE_BYTES = 32

# The classes that a pickle may name. Text, numbers, booleans, None, lists, tuples and mappings need none.
_PLAIN = {
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("decimal", "Decimal"),
    ("uuid", "UUID"),
}


@deconstructible(path="vault_fields.importing.DjangoCryptography")
class DjangoCryptography(Reader):
    """
    django-cryptography and -5: fields that ``encrypt()`` wrapped, with ``CRYPTOGRAPHY_KEY`` and ``CRYPTOGRAPHY_SALT``.

    ``secret`` is the ``SECRET_KEY`` that values were signed with, and encrypted if there is no ``CRYPTOGRAPHY_KEY``;
    ``key`` the key that ``encrypt(…, key=…)`` was called with. The time to live of a value is not asked. Values are
    pickles: only plain types are built, and no code in them runs.
    """

    @forgetful
    def __init__(self, secret: Source = "SECRET_KEY", key: Source | None = None) -> None:  # noqa: S107 - a name.
        self.secret = require_source("secret", secret)
        self.key = None if key is None else require_source("key", key)

    @forgetful
    def opener(self) -> Callable[[bytes], Any]:
        signing = force_bytes(secret(self.secret))
        if self.key is not None:
            return _Opener(signing, force_bytes(secret(self.key)))
        salt = force_bytes(getattr(settings, "CRYPTOGRAPHY_SALT", "django-cryptography"))
        kdf = PBKDF2HMAC(SHA256(), length=32, salt=salt, iterations=30_000)
        return _Opener(signing, kdf.derive(force_bytes(getattr(settings, "CRYPTOGRAPHY_KEY", None) or signing)))


class _Opener:
    """A function that opens one value."""

    def __init__(self, signing: bytes, key: bytes) -> None:
        self._signing = signing
        self._key = key

    def __call__(self, stored: bytes) -> Any:
        signed, signature = stored[:-_SIGNATURE_BYTES], stored[-_SIGNATURE_BYTES:]
        expected = hmac.digest(self._signing, signed, "sha256")
        if not hmac.compare_digest(signature, expected) or not signed.startswith(_VERSION):
            raise InvalidSignature
        iv, ciphertext = signed[_HEADER_BYTES:][:_IV_BYTES], signed[_HEADER_BYTES + _IV_BYTES :]
        decryptor = Cipher(AES(self._key), CBC(iv)).decryptor()
        unpadder = PKCS7(AES.block_size).unpadder()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return _PlainUnpickler(io.BytesIO(unpadder.update(padded) + unpadder.finalize())).load()


class _PlainUnpickler(pickle.Unpickler):
    """A reader of pickles that builds plain values only, whoever has the key to sign others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PLAIN:
            raise DecryptionError(
                "the old column holds a pickle of another type than text, bytes, numbers, Decimal, dates, times, UUID, "
                "lists, tuples and mappings, which is not loaded."
            )
        return super().find_class(module, name)
