"""
The seal of a version of a stored object under its data key.

    nonce[12] ‖ ciphertext ‖ tag[16]

with AES-256-GCM. The associated data names the vault, the environment, the object, its name, its context and the
version: no row of the keystore can be passed off as another.
"""

import hashlib
import os

from cryptography.exceptions import InvalidTag

from vault_fields.embedded.xaes import framed
from vault_fields.keys import DataKey

__all__ = ["associated_data", "etag", "opened", "sealed"]

_NONCE_BYTES = 12


def associated_data(vault_id: str, environment: str, object_id: str, name: str, context: str, version_id: str) -> bytes:
    parts = "vault_fields object", vault_id, environment, object_id, name, context, version_id
    return framed(*[part.encode() for part in parts])


def sealed(key: DataKey, value: str, associated: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + key.aead.encrypt(nonce, value.encode(), associated)


def opened(key: DataKey, stored: bytes, associated: bytes) -> str | None:
    """
    Return the value; None if it does not open. A fault is not raised: its traceback would have a frame with the data
    key.
    """
    try:
        return key.aead.decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], associated).decode()
    except (InvalidTag, TypeError, ValueError):
        return None


def etag(stored: bytes) -> str:
    """
    Return a hash of the stored bytes. A hash of the value would tell which objects hold the same, and let it be
    guessed.
    """
    return hashlib.sha256(stored).hexdigest()
