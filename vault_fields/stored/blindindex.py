"""
The hash in an index column: equal for equal texts under one index key, and of no use without the key.

    sub-key = HKDF-SHA256(index key, no salt, info=["vault_fields index",1,label] as compact JSON in UTF-8, 32 bytes)
    hash    = the first 16 bytes of HMAC-SHA256(sub-key, UTF-8 of the text), with the bits of a version 4 UUID set

122 bits of the HMAC are left. A truncated hash keeps the first of them, and has zeros for the others. The key context
is not in the message: the index key is the context's own, and a rekey, which keeps the key, keeps the index. The bits
of a version make it a UUID that every database takes for one: MariaDB refuses others.
"""

from functools import cache, lru_cache
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vault_fields.keys import DataKey
from vault_fields.text.encoding import compact_json

__all__ = ["ALL_BITS", "VERSION", "blind_hash", "info"]

VERSION = 1
# The bits of a UUID that are not those of its version and variant.
_FREE = [bit for bit in range(128) if bit not in {48, 49, 50, 51, 64, 65}]
ALL_BITS = len(_FREE)
_SUBKEY_BYTES = 32


@lru_cache(maxsize=1000)
def info(label: str) -> bytes:
    """Return the bytes that separate the sub-key of one index from those of others."""
    return compact_json(["vault_fields index", VERSION, label]).encode()


def blind_hash(key: DataKey, label: str, text: str, bits: int = ALL_BITS) -> UUID:
    """Return the hash of a text in the index ``label`` under an index key, or that many bits of it."""
    # Not remembered beside the key: it would outlive the key's stay in the cache.
    mac = HMAC(HKDF(SHA256(), _SUBKEY_BYTES, salt=None, info=info(label)).derive(key.plaintext), SHA256())
    mac.update(text.encode())
    kept = int.from_bytes(mac.finalize()[:16]) & _mask(bits)
    return UUID(int=kept, version=4)


@cache
def _mask(bits: int) -> int:
    return sum(1 << (127 - bit) for bit in _FREE[:bits])
