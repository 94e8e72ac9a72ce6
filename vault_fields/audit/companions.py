"""
The claims that companions make: which values, or which index key, are under a data key that is wrapped for a context.

Anyone who can write to the table can edit a companion, and only its data key proves it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.datakeys.cache import KeyCache, Term
from vault_fields.embedded.blob import EncryptedKeys, MalformedBlob
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import DecryptionError, EnvelopeError, KeyRevoked, VaultRefused
from vault_fields.fields.indexkeys import require_index_key
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.opening import require_open
from vault_fields.keys import DataKey
from vault_fields.rows.row import Row
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion

__all__ = [
    "Answers",
    "Claim",
    "IndexKeyClaim",
    "Proofs",
    "RowClaim",
    "Standing",
    "StoredKeys",
    "companion_in",
    "hangs_on",
    "keys_of_item",
]

# How many answers are remembered for the other values under the same data key.
MAX_REMEMBERED = 10_000

T = TypeVar("T")


class Claim(Protocol):
    """A stored claim: ``values`` values are under a data key that is wrapped for a key context."""

    @property
    def values(self) -> int: ...

    @property
    def encrypted_keys(self) -> str: ...

    @property
    def context(self) -> Mapping[str, str]: ...

    def is_proven(self, key: DataKey) -> bool:
        """Whether a holder of ``key``, its data key, made the claim."""

    def opening(self, key: DataKey) -> int:
        """Return how many of the values open with ``key``, for which the claim is proven."""


def _is_proven(companion: Companion, key: DataKey) -> bool:
    try:
        companion_format.verify(companion, key)
    except DecryptionError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class RowClaim:
    """A companion, with the values of its row."""

    companion: Companion
    row: Row
    members: tuple[Encrypted, ...]

    @property
    def values(self) -> int:
        return len(self.members)

    @property
    def encrypted_keys(self) -> str:
        return self.companion.encrypted_keys

    @property
    def context(self) -> Mapping[str, str]:
        return self.companion.context

    def is_proven(self, key: DataKey) -> bool:
        return _is_proven(self.companion, key)

    def opening(self, key: DataKey) -> int:
        return sum(self._opens(member, key) for member in self.members)

    def _opens(self, member: Encrypted, key: DataKey) -> bool:
        try:
            require_open(member, self.row.instance.__dict__[member.attname], self.row.instance, key)
        except DecryptionError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class IndexKeyClaim:
    """The companion of an index key, which counts as one value: it opens if it is the key of its row's context."""

    companion: Companion
    context_hash: str
    generation: int

    @property
    def values(self) -> int:
        return 1

    @property
    def encrypted_keys(self) -> str:
        return self.companion.encrypted_keys

    @property
    def context(self) -> Mapping[str, str]:
        return self.companion.context

    def is_proven(self, key: DataKey) -> bool:
        return _is_proven(self.companion, key)

    def opening(self, key: DataKey) -> int:
        try:
            require_index_key(self.companion, self.context_hash, self.generation)
        except EnvelopeError:
            return 0
        return 1


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """
    The number of encrypted values in a row, and its claim about them; None if its companion cannot be read.

    ``hashes`` and ``global_hashes`` are the numbers of its hashes, under index keys of its context and of all rows.
    """

    label: str
    pk: object
    values: int
    claim: RowClaim | IndexKeyClaim | None
    hashes: int = 0
    global_hashes: int = 0


class Standing(Enum):
    PROVEN = "its data key has proved it"
    UNVERIFIED = "a key of it is refused, or is a customer's, who would have to be asked"
    FALSE = "it does not belong to its data key, or that does not open"


class Answers(Generic[T]):
    """
    The answers of ``ask`` about encrypted keys, remembered for other values under the same data key. For one thread.

    They are remembered no longer than ``cache`` keeps a data key. An answer that ``ask`` has from that cache is not
    remembered here.
    """

    def __init__(self, cache: KeyCache, ask: Callable[[str], T], *, from_cache: bool = False) -> None:
        self._cache = cache
        self._ask = ask
        self._from_cache = from_cache
        self._found: dict[str, T] = {}
        self._term = Term(cache)

    def __getitem__(self, encrypted_keys: str) -> T:
        if self._term.is_over or len(self._found) >= MAX_REMEMBERED:
            self._found.clear()
            self._term = Term(self._cache)
        if encrypted_keys in self._found:
            return self._found[encrypted_keys]
        answer = self._ask(encrypted_keys)
        if not self._from_cache or self._cache.get(encrypted_keys) is None:
            self._found[encrypted_keys] = answer
        return answer


class Proofs:
    """
    A judge of claims, as far as a vault can tell without asking a customer's provider.

    Costs one unwrapping for each distinct data key, past all caches and without an event. For one thread.
    """

    def __init__(self, vault: EmbeddedBackend, service: EmbeddedVault) -> None:
        self._service = service
        self._answers = Answers(vault.cache, self._ask)

    def of(self, claim: Claim) -> Standing:
        found = self._answers[claim.encrypted_keys]
        if isinstance(found, Standing):
            return found
        return Standing.PROVEN if claim.is_proven(found) else Standing.FALSE

    def _ask(self, encrypted_keys: str) -> DataKey | Standing:
        if self._service.customer_keys_of(encrypted_keys):
            return Standing.UNVERIFIED
        try:
            return self._service.open_data_key(encrypted_keys)
        except KeyRevoked:
            return Standing.UNVERIFIED
        except VaultRefused:
            return Standing.FALSE


def keys_of_item(service: EmbeddedVault, name: str, value: str) -> frozenset[bytes]:
    """Return the ids of all keys that the item has or had: of its KEK, and of customers' keys, deleted ones too."""
    kek = service.keks.find(name, value)
    customers = (key.id.bytes for key in service.byok.all() if (key.item_name, key.item_value) == (name, value))
    return frozenset([*customers, *([kek.id.bytes] if kek else [])])


def hangs_on(encrypted_keys: str, ids: frozenset[bytes]) -> bool:
    """Whether a copy of the data key is under one of these keys, whatever is claimed about it."""
    try:
        return any(copy.kek_id in ids for copy in EncryptedKeys.decode(encrypted_keys).copies)
    except MalformedBlob:
        return False


def companion_in(text: str | None) -> Companion | None:
    """Return the companion that a text is, or None."""
    try:
        return companion_format.decode(text or "")
    except EnvelopeError:
        return None
