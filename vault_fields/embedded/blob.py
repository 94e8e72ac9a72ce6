"""
The encrypted keys of the embedded Vault: one data key, wrapped under every KEK of its context.

Standard base64, with padding, of

    offset   size
         0     10   magic "VF.EKM.v1" and a zero byte
        10     16   id of the data key, a UUID
        26      1   number of entries, 1 to 10
        27          entries, one after the other:
                      16   id of the KEK, a UUID
                       4   version of the KEK, from 1, big-endian
                       2   length of the wrapped copy, 1 to 8,192, big-endian
                       …   wrapped copy of the data key

and nothing after it. A copy under a managed KEK has 72 bytes, so one item makes 121 bytes and each further one 94.

Each copy is wrapped with associated data that names the vault, the environment, the data key and *all* entries in
their order. No entry can be moved to another blob, and none can be taken away: a copy whose KEK is revoked cannot be
cut out so that the others open without it.
"""

import base64
import struct
from dataclasses import dataclass, field
from typing import Self

from vault_fields.keys import MAX_ITEMS

__all__ = ["EncryptedKeys", "MalformedBlob", "WrappedCopy", "naming"]

MAGIC = b"VF.EKM.v1\x00"
ID_BYTES = 16
MAX_COPY_BYTES = 8192

_HEADER = struct.Struct(f">{len(MAGIC)}s{ID_BYTES}sB")
_ENTRY = struct.Struct(f">{ID_BYTES}sIH")
_MAX_BYTES = _HEADER.size + MAX_ITEMS * (_ENTRY.size + MAX_COPY_BYTES)
_MAX_TEXT = -(-_MAX_BYTES // 3) * 4


class MalformedBlob(ValueError):
    """The text is not the encrypted keys of an embedded Vault."""


@dataclass(frozen=True, slots=True)
class WrappedCopy:
    kek_id: bytes
    kek_version: int
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EncryptedKeys:
    """A decoded blob. ``data_key_id`` and the ids of KEKs are UUIDs as bytes."""

    data_key_id: bytes
    copies: tuple[WrappedCopy, ...]

    def encode(self) -> str:
        parts = [_HEADER.pack(MAGIC, self.data_key_id, len(self.copies))]
        for copy in self.copies:
            parts += _ENTRY.pack(copy.kek_id, copy.kek_version, len(copy.wrapped)), copy.wrapped
        return base64.b64encode(b"".join(parts)).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises ``MalformedBlob`` for anything that ``encode`` does not write, to the last bit."""
        blob = _from_base64(text)
        if len(blob) < _HEADER.size:
            raise MalformedBlob
        magic, data_key_id, count = _HEADER.unpack_from(blob)
        if magic != MAGIC or not 1 <= count <= MAX_ITEMS:
            raise MalformedBlob
        copies = []
        offset = _HEADER.size
        for _ in range(count):
            if len(blob) - offset < _ENTRY.size:
                raise MalformedBlob
            kek_id, kek_version, length = _ENTRY.unpack_from(blob, offset)
            offset += _ENTRY.size
            if not 1 <= length <= MAX_COPY_BYTES or len(blob) - offset < length or kek_version < 1:
                raise MalformedBlob
            copies.append(WrappedCopy(kek_id, kek_version, blob[offset : offset + length]))
            offset += length
        if offset != len(blob):
            raise MalformedBlob
        return cls(data_key_id, tuple(copies))


def naming(data_key_id: bytes, keks: list[tuple[bytes, int]]) -> bytes:
    """All of a blob but the wrapped copies, for their associated data: what they are copies of, and under what."""
    return _HEADER.pack(MAGIC, data_key_id, len(keks)) + b"".join([_ENTRY.pack(*kek, 0) for kek in keks])


def _from_base64(text: str) -> bytes:
    if len(text) > _MAX_TEXT:
        raise MalformedBlob
    try:
        blob = base64.b64decode(text, validate=True)
    except ValueError:
        raise MalformedBlob from None
    # The last character may hold bits that decoding ignores. One blob has one text.
    if base64.b64encode(blob).decode() != text:
        raise MalformedBlob
    return blob
