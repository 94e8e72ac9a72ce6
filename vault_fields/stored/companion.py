"""
The text that stands in the companion column: what a Vault needs to open the values beside it, and for whom.

Compact JSON with exactly these members in this order, names in objects in code point order, nothing escaped that
need not be:

    {"v":2,                         version of this format
     "vault":"default",             alias in settings.VAULTS that made the data key
     "id":"bf51…",                  the Vault's id of the data key, which the envelopes beside it repeat
     "keys":"VkYu…",                the encrypted keys exactly as the Vault returned them
     "context":{"organization_id":"org_1"},     the key context they were made for
     "row":{"organization_id":"7"},             the row's own columns that the context started from, as text or null
     "proof":"…"}                   base64 of HMAC-SHA256(data key, proof message)

The proof message is the UTF-8 text of ``["vault_fields proof",2,vault,id,keys,context,row]`` in the same compact JSON:
all that the companion says. It binds the data key to its tenant, and commits to the key, which AES-GCM alone does not.
It is not part of the values' associated data, so that a rekey rewrites this column and no other.

Nothing that a companion says may be acted on before its proof was verified, except to ask the Vault for its data key.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from vault_fields.exceptions import EnvelopeError, KeyContextError
from vault_fields.keys import MAX_ITEMS, MAX_NAME_LENGTH, DataKey, KeyContext
from vault_fields.stored import cipher
from vault_fields.stored.envelope import decode_base64, encode_base64, is_key_id

__all__ = [
    "MAX_ENCRYPTED_KEYS_LENGTH",
    "PROOF_BYTES",
    "Companion",
    "decode",
    "encode",
    "proof_message",
    "proven",
    "verify",
]

VERSION = 2
PROOF_BYTES = 32
MAX_ENCRYPTED_KEYS_LENGTH = 64 * 1024

_MEMBERS = ("v", "vault", "id", "keys", "context", "row", "proof")
_MAX_ALIAS_LENGTH = 200
_MAX_ROW_TEXT_LENGTH = 4096
# The largest text that `encode` makes of parts within their limits, escapes included, is well below this.
_MAX_LENGTH = 512 * 1024


@dataclass(frozen=True, slots=True)
class Companion:
    """The decoded companion of one or more values. Holds no secret."""

    vault: str
    key_id: str
    encrypted_keys: str
    context: KeyContext
    row: Mapping[str, str | None]
    proof: bytes = b""


def encode(companion: Companion) -> str:
    """Return the one text for this companion."""
    return _compact(
        {
            "v": VERSION,
            "vault": companion.vault,
            "id": companion.key_id,
            "keys": companion.encrypted_keys,
            "context": dict(companion.context),
            "row": _sorted(companion.row),
            "proof": encode_base64(companion.proof),
        }
    )


def proof_message(companion: Companion) -> bytes:
    """Return the message that the proof authenticates: everything that the companion says."""
    said = [
        companion.vault,
        companion.key_id,
        companion.encrypted_keys,
        dict(companion.context),
        _sorted(companion.row),
    ]
    return _compact(["vault_fields proof", VERSION, *said]).encode()


def proven(companion: Companion, key: DataKey) -> Companion:
    """Return the companion with the proof that a holder of ``key``, its data key, wrote it."""
    return replace(companion, proof=cipher.prove(key, proof_message(companion)))


def verify(companion: Companion, key: DataKey) -> None:
    """Raise ``DecryptionError`` unless a holder of ``key`` wrote the companion as it stands."""
    cipher.verify_proof(key, proof_message(companion), companion.proof)


# Rows that were written together share their companion's text, and a page is read more than once. The size is that of
# a vault's key cache by default: a companion whose key is cached is not parsed again.
@lru_cache(maxsize=10_000)
def decode(text: str) -> Companion:
    """Return the companion in a stored text. Raises ``EnvelopeError``."""
    if len(text) > _MAX_LENGTH:
        raise EnvelopeError("the companion is longer than any that is written.")
    try:
        text.encode()  # A lone surrogate has no bytes to authenticate.
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise EnvelopeError("the companion is not JSON: it is truncated or altered.") from None
    if isinstance(members, dict) and members.get("v") == 1:
        raise EnvelopeError(
            'the companion was written by a development version of vault_fields ("v":1), for no release.'
        )
    if not isinstance(members, dict) or members.get("v") != VERSION:
        raise EnvelopeError("the companion has a version that this release of vault_fields does not know.")
    companion = _checked(members)
    # One text for one companion: nothing can be added, repeated or respelled unseen.
    if companion is None or encode(companion) != text:
        raise EnvelopeError("the companion is malformed or altered.")
    return companion


def _checked(members: dict[str, Any]) -> Companion | None:
    if tuple(members) != _MEMBERS:
        return None
    vault, key_id, encrypted_keys, context, row, proof = (members[name] for name in _MEMBERS[1:])
    strings = (vault, key_id, encrypted_keys, proof)
    if not all(isinstance(part, str) for part in strings) or not isinstance(row, dict):
        return None
    if len(vault) > _MAX_ALIAS_LENGTH or not is_key_id(key_id) or len(encrypted_keys) > MAX_ENCRYPTED_KEYS_LENGTH:
        return None
    if len(row) > MAX_ITEMS or not all(map(_is_row_name, row)) or not all(map(_is_row_text, row.values())):
        return None
    proof_bytes = decode_base64(proof)
    if proof_bytes is None or len(proof_bytes) != PROOF_BYTES:
        return None
    try:
        shared = _shared_context(KeyContext(context))
        return Companion(vault, key_id, encrypted_keys, shared, _shared_row(tuple(row.items())), proof_bytes)
    except KeyContextError:
        return None


# Many rows are those of few tenants, whose companions say the same about them.
@lru_cache(maxsize=1000)
def _shared_context(context: KeyContext) -> KeyContext:
    return context


@lru_cache(maxsize=1000)
def _shared_row(items: tuple[tuple[str, str | None], ...]) -> Mapping[str, str | None]:
    return MappingProxyType(dict(items))


def _is_row_name(name: str) -> bool:
    return 1 <= len(name) <= MAX_NAME_LENGTH


def _is_row_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= _MAX_ROW_TEXT_LENGTH)


def _sorted(row: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: row[name] for name in sorted(row)}


# json.dumps() would make a new encoder for each call.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
