"""
The places where companions stand: the column beside encrypted fields, and the table of index keys, in each database.

Whatever has to know all keys that are stored walks the places, so that no kind of them is left out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from django.apps import apps
from django.db import connections, router
from django.db.models import Model, QuerySet

from vault_fields.audit.companions import IndexKeyClaim, RowClaim, StoredKeys, companion_in
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.fields.bindings import concrete_field
from vault_fields.fields.groups import Group, groups_of
from vault_fields.rows.indexkeyrows import IndexKeyRows
from vault_fields.rows.presence import has_column
from vault_fields.rows.row import Row
from vault_fields.rows.walk import BATCH_SIZE, StoredRows
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent

__all__ = ["IndexKeys", "Place", "Rows", "in_environment", "places", "stored_keys", "tables", "where_stored"]


class Place(Protocol):
    """A column with companions, in the database ``using``."""

    @property
    def using(self) -> str: ...

    @property
    def label(self) -> str:
        """``app_label.Model.column``."""

    def count(self) -> int: ...

    def batches(self, size: int) -> Iterator[list[StoredKeys | None]]:
        """Yield what stands there, at most ``size`` rows in memory at a time; None for a row without a key."""

    def texts(self) -> Iterable[str]:
        """Return the companions' texts, without more than they need; none where no migration has made the column."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The companions of a group of encrypted fields."""

    using: str
    group: Group

    @property
    def label(self) -> str:
        return f"{self.group.model._meta.label}.{self.group.companion}"

    def count(self) -> int:
        return StoredRows(self.group, self.using).count()

    def batches(self, size: int) -> Iterator[list[StoredKeys | None]]:
        for batch in StoredRows(self.group, self.using).batches(size):
            yield [self._stored(row) for row in batch]

    def texts(self) -> Iterable[str]:
        group = self.group
        column = concrete_field(group.model, group.companion)
        if not has_column(connections[self.using], column.model._meta.db_table, str(column.column)):
            return []
        rows = QuerySet[Model](group.model, using=self.using).exclude(**{group.companion: None})
        return rows.values_list(group.companion, flat=True).iterator(BATCH_SIZE)

    def _stored(self, row: Row) -> StoredKeys | None:
        members = tuple(member for member in self.group.members if row.is_encrypted(member))
        if not members:
            return None
        companion = companion_in(row.companion)
        claim = None if companion is None else RowClaim(companion, row, members)
        indexes = [each for member in members for each in self.group.indexes[member.name]]
        scopes = [index.scope for index in indexes if row.read(index.attname) is not None]
        return StoredKeys(self.label, row.pk, len(members), claim, scopes.count("context"), scopes.count("global"))


@dataclass(frozen=True, slots=True)
class IndexKeys:
    """The companions of the index keys of a database."""

    using: str
    label = "vault_fields.IndexKey.companion"

    def count(self) -> int:
        return IndexKeyRows(self.using).count()

    def batches(self, size: int) -> Iterator[list[StoredKeys | None]]:
        for batch in IndexKeyRows(self.using).batches(size):
            yield [self._stored(row) for row in batch]

    def texts(self) -> Iterable[str]:
        return (row.companion for batch in IndexKeyRows(self.using).batches(BATCH_SIZE) for row in batch)

    def _stored(self, row: Any) -> StoredKeys:
        companion = companion_in(row.companion)
        claim = None if companion is None else IndexKeyClaim(companion, row.context_hash, row.generation)
        return StoredKeys(self.label, row.pk, 1, claim)


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


def places(databases: Iterable[str] = ()) -> list[Place]:
    """Return every place where companions stand, in every database; or in ``databases`` alone. One query for each."""
    databases = list(databases or connections)
    keys = [IndexKeys(alias) for alias in databases if IndexKeyRows(alias).exist()]
    return [*(Rows(alias, group) for alias, group in tables(databases)), *keys]


@forgetful
def stored_keys(
    wanted: Iterable[Place], *, batch_size: int = BATCH_SIZE, progress: Progress = silent
) -> Iterator[StoredKeys]:
    """Yield what has an encrypted value, or an index key, at these places. Costs no Vault call."""
    for place in wanted:
        with progress(f"Reading {place.label}", place.count) as advance:
            for batch in place.batches(batch_size):
                yield from filter(None, batch)
                advance(len(batch))


@forgetful
def where_stored(vault: str) -> str | None:
    """
    Return the label of a column that holds keys of this vault, in any database; None if there is none.

    Tables and columns that no migration has created yet hold none.
    """
    for place in places():
        for text in place.texts():
            companion = companion_in(text)
            if companion is not None and companion.vault == vault:
                return place.label
    return None


def in_environment(
    vault: EmbeddedBackend, environment: str | None, wanted: Iterable[Place]
) -> tuple[EmbeddedVault, list[Place]]:
    """
    Return the Vault of an environment, by default the backend's own, and the places that have companions of it.

    Fields take their keys from the backend's own environment. Any other environment has only stored objects.
    """
    if environment in {None, vault.service.environment}:
        return vault.service, list(wanted)
    return vault.service.for_environment(environment), []
