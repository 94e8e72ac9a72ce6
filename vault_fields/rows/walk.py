"""
A walk through a table in batches, as it is stored, that writes only rows that nobody else has written to meanwhile.

Rows are read without a lock, so that the Vault is never waited for while one is held. ``write`` then locks the rows of
the batch, reads them again, compares in Python - byte for byte, whatever the collation of the columns - and writes
those that are unchanged. See ``docs/decisions/0010-compare-under-a-row-lock.md``.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from django.db import transaction

from vault_fields.exceptions import DecryptionError, KeyContextError, KeyUnavailable, ValueRefused, VaultRefused
from vault_fields.fields.groups import Group
from vault_fields.rows.contention import repeated
from vault_fields.rows.row import Row, Shape
from vault_fields.rows.update import update
from vault_fields.runtime.frames import forgetful

__all__ = ["BATCH_SIZE", "ROW_ERRORS", "Change", "StoredRows"]

# How many rows are read, sealed and written together: in memory at a time, and locked for as long as the writing takes.
BATCH_SIZE = 1000

# The errors that concern one row, and say nothing about the others.
ROW_ERRORS = (DecryptionError, KeyContextError, KeyUnavailable, ValueRefused, VaultRefused)

Change = tuple[Row, Sequence[Any]]


class StoredRows:
    """
    All rows of the table of a group, in the order of its primary key. No manager hides any.

    It reads, and compares before anything is written, the columns of the group and those that ``besides`` names.
    """

    def __init__(self, group: Group, using: str, besides: Iterable[str] = ()) -> None:
        self.group = group
        self.using = using
        self._shape = Shape(group, using, besides)
        self._columns = self._shape.columns

    def as_stored(self, row: Row) -> dict[str, Any]:
        """Return the columns of a row by name, as they were read, whatever happened to its instance."""
        return dict(self._columns.row(row.stored))

    def count(self) -> int:
        return self._columns.queryset.count()

    def batches(self, size: int) -> Iterator[list[Row]]:
        """Yield each row that stays in the table meanwhile, once; ``size`` of them in memory at a time."""
        queryset: Any = self._columns.queryset[:size]
        while batch := repeated(self.using, partial(self._read, queryset)):
            yield batch
            queryset = self._columns.queryset.filter(pk__gt=batch[-1].pk)[:size]

    @forgetful
    def write(self, names: Sequence[str], changes: Sequence[Change]) -> tuple[int, list[Row]]:
        """
        Write the columns ``names`` of the rows that are still as they were read.

        Returns how many were written, and the others as they are now, without those that were deleted. One
        transaction; part of the one that is open, if there is one. One of its own is repeated if the database breaks it
        off because of other writers. Raises ``DatabaseBusy`` if that does not help.
        """
        return repeated(self.using, partial(self._write, names, changes)) if changes else (0, [])

    @forgetful
    def _write(self, names: Sequence[str], changes: Sequence[Change]) -> tuple[int, list[Row]]:
        # No savepoint: an error ends the operation, and thousands of savepoints cost a PostgreSQL server dearly.
        with transaction.atomic(self.using, savepoint=False):
            pk = self._shape.pk
            now = {pk(stored): stored for stored in self._columns.lock([row.pk for row, _ in changes])}
            same = [change for change in changes if now.get(change[0].pk) == change[0].stored]
            self._update(names, same)
        for row, _ in same:
            del now[row.pk]
        return len(same), [Row(self._shape, stored) for stored in now.values()]

    def _read(self, queryset: Any) -> list[Row]:
        return [Row(self._shape, stored) for stored in self._columns.read(queryset)]

    @forgetful
    def _update(self, names: Sequence[str], changes: Sequence[Change]) -> None:
        if changes:  # None, if all of them were written to meanwhile.
            update(self.group.model, self.using, names, [(row.pk, values) for row, values in changes])
