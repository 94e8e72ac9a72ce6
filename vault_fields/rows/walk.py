"""
Walks a table in batches, as it is stored, and writes to the rows that nobody else has written to meanwhile.

Rows are read without a lock, so that the Vault is never waited for while one is held. ``write`` then locks the rows
of the batch, reads them again, compares in Python - byte for byte, whatever the collation of the columns - and writes
those that are unchanged. See ``docs/decisions/0010-compare-under-a-row-lock.md``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.db.models import Model

from vault_fields.exceptions import DecryptionError, KeyContextError, KeyUnavailable, ValueRefused, VaultRefused
from vault_fields.fields.groups import Group
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.sealed import Batch, Sealed, as_text
from vault_fields.fields.stored import StoredColumns
from vault_fields.rows.contention import repeated
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import envelope as envelope_format

__all__ = ["ROW_ERRORS", "Change", "Row", "StoredRows", "open_together"]

# What is wrong with one row, and says nothing of the others.
ROW_ERRORS = (DecryptionError, KeyContextError, KeyUnavailable, ValueRefused, VaultRefused)

Change = tuple["Row", Sequence[str | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A row with the columns of one group, and those that decide its key context; all others are deferred."""

    instance: Model
    group: Group
    stored: tuple[Any, ...]
    # The members whose envelopes stand in the column in another spelling; see ``EncryptedField.stored_text``.
    respelled: frozenset[str] = frozenset()

    @property
    def companion(self) -> str | None:
        """The companion's text."""
        text: str | None = self.instance.__dict__[self.group.companion]
        return text

    def text(self, member: Encrypted) -> str | None:
        """The text in the column of ``member``: an envelope, plaintext or nothing."""
        held = self.instance.__dict__[member.attname]
        return held.text if isinstance(held, Sealed) else None

    def envelope(self, member: Encrypted) -> Sealed | None:
        """The value of ``member``, if it is encrypted."""
        held = self.instance.__dict__[member.attname]
        return held if isinstance(held, Sealed) and envelope_format.is_envelope(held.text) else None


def open_together(rows: Sequence[Row]) -> None:
    """Let whichever value of these rows is opened first ask for the data keys of all of them."""
    batch = Batch([row.companion for row in rows], hold=True, goes_on=True)
    for row in rows:
        for member in row.group.members:
            if (sealed := row.envelope(member)) is not None:
                sealed.batch = batch


class StoredRows:
    """
    All rows of the table that a group stands in, in the order of its primary key. No manager hides any.

    Read, and compared before anything is written, are the columns of the group and those that ``besides`` names.
    """

    def __init__(self, group: Group, using: str, besides: Iterable[str] = ()) -> None:
        self.group = group
        self.using = using
        bound = [binding for member in group.members for binding in group.bound_columns(member)]
        names = {group.companion, *(member.attname for member in group.members), *(each.attname for each in bound)}
        names.update(besides)
        self._columns = StoredColumns(group.model, names, using)
        self._queryset = self._columns.queryset

    def as_stored(self, row: Row) -> dict[str, Any]:
        """The columns of a row by name, as they were read, whatever became of its instance."""
        return dict(zip(self._columns.attnames, row.stored, strict=True))

    def count(self) -> int:
        return self._queryset.count()

    def batches(self, size: int) -> Iterator[list[Row]]:
        """Each row that stays in the table meanwhile, once; ``size`` of them in memory at a time."""
        queryset = self._queryset[:size]
        while batch := repeated(self.using, partial(self._read, queryset)):
            yield batch
            queryset = self._queryset.filter(pk__gt=batch[-1].instance.pk)[:size]

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
            locked = self._columns.lock([row.instance.pk for row, _ in changes])
            now = {row.instance.pk: row for row in map(self._row, locked)}
            same = [
                (row, values)
                for row, values in changes
                if row.instance.pk in now and now[row.instance.pk].stored == row.stored
            ]
            self._update(names, same)
        for row, _ in same:
            del now[row.instance.pk]
        return len(same), list(now.values())

    def _read(self, queryset: Any) -> list[Row]:
        return list(map(self._row, self._columns.read(queryset)))

    def _row(self, stored: tuple[Any, ...]) -> Row:
        attnames = self._columns.attnames
        values = dict(zip(attnames, stored, strict=True))
        keys = values[self.group.companion] = as_text(values[self.group.companion])
        respelled = set()
        for member in self.group.members:
            if (column := as_text(values[member.attname])) is not None:
                text = member.stored_text(column)
                if text != column:
                    respelled.add(member.attname)
                bound = tuple([values[binding.attname] for binding in self.group.bound_columns(member)])
                values[member.attname] = Sealed(text, keys or "", bound, loaded=True)
        instance = self.group.model.from_db(self.using, attnames, list(values.values()))
        return Row(instance, self.group, stored, frozenset(respelled))

    @forgetful
    def _update(self, names: Sequence[str], changes: Sequence[Change]) -> None:
        if not changes:
            return  # All of them were written to meanwhile.
        meta = self.group.model._meta
        connection = connections[self.using]
        keys: Any = meta.pk_fields
        condition = " AND ".join(f"{connection.ops.quote_name(key.column)} = %s" for key in keys)
        parameters = []
        for row, values in changes:
            pk = (key.get_db_prep_value(getattr(row.instance, key.attname), connection) for key in keys)
            parameters.append([*values, *pk])
        # One statement, prepared once. bulk_update() would have the database search a CASE of the whole batch for
        # each row, in time that grows with its square.
        with connection.cursor() as cursor:
            cursor.executemany(self._sql([meta.get_field(name) for name in names], condition), parameters)

    def _sql(self, columns: Sequence[Any], condition: str) -> str:
        quote = connections[self.using].ops.quote_name
        assignments = ", ".join(f"{quote(column.column)} = %s" for column in columns)
        return f"UPDATE {quote(self.group.model._meta.db_table)} SET {assignments} WHERE {condition}"  # noqa: S608
