"""A second maker of the hashes of blind indexes, written from docs/format.md and with nothing of vault_fields."""

import hashlib
import hmac
from base64 import b64decode
from uuid import UUID

from tests.independent_decoder import compact, read_companion, require


def sub_key(index_key, label):
    """HKDF-SHA256 without a salt, of one block."""
    pseudorandom_key = hmac.digest(bytes(32), index_key, "sha256")
    info = compact(["vault_fields index", 1, label]).encode()
    return hmac.digest(pseudorandom_key, info + b"\x01", "sha256")


def blind_hash(index_key, label, text, bits=122):
    """Bit by bit: those of the version and the variant are given, and of the others only the first are kept."""
    found = hmac.digest(sub_key(index_key, label), text.encode(), "sha256")[:16]
    digits = list(f"{int.from_bytes(found):0128b}")
    free = [*range(48), *range(52, 64), *range(66, 128)]
    for position in free[bits:]:
        digits[position] = "0"
    digits[48:52], digits[64:66] = "0100", "10"
    return UUID(int=int("".join(digits), 2))


def context_hash(context):
    return hashlib.sha256(compact(dict(sorted(context.items()))).encode()).hexdigest()


def open_index_key(companion, generation, *, context, unwrap):
    """The key, or ``ValueError`` with the error's name; ``unwrap(alias, encrypted_keys)`` is the Vault."""
    found = read_companion(companion)
    require(found["context"] == context and found["row"] == {"index key": str(generation)})
    key = unwrap(found["vault"], found["keys"])
    said = [found[name] for name in ("vault", "id", "keys", "context", "row")]
    message = compact(["vault_fields proof", 2, *said]).encode()
    require(hmac.digest(key, message, "sha256") == b64decode(found["proof"]), "DecryptionError")
    return key
