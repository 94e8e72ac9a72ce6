"""The root key, under which every key-encrypting key of a keystore is wrapped at rest."""

import hashlib
import hmac
import logging
import os
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.database import failures
from vault_fields.embedded.database.files import publish
from vault_fields.embedded.xaes import WrappingKey
from vault_fields.runtime.frames import forgetful, forgetful_class
from vault_fields.text.encoding import decode_lenient_base64, encode_base64
from vault_fields.text.placeholders import is_guessable

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "FORMER_ENVIRONMENT_VARIABLE",
    "DevelopmentRootKey",
    "RootKey",
    "configured_former_root_keys",
    "configured_root_key",
    "decode_root_key",
    "generate_root_key",
]

logger = logging.getLogger("vault_fields.embedded.rootkey")

ENVIRONMENT_VARIABLE = "VAULT_ROOT_KEY"
FORMER_ENVIRONMENT_VARIABLE = "VAULT_FORMER_ROOT_KEYS"
ROOT_KEY_BYTES = 32
COMMAND = "python manage.py vault_root_key"

# Hashes of root keys that were in the sources of the documentation.
_PUBLISHED = frozenset({"fd4020438927052c23885a36839887876cfb8032578ec6348337b8435945a24f"})


@forgetful_class
class RootKey:
    """
    A key that wraps key-encrypting keys. Its ``id`` is derived from it, so that a keystore can recognise its root key.

    ``repr`` hides the key, and it cannot be pickled or copied.
    """

    __slots__ = ("_tagging", "id", "is_guessable", "wrapping")

    def __init__(self, material: bytes) -> None:
        if len(material) != ROOT_KEY_BYTES:
            raise ValueError(f"A root key has {ROOT_KEY_BYTES} bytes, not {len(material)}.")
        # Keys are only derived from the root key: the published id reveals nothing about the key that wraps.
        self.id = hmac.digest(material, b"vault_fields root key: id", "sha256")[:16].hex()
        self.wrapping = WrappingKey(hmac.digest(material, b"vault_fields root key: wrapping", "sha256"))
        # A check reports it. It is not refused: the root key that a keystore was made with has to open it.
        self.is_guessable = is_guessable(material)
        self._tagging = hmac.digest(material, b"vault_fields root key: tagging", "sha256")

    def tag(self, message: bytes) -> bytes:
        """Return an HMAC of ``message`` that nobody can make without this key."""
        return hmac.digest(self._tagging, message, "sha256")

    def __repr__(self) -> str:
        return f"<RootKey {self.id}>"

    @forgetful
    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("A root key cannot be pickled or copied: it must not leave this process in the clear.")


def generate_root_key() -> str:
    """Return a fresh random root key, in the form that the setting takes."""
    return encode_base64(secrets.token_bytes(ROOT_KEY_BYTES))


@forgetful
def decode_root_key(text: str) -> RootKey:
    """Return the root key of a setting. Raises an error that does not hold the text if it is not one."""
    if not isinstance(text, str):
        raise TypeError(f"it must be a string, not {type(text).__name__}.")
    material = decode_lenient_base64(text.strip())
    if material is None:
        raise ValueError("it is not base64.")
    if len(material) != ROOT_KEY_BYTES:
        raise ValueError(f"it must be the base64 of {ROOT_KEY_BYTES} bytes, not of {len(material)}.")
    if len(set(material)) == 1:
        # It looks like an example, a placeholder or a buffer that nobody filled.
        raise ValueError("it is one byte repeated, which anybody can guess, and no random key.")
    if hashlib.sha256(material).hexdigest() in _PUBLISHED:
        raise ValueError("it is a key that was published, and no secret.")
    return RootKey(material)


@forgetful
def configured_root_key(option: str | None) -> RootKey | None:
    """
    Return the root key of the option or else of the environment; None if there is none.

    Raises ``ValueError`` for a value that is no root key, an empty one too: a deployment that lost its secret must not
    go on with a development key.
    """
    text, source = option, "root_key"
    if text is None:
        text, source = os.environ.get(ENVIRONMENT_VARIABLE), f"the environment variable {ENVIRONMENT_VARIABLE}"
    if text is None:
        return None
    try:
        return decode_root_key(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source} cannot be used: {error} `{COMMAND}` prints a fresh one.") from None


@forgetful
def configured_former_root_keys(option: Sequence[str] | None) -> list[RootKey]:
    """
    Return the former root keys of the option, or else of the environment, separated by commas or spaces.

    Raises ``ValueError`` for a value that is no root key.
    """
    texts: Sequence[str]
    if option is None:
        texts = os.environ.get(FORMER_ENVIRONMENT_VARIABLE, "").replace(",", " ").split()
        source = f"the environment variable {FORMER_ENVIRONMENT_VARIABLE}"
    elif isinstance(option, list | tuple):
        texts, source = option, "former_root_keys"
    else:
        raise ValueError(f"former_root_keys must be a list, not {type(option).__name__}.")
    try:
        return [decode_root_key(text) for text in texts]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source} cannot be used: {error}") from None


@forgetful_class
class DevelopmentRootKey:
    """
    The root key of a project that has not configured one: generated on first use into a file beside the keystore.

    Anyone who can read the keystore can read this file too, so it protects nothing. Nothing is read or created before
    ``obtain``.
    """

    def __init__(self, keystore: Path) -> None:
        # The name continues the keystore's as SQLite's own -wal does, which usual ignore files cover.
        self._keystore = keystore
        self.path = keystore.with_name(f"{keystore.name}-development-root-key")

    def obtain(self, *, generate: bool) -> RootKey:
        """
        Return the key in the file. Without a file, generate one, or raise ``ImproperlyConfigured`` where none may be.
        """
        try:
            key = self._read()
            if key is None:
                if not generate:
                    raise ImproperlyConfigured(
                        f"no root key is configured, but the keystore {self._keystore} was made with one. Set root_key "
                        f"in OPTIONS or the environment variable {ENVIRONMENT_VARIABLE} to it."
                    )
                if publish(self.path, _write_key):
                    self._warn()
                key = self._read()
        except OSError as error:
            raise failures.from_os(error, self.path) from error
        if key is None:
            raise ImproperlyConfigured(f"the development root key {self.path} was removed while it was being read.")
        logger.warning("The vault uses the development root key %s: not for production.", self.path)
        return key

    def _read(self) -> RootKey | None:
        try:
            text = self.path.read_text("ascii", errors="replace")
        except FileNotFoundError:
            return None
        try:
            return decode_root_key(text)
        except ValueError as error:
            raise ImproperlyConfigured(f"the development root key {self.path} cannot be used: {error}") from None

    def _warn(self) -> None:
        warnings.warn(
            f"No root key is configured: a development root key was generated in {self.path}. It is not for "
            f"production. Type `{COMMAND}` and put what it prints into the environment variable "
            f"{ENVIRONMENT_VARIABLE} or into root_key in OPTIONS.",
            RuntimeWarning,
            stacklevel=2,
        )


def _write_key(path: Path) -> None:
    path.write_text(generate_root_key() + "\n", "ascii")
