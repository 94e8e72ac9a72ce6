"""
Companions that have proved to belong to a data key that a cache still holds: they need not be parsed and verified
again.

A proof is found by the whole text of the companion, so that another text proves nothing. It is worth as much as the
key: ``KeyCache`` takes the key out of the proof when it drops it, because it expired, was purged or had to make room,
and in a forked child. A proof without its key is only the companion's own claim.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import islice

from vault_fields.datakeys.cache import HeldKey, KeyCache
from vault_fields.keys import DataKey
from vault_fields.stored import envelope as envelope_format
from vault_fields.stored.companion import Companion
from vault_fields.vaults import vaults

__all__ = ["LEAST_ROOM", "LONGEST_TEXT", "Proof", "is_proven", "known_proof", "names_of", "note_proof"]

# As many proofs as the vault's cache has keys, and at least these; longer companions are verified each time. So the
# memory that texts take is bounded: about 4 MB in practice, and at most LEAST_ROOM * LONGEST_TEXT.
LEAST_ROOM = 10_000
LONGEST_TEXT = 2048

# Names of the columns of rows, each tuple once, so that it is compared by identity.
_names: dict[tuple[str, ...], tuple[str, ...]] = {}

_proofs: dict[str, "Proof"] = {}

# The proof of a companion's text, fresh or not, or None.
known_proof = _proofs.get


class Proof:
    """The content of a companion that can be relied on for as long as ``cache.is_fresh(held)``."""

    __slots__ = ("cache", "context", "encrypted_keys", "held", "names", "prefix", "texts")

    def __init__(self, companion: Companion, held: HeldKey, cache: KeyCache) -> None:
        self.held = held
        self.cache = cache
        self.encrypted_keys = companion.encrypted_keys
        self.context: Mapping[str, str] = companion.context
        # The beginning of the envelopes beside it.
        self.prefix = envelope_format.prefix(companion.key_id)
        # The columns of the row, by name, in the order of the format.
        self.names = names_of(companion.row)
        self.texts = _shared(tuple(companion.row.values()))


@lru_cache(maxsize=1000)
def _shared(texts: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Return the same texts in one object: many rows belong to few tenants."""
    return texts


def names_of(row: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the names of a row's columns: the same object for the same names."""
    names = tuple(row)
    return _names.setdefault(names, names)


def is_proven(text: str, key: DataKey) -> bool:
    """Whether this companion has proved to belong to this very key, which a cache holds."""
    proof = known_proof(text)
    return proof is not None and proof.held.key is key


def note_proof(text: str, companion: Companion, key: DataKey) -> None:
    """Remember that a companion was verified, if its key is held in the cache of its vault."""
    cache = vaults.opener(companion.vault).cache
    cache.confirm(companion.encrypted_keys, companion.context)
    held = cache.held(companion.encrypted_keys)
    if held is None or held.key is not key or len(text) > LONGEST_TEXT:
        return
    room = max(cache.max_keys, LEAST_ROOM)
    if len(_proofs) >= room:
        # Many at once: to find the first one that a dict still has takes as long as many were taken from it.
        for oldest in list(islice(_proofs, room // 4)):
            _proofs.pop(oldest, None)
    _proofs[text] = Proof(companion, held, cache)
