"""
The encrypted keys of the embedded Vault: one data key, wrapped once for every item of its context.

Standard base64, with padding, of

    offset   size
         0     10   magic "VF.EKM.v1" and a zero byte
        10     16   id of the data key, a UUID
        26      1   number of entries, 1 to 10
        27          entries, one after the other:
                       1   kind of the key that wrapped it: 1 a managed KEK, 2 a customer key
                      16   id of that key, a UUID
                       4   version of a managed KEK, from 1, big-endian; 0 for a customer key
                       2   length of the wrapped copy, 1 to 4,096, big-endian
                       …   wrapped copy of the data key

and nothing after it. A copy under a managed KEK has 72 bytes, so one item makes 122 bytes and each further one 95. A
copy under a customer key is as long as its provider makes it: 112 bytes for a key file, about 140 for a
transit key, about 230 for AWS KMS.

Each copy is wrapped with associated data that names the vault, the environment, the data key and *all* entries in
their order. No entry can be moved to another blob, and none can be taken away: a copy whose KEK is revoked cannot be
cut out so that the others open without it.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Self

from vault_fields.keys import MAX_ITEMS
from vault_fields.text.encoding import decode_base64, encode_base64

__all__ = ["EncryptedKeys", "KeyKind", "KeyName", "MalformedBlob", "WrappedCopy", "id_text", "naming", "new_id"]

MAGIC = b"VF.EKM.v1\x00"
ID_BYTES = 16
# Ten of them make 55 kB of text, which fits the companion column and the client's limits.
MAX_COPY_BYTES = 4096

_HEADER = struct.Struct(f">{len(MAGIC)}s{ID_BYTES}sB")
_ENTRY = struct.Struct(f">B{ID_BYTES}sIH")
_MAX_BYTES = _HEADER.size + MAX_ITEMS * (_ENTRY.size + MAX_COPY_BYTES)
_MAX_TEXT = -(-_MAX_BYTES // 3) * 4


class MalformedBlob(ValueError):
    """The text is not the encrypted keys of an embedded Vault."""


class KeyKind(IntEnum):
    MANAGED = 1
    CUSTOMER = 2


_KINDS = frozenset(KeyKind)


class KeyName(NamedTuple):
    """The name of the key that wraps a copy."""

    kind: KeyKind
    id: bytes
    version: int


@dataclass(frozen=True, slots=True)
class WrappedCopy:
    """A copy of the data key. Customer keys are KEKs without versions: ``kek_version`` is 0."""

    kek_id: bytes
    kek_version: int
    wrapped: bytes = field(repr=False)
    kind: KeyKind = KeyKind.MANAGED

    @property
    def name(self) -> KeyName:
        return KeyName(self.kind, self.kek_id, self.kek_version)


@dataclass(frozen=True, slots=True)
class EncryptedKeys:
    """A decoded blob. ``data_key_id`` and the ids of KEKs are UUIDs as bytes."""

    data_key_id: bytes
    copies: tuple[WrappedCopy, ...]

    def encode(self) -> str:
        parts = [_HEADER.pack(MAGIC, self.data_key_id, len(self.copies))]
        for copy in self.copies:
            parts += _ENTRY.pack(*copy.name, len(copy.wrapped)), copy.wrapped
        return encode_base64(b"".join(parts))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Decode a blob. Raises ``MalformedBlob`` for anything that ``encode`` does not write, to the last bit."""
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
            kind, kek_id, kek_version, length = _ENTRY.unpack_from(blob, offset)
            offset += _ENTRY.size
            if not 1 <= length <= MAX_COPY_BYTES or len(blob) - offset < length:
                raise MalformedBlob
            if kind not in _KINDS or (kek_version == 0) != (kind == KeyKind.CUSTOMER):
                raise MalformedBlob
            copies.append(WrappedCopy(kek_id, kek_version, blob[offset : offset + length], KeyKind(kind)))
            offset += length
        if offset != len(blob):
            raise MalformedBlob
        return cls(data_key_id, tuple(copies))


def new_id() -> bytes:
    """Return a random UUID as bytes. ``uuid.uuid4()`` takes as long as wrapping a data key does."""
    random = bytearray(os.urandom(ID_BYTES))
    random[6] = random[6] & 0x0F | 0x40
    random[8] = random[8] & 0x3F | 0x80
    return bytes(random)


def id_text(id_bytes: bytes) -> str:
    """Return the usual text of a UUID."""
    text = id_bytes.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def naming(data_key_id: bytes, names: Iterable[KeyName]) -> bytes:
    """
    Return all of a blob but the wrapped copies, for their associated data: which key they copy, and what wraps them.
    """
    entries = [_ENTRY.pack(*name, 0) for name in names]
    return _HEADER.pack(MAGIC, data_key_id, len(entries)) + b"".join(entries)


def _from_base64(text: str) -> bytes:
    if len(text) > _MAX_TEXT:
        raise MalformedBlob
    # One blob has one text.
    blob = decode_base64(text)
    if blob is None:
        raise MalformedBlob
    return blob
