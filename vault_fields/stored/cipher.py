"""Sealing and opening with a data key: AES-256-GCM for values, HMAC-SHA256 for the proof in the companion."""

import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from vault_fields.exceptions import DecryptionError, ValueRefused
from vault_fields.keys import DataKey
from vault_fields.stored.envelope import MAX_PLAINTEXT_BYTES, NONCE_BYTES

__all__ = ["open_sealed", "open_under", "prove", "seal", "verify_proof"]


def seal(key: DataKey, plaintext: bytes, associated_data: bytes) -> bytes:
    """Return nonce ‖ ciphertext ‖ tag. Raises ``ValueRefused`` above ``MAX_PLAINTEXT_BYTES``."""
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise ValueRefused(f"a value has at most {MAX_PLAINTEXT_BYTES} bytes; this one has {len(plaintext)}.")
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.aead.encrypt(nonce, plaintext, associated_data)


def open_sealed(key: DataKey, sealed: bytes, associated_data: Sequence[bytes]) -> bytes:
    """Return the plaintext under the first of the ``associated_data`` that fits. Raises ``DecryptionError``."""
    for candidate in associated_data:
        try:
            return key.aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], candidate)
        except InvalidTag:
            continue
    # One message for every cause: a caller must not learn which check failed.
    raise DecryptionError("the value does not open with its data key.")


def open_under(key: DataKey, sealed: bytes, associated_data: bytes) -> str:
    """Return the plaintext as text. Raises ``InvalidTag``, or ``UnicodeDecodeError``, which holds the plaintext."""
    return key.aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data).decode()


def prove(key: DataKey, message: bytes) -> bytes:
    """Return the proof that the writer of ``message`` held ``key``."""
    mac = HMAC(key.plaintext, SHA256())
    mac.update(message)
    return mac.finalize()


def verify_proof(key: DataKey, message: bytes, proof: bytes) -> None:
    """Raise ``DecryptionError`` unless ``proof`` is that of ``key`` over ``message``."""
    mac = HMAC(key.plaintext, SHA256())
    mac.update(message)
    try:
        mac.verify(proof)
    except InvalidSignature:
        raise DecryptionError("the companion does not belong to its data key.") from None
