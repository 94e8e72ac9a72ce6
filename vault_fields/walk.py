"""
Walks a table in batches, as it is stored, and writes to the rows that nobody else has written to meanwhile.

Rows are read without a lock, so that the Vault is never waited for while one is held. ``write`` then locks the rows
of the batch, reads them again, compares in Python - byte for byte, whatever the collation of the columns - and writes
those that are unchanged. See ``docs/decisions/0010-compare-under-a-row-lock.md``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction
from django.db.models import F, Field, Model, QuerySet, TextField
from django.db.models.expressions import Col
from django.views.decorators.debug import sensitive_variables

from vault_fields import envelope as envelope_format
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.groups import Group
from vault_fields.fields.sealed import Batch, Sealed

__all__ = ["Change", "Row", "StoredRows", "open_together"]

Change = tuple["Row", Sequence[str | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A row with the columns of one group, and those that decide its key context; all others are deferred."""

    instance: Model
    group: Group
    stored: tuple[Any, ...]

    @property
    def companion(self) -> str | None:
        """The companion's text."""
        text: str | None = self.instance.__dict__[self.group.companion]
        return text

    def text(self, member: EncryptedField) -> str | None:
        """The text in the column of ``member``: an envelope, plaintext or nothing."""
        held = self.instance.__dict__[member.attname]
        return held.text if isinstance(held, Sealed) else None

    def envelope(self, member: EncryptedField) -> Sealed | None:
        """The value of ``member``, if it is encrypted."""
        held = self.instance.__dict__[member.attname]
        return held if isinstance(held, Sealed) and envelope_format.is_envelope(held.text) else None


def open_together(rows: Sequence[Row]) -> None:
    """Let whichever value of these rows is opened first ask for the data keys of all of them."""
    batch = Batch([row.companion for row in rows], hold=True)
    for row in rows:
        for member in row.group.members:
            if (sealed := row.envelope(member)) is not None:
                sealed.batch = batch


class StoredRows:
    """All rows of the table that a group stands in, in the order of its primary key. No manager hides any."""

    def __init__(self, group: Group, using: str) -> None:
        self.group = group
        self.using = using
        meta = group.model._meta
        bound = [binding for member in group.members for binding in group.bound_columns(member)]
        names = {group.companion, *(field.attname for field in meta.pk_fields)}
        names |= {member.attname for member in group.members} | {binding.attname for binding in bound}
        # In the order in which ``from_db`` takes them.
        self._columns = [field for field in meta.concrete_fields if field.attname in names]
        self._queryset: QuerySet[Model] = QuerySet(group.model, using=using).order_by("pk")

    def count(self) -> int:
        return self._queryset.count()

    def batches(self, size: int) -> Iterator[list[Row]]:
        """Each row that stays in the table meanwhile, once; ``size`` of them in memory at a time."""
        batch = self._read(self._queryset[:size])
        while batch:
            yield batch
            batch = self._read(self._queryset.filter(pk__gt=batch[-1].instance.pk)[:size])

    @sensitive_variables()
    def write(self, names: Sequence[str], changes: Sequence[Change]) -> tuple[int, list[Row]]:
        """
        Write the columns ``names`` of the rows that are still as they were read.

        Returns how many were written, and the others as they are now, without those that were deleted. One
        transaction; part of the one that is open, if there is one.
        """
        if not changes:
            return 0, []
        # No savepoint: an error ends the operation, and thousands of savepoints cost a PostgreSQL server dearly.
        with transaction.atomic(self.using, savepoint=False):
            self._forbid_writes()
            now = {row.instance.pk: row for row in self._lock([row.instance.pk for row, _ in changes])}
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
        columns = [_Stored(field.attname) if _is_encrypted(field) else field.attname for field in self._columns]
        return [self._row(values) for values in queryset.values_list(*columns)]

    def _row(self, stored: tuple[Any, ...]) -> Row:
        attnames = [field.attname for field in self._columns]
        values = dict(zip(attnames, stored, strict=True))
        keys = values[self.group.companion] or ""
        for member in self.group.members:
            if (text := values[member.attname]) is not None:
                bound = tuple([values[binding.attname] for binding in self.group.bound_columns(member)])
                values[member.attname] = Sealed(text, keys, bound, loaded=True)
        return Row(self.group.model.from_db(self.using, attnames, list(values.values())), self.group, stored)

    def _forbid_writes(self) -> None:
        """Where rows cannot be locked, as in SQLite, take the lock of the whole database, for which one can wait."""
        connection = connections[self.using]
        if not connection.features.has_select_for_update:
            # A transaction that began by reading could be refused its first write instead, if somebody wrote since.
            companion = self.group.model._meta.get_field(self.group.companion)
            with connection.cursor() as cursor:
                cursor.execute(self._sql([companion], "1 = 0"), [None])

    def _lock(self, pks: Sequence[Any]) -> Iterator[Row]:
        # Where the database limits parameters, a composite key takes several each.
        limit = connections[self.using].features.max_query_params or len(pks)
        size = max(limit // len(self.group.model._meta.pk_fields), 1)
        for start in range(0, len(pks), size):
            yield from self._read(self._queryset.filter(pk__in=pks[start : start + size]).select_for_update())

    @sensitive_variables()
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


class _Stored(F):
    """The bare text of an encrypted column, which queries otherwise refuse or open."""

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
        column: Any = super().resolve_expression(*args, **kwargs)
        text = TextField(name=column.target.name, db_column=column.target.column)
        text.set_attributes_from_name(column.target.name)
        text.model = column.target.model
        return Col(column.alias, text)


def _is_encrypted(field: "Field[Any, Any]") -> bool:
    return isinstance(field, EncryptedField)
