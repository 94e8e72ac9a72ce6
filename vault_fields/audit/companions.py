"""
The encrypted keys that are stored: every companion of every encrypted field, read and not written.

A companion's content is a claim. Anyone who can write to the table can edit it, and only its data key proves it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from django.apps import apps
from django.db import connections, router
from django.db.models import Model, QuerySet

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.datakeys.cache import KeyCache, Term
from vault_fields.embedded.blob import EncryptedKeys, MalformedBlob
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import DecryptionError, EnvelopeError, KeyRevoked, VaultRefused
from vault_fields.fields.bindings import concrete_field
from vault_fields.fields.groups import Group, groups_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.opening import require_open
from vault_fields.keys import DataKey
from vault_fields.rows.presence import has_column
from vault_fields.rows.row import Row
from vault_fields.rows.walk import BATCH_SIZE, StoredRows
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion

__all__ = [
    "Answers",
    "Claim",
    "Proofs",
    "RowClaim",
    "Standing",
    "StoredKeys",
    "hangs_on",
    "in_environment",
    "keys_of_item",
    "stored_keys",
    "tables",
    "where_stored",
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
        try:
            companion_format.verify(self.companion, key)
        except DecryptionError:
            return False
        return True

    def opening(self, key: DataKey) -> int:
        return sum(self._opens(member, key) for member in self.members)

    def _opens(self, member: Encrypted, key: DataKey) -> bool:
        try:
            require_open(member, self.row.instance.__dict__[member.attname], self.row.instance, key)
        except DecryptionError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The number of encrypted values in a row, and its claim about them; None if its companion cannot be read."""

    label: str
    pk: object
    values: int
    claim: RowClaim | None


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


def in_environment(
    vault: EmbeddedBackend, environment: str | None, wanted: Iterable[tuple[str, Group]]
) -> tuple[EmbeddedVault, list[tuple[str, Group]]]:
    """
    Return the Vault of an environment, by default the backend's own, and those of the tables that have rows of it.

    Fields take their keys from the backend's own environment. Any other environment has only stored objects.
    """
    if environment in {None, vault.service.environment}:
        return vault.service, list(wanted)
    return vault.service.for_environment(environment), []


def tables(databases: Iterable[str] = ()) -> list[tuple[str, Group]]:
    """
    Return every table with encrypted columns in every database that may have it, by the routers; or in ``databases``
    alone.
    """
    return [
        (alias, group)
        for alias in (databases or connections)
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy and router.allow_migrate_model(alias, model)
        for group in groups_of(model)
    ]


@forgetful
def stored_keys(
    wanted: Iterable[tuple[str, Group]], *, batch_size: int = BATCH_SIZE, progress: Progress = silent
) -> Iterator[StoredKeys]:
    """Yield the rows of these tables that have an encrypted value. Costs no Vault call."""
    for alias, group in wanted:
        rows = StoredRows(group, alias)
        label = f"{group.model._meta.label}.{group.companion}"
        with progress(f"Reading {label}", rows.count) as advance:
            for batch in rows.batches(batch_size):
                for row in batch:
                    members = tuple(member for member in group.members if row.is_encrypted(member))
                    if members:
                        companion = _companion(row.companion)
                        claim = None if companion is None else RowClaim(companion, row, members)
                        yield StoredKeys(label, row.pk, len(members), claim)
                advance(len(batch))


@forgetful
def where_stored(vault: str) -> str | None:
    """
    Return the label of a companion column that holds keys of this vault, in any database; None if there is none.

    Tables and columns that no migration has created yet hold none.
    """
    for alias, group in tables():
        rows = QuerySet[Model](group.model, using=alias).exclude(**{group.companion: None})
        if not _is_made(alias, group):
            continue
        for text in rows.values_list(group.companion, flat=True).iterator(BATCH_SIZE):
            companion = _companion(text)
            if companion is not None and companion.vault == vault:
                return f"{group.model._meta.label}.{group.companion}"
    return None


def _is_made(alias: str, group: Group) -> bool:
    companion = concrete_field(group.model, group.companion)
    return has_column(connections[alias], companion.model._meta.db_table, str(companion.column))


def _companion(text: str | None) -> Companion | None:
    try:
        return companion_format.decode(text or "")
    except EnvelopeError:
        return None
