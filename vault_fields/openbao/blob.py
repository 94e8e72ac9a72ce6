"""
The stored format of the encrypted keys of an ``OpenBaoVault``: one data key, wrapped once for each context item.

Standard base64, with padding, of

    offset   size
         0     10   magic "VF.BAO.v1" and a zero byte
        10     16   id of the data key, a UUID
        26      1   number of entries, 1 to 10
        27          entries, one after the other:
                       1   length of the name of the transit key
                       …   that name, ASCII
                       4   version of the key, from 1, big-endian
                       2   length of the wrapped copy, 1 to 1,024, big-endian
                       …   wrapped copy: the ciphertext in the engine's "vault:v<version>:<base64>", decoded
         …     32   commitment

and nothing after it. One item makes about 210 bytes.

The commitment is the HMAC-SHA256, under the data key, of everything but versions and wrapped copies. It takes the
place of associated data: the engine's ``rewrap`` accepts none, and older releases ignore it in ``datakey``. Because of
it no entry can be moved to another blob or taken away, no id can be replaced, and no second data key opens the blob.
"""

import hashlib
import hmac
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from vault_fields.keys import MAX_ITEMS
from vault_fields.openbao.names import MAX_NAME_LENGTH, is_key_name
from vault_fields.text.encoding import decode_base64, encode_base64

__all__ = ["EncryptedKeys", "MalformedBlob", "WrappedCopy"]

MAGIC = b"VF.BAO.v1\x00"
ID_BYTES = 16
COMMITMENT_BYTES = 32
MAX_COPY_BYTES = 1024
MAX_VERSION = 2**32 - 1

_HEADER = struct.Struct(f">{len(MAGIC)}s{ID_BYTES}sB")
_COPY = struct.Struct(">IH")
_MAX_BYTES = _HEADER.size + MAX_ITEMS * (1 + MAX_NAME_LENGTH + _COPY.size + MAX_COPY_BYTES) + COMMITMENT_BYTES
_MAX_TEXT = -(-_MAX_BYTES // 3) * 4
_CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]{0,9}):([A-Za-z0-9+/]+={0,2})")


class MalformedBlob(ValueError):
    """The text is not the encrypted keys of a vault over a transit engine."""


@dataclass(frozen=True, slots=True)
class WrappedCopy:
    """A copy of the data key, and the transit key that wrapped it."""

    key: str
    version: int
    wrapped: bytes = field(repr=False)

    @classmethod
    def of(cls, key: str, ciphertext: object) -> Self | None:
        """The copy in a ciphertext of the engine; None if that is not a ciphertext of bounded length."""
        found = _CIPHERTEXT.fullmatch(ciphertext) if isinstance(ciphertext, str) else None
        wrapped = decode_base64(found[2]) if found else None
        if found is None or not wrapped or len(wrapped) > MAX_COPY_BYTES or int(found[1]) > MAX_VERSION:
            return None
        return cls(key, int(found[1]), wrapped)

    @property
    def ciphertext(self) -> str:
        return f"vault:v{self.version}:{encode_base64(self.wrapped)}"


@dataclass(frozen=True, slots=True)
class EncryptedKeys:
    """A decoded blob."""

    data_key_id: bytes
    copies: tuple[WrappedCopy, ...]
    commitment: bytes = field(repr=False)

    @classmethod
    def of(cls, data_key_id: bytes, plaintext: bytes, copies: Sequence[WrappedCopy]) -> Self:
        names = [copy.key for copy in copies]
        return cls(data_key_id, tuple(copies), hmac.digest(plaintext, _committed(data_key_id, names), hashlib.sha256))

    @property
    def names(self) -> list[str]:
        return [copy.key for copy in self.copies]

    def belongs_to(self, plaintext: bytes) -> bool:
        """Whether this is the data key for which the blob was made."""
        expected = hmac.digest(plaintext, _committed(self.data_key_id, self.names), hashlib.sha256)
        return hmac.compare_digest(expected, self.commitment)

    def encode(self) -> str:
        parts = [_HEADER.pack(MAGIC, self.data_key_id, len(self.copies))]
        for copy in self.copies:
            parts += _framed(copy.key), _COPY.pack(copy.version, len(copy.wrapped)), copy.wrapped
        return encode_base64(b"".join([*parts, self.commitment]))

    @classmethod
    def decode(cls, text: str) -> Self:
        """The blob in a text. Raises ``MalformedBlob`` for every text that ``encode`` cannot have written."""
        blob = decode_base64(text) if len(text) <= _MAX_TEXT else None
        if blob is None:
            raise MalformedBlob
        rest = _Rest(blob)
        magic, data_key_id, count = _HEADER.unpack(rest.take(_HEADER.size))
        if magic != MAGIC or not 1 <= count <= MAX_ITEMS:
            raise MalformedBlob
        copies = tuple(rest.take_copy() for _ in range(count))
        commitment = rest.take(COMMITMENT_BYTES)
        if rest.take_all() or len({copy.key for copy in copies}) != count:
            raise MalformedBlob
        return cls(data_key_id, copies, commitment)


class _Rest:
    """The part of a blob that has not been read yet."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    def take(self, size: int) -> bytes:
        if len(self._blob) < size:
            raise MalformedBlob
        taken, self._blob = self._blob[:size], self._blob[size:]
        return taken

    def take_all(self) -> bytes:
        return self.take(len(self._blob))

    def take_copy(self) -> WrappedCopy:
        name = self.take(self.take(1)[0]).decode("latin-1")
        version, length = _COPY.unpack(self.take(_COPY.size))
        # Checked first: the name becomes part of a path.
        if not is_key_name(name) or version < 1 or not 1 <= length <= MAX_COPY_BYTES:
            raise MalformedBlob
        return WrappedCopy(name, version, self.take(length))


def _framed(name: str) -> bytes:
    return bytes([len(name)]) + name.encode("ascii")


def _committed(data_key_id: bytes, names: Sequence[str]) -> bytes:
    return _HEADER.pack(MAGIC, data_key_id, len(names)) + b"".join(map(_framed, names))
