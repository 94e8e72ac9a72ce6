"""
Wrapping one key under another: XAES-256-GCM (https://c2sp.org/XAES-256-GCM).

A key-encrypting key lives for years and wraps a data key for every row. AES-256-GCM alone may use random nonces for
2³² of them; XAES derives an AES-256-GCM key from each nonce of 192 bits, so that the number needs no counting.

    wrapped = nonce[24] ‖ ciphertext ‖ tag[16]
"""

import os
from hmac import compare_digest
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["OVERHEAD", "WrappingKey", "framed"]

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16
OVERHEAD = NONCE_BYTES + TAG_BYTES

# The two input blocks of the key derivation, before the nonce: counter (1, 2), the label "X", a zero.
_FIRST_BLOCK = int.from_bytes(b"\x00\x01X\x00" + bytes(12))
_SECOND_BLOCK = int.from_bytes(b"\x00\x02X\x00" + bytes(12))
_BLOCK_MASK = (1 << 128) - 1
# The bare block cipher, from which the derivation is built. Nothing is encrypted with it.
_BLOCKWISE = modes.ECB()  # noqa: S305


class WrappingKey:
    """A 256-bit key that wraps other keys. Thread-safe; ``repr`` hides it, and it cannot be pickled or copied."""

    __slots__ = ("_block_cipher", "_first", "_second")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"A wrapping key has {KEY_BYTES} bytes, not {len(key)}.")
        self._block_cipher = Cipher(algorithms.AES(key), _BLOCKWISE)
        doubled = int.from_bytes(self._encrypt_blocks(bytes(16))) << 1
        # The reduction of CMAC's subkey: the bit that is shifted out is folded in again.
        subkey = (doubled & _BLOCK_MASK) ^ (0b10000111 if doubled > _BLOCK_MASK else 0)
        self._first = subkey ^ _FIRST_BLOCK
        self._second = subkey ^ _SECOND_BLOCK

    def is_same(self, other: "WrappingKey") -> bool:
        """Whether both are the same key: they derive the same value."""
        return compare_digest(self._first.to_bytes(16), other._first.to_bytes(16))

    def wrap(self, key: bytes, associated_data: bytes) -> bytes:
        return self.seal(os.urandom(NONCE_BYTES), key, associated_data)

    def unwrap(self, wrapped: bytes, associated_data: bytes) -> bytes:
        """Unwrap a key. Raises ``InvalidTag`` unless this key wrapped it with this associated data."""
        if len(wrapped) < OVERHEAD:
            raise InvalidTag
        nonce = wrapped[:NONCE_BYTES]
        return self._derive(nonce).decrypt(nonce[12:], wrapped[NONCE_BYTES:], associated_data)

    def seal(self, nonce: bytes, key: bytes, associated_data: bytes) -> bytes:
        """Wrap with a nonce for which the caller answers, as known-answer tests do."""
        return nonce + self._derive(nonce).encrypt(nonce[12:], key, associated_data)

    def _derive(self, nonce: bytes) -> AESGCM:
        prefix = int.from_bytes(nonce[:12])
        blocks = (self._first ^ prefix).to_bytes(16) + (self._second ^ prefix).to_bytes(16)
        return AESGCM(self._encrypt_blocks(blocks))

    def _encrypt_blocks(self, blocks: bytes) -> bytes:
        # An encryptor of its own for each call: one must not be used by two threads at once.
        return self._block_cipher.encryptor().update(blocks)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("A wrapping key cannot be pickled or copied: it must not leave this process in the clear.")


def framed(*parts: bytes) -> bytes:
    """Return the parts, each after its length, so that no two lists of parts give the same bytes."""
    return b"".join([len(part).to_bytes(4) + part for part in parts])
