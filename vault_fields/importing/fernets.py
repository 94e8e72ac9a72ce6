"""Readers of Fernet tokens: three libraries that differ in how they come by their keys."""

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.deconstruct import deconstructible
from django.utils.encoding import force_bytes

from vault_fields.importing.reader import Reader
from vault_fields.importing.secrets import Source, require_source, secrets
from vault_fields.runtime.frames import forgetful

__all__ = ["EncryptedModelFields", "FernetEncryptedFields", "FernetFields"]


@deconstructible(path="vault_fields.importing.EncryptedModelFields")
class EncryptedModelFields(Reader):
    """django-encrypted-model-fields: Fernet keys as they are, one or a list of them."""

    @forgetful
    def __init__(self, keys: Source = "FIELD_ENCRYPTION_KEY") -> None:
        self.keys = require_source("keys", keys)

    @forgetful
    def opener(self) -> Callable[[bytes], Any]:
        return _fernet(secrets(self.keys)).decrypt


@deconstructible(path="vault_fields.importing.FernetFields")
class FernetFields(Reader):
    """
    django-fernet-fields and -v2: keys by HKDF, or as they are where ``FERNET_USE_HKDF`` is False.

    A project that had no ``FERNET_KEYS`` passes ``"SECRET_KEY"``.
    """

    @forgetful
    def __init__(self, keys: Source = "FERNET_KEYS") -> None:
        self.keys = require_source("keys", keys)

    @forgetful
    def opener(self) -> Callable[[bytes], Any]:
        keys = secrets(self.keys)
        return _fernet(map(_by_hkdf, keys) if getattr(settings, "FERNET_USE_HKDF", True) else keys).decrypt


@deconstructible(path="vault_fields.importing.FernetEncryptedFields")
class FernetEncryptedFields(Reader):
    """
    django-fernet-encrypted-fields: keys by PBKDF2 of each secret with each salt, which takes 0.1 s for each pair.

    ``secret`` are the secrets; with ``SECRET_KEY`` its fallbacks are tried too. ``leaves=True`` reads its
    ``EncryptedJSONField``, which encrypts each leaf of a document as text: that numbers were numbers is lost there.
    """

    @forgetful
    def __init__(
        self,
        secret: Source = "SECRET_KEY",  # noqa: S107 - a name.
        salts: Source = "SALT_KEY",
        leaves: bool = False,
    ) -> None:
        self.secret = require_source("secret", secret)
        self.salts = require_source("salts", salts)
        self.leaves = leaves

    @forgetful
    def opener(self) -> Callable[[bytes], Any]:
        known = secrets(self.secret)
        if self.secret == "SECRET_KEY":  # noqa: S105 - the name of a setting.
            known += settings.SECRET_KEY_FALLBACKS
        fernet = _fernet(_by_pbkdf2(each, salt) for each in known for salt in secrets(self.salts))
        return _LeafReader(fernet) if self.leaves else fernet.decrypt


class _LeafReader:
    """A reader of documents whose leaves are tokens."""

    def __init__(self, fernet: MultiFernet) -> None:
        self._fernet = fernet

    def __call__(self, stored: bytes) -> Any:
        return self._opened(json.loads(stored))

    def _opened(self, part: Any) -> Any:
        if isinstance(part, dict):
            return {name: self._opened(each) for name, each in part.items()}
        if isinstance(part, list):
            return [self._opened(each) for each in part]
        return self._fernet.decrypt(part).decode()


def _fernet(keys: Iterable[Any]) -> MultiFernet:
    fernets = []
    for key in keys:
        try:
            fernets.append(Fernet(key))
        except (TypeError, ValueError):
            pass
        else:
            continue
        # Outside of the handler: the error of base64 holds the key.
        raise ImproperlyConfigured("A key of the old column is no Fernet key: the url-safe base64 of 32 bytes.")
    return MultiFernet(fernets)


def _by_hkdf(key: Any) -> bytes:
    hkdf = HKDF(SHA256(), length=32, salt=b"django-fernet-fields-hkdf-salt", info=b"django-fernet-fields")
    return base64.urlsafe_b64encode(hkdf.derive(force_bytes(key)))


def _by_pbkdf2(secret: Any, salt: Any) -> bytes:
    kdf = PBKDF2HMAC(SHA256(), length=32, salt=force_bytes(salt), iterations=100_000)
    return base64.urlsafe_b64encode(kdf.derive(force_bytes(secret)))
