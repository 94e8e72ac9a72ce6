"""
Columns whose type changes as they become encrypted ones, or plain ones again: dates, numbers, identifiers, bytes.

A database would cast them in a way of its own, and not always exactly. Here a second column gets each value as Python
has it, in the other type; both are compared row by row; and only then does the second one take the place of the first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from django.db import transaction
from django.db.backends.utils import truncate_name
from django.db.models import QuerySet, TextField

from vault_fields.exceptions import DecryptionError, MigrationRefused
from vault_fields.fields.barerows import Bare
from vault_fields.fields.conversion import is_retyped
from vault_fields.fields.encoding import encode
from vault_fields.fields.interface import Encrypted
from vault_fields.rows.presence import has_column
from vault_fields.rows.update import update
from vault_fields.rows.walk import BATCH_SIZE
from vault_fields.runtime.frames import forgetful
from vault_fields.text.counting import counted

__all__ = ["alter_type"]

# The number of rows that a message names.
MAX_SHOWN = 20

# Options of a plain column that its stand-in is made without.
_BARE = {"unique", "db_index", "default", "db_default", "db_column", "db_comment", "primary_key", "auto_now"}
_BARE |= {"auto_now_add", "unique_for_date", "unique_for_month", "unique_for_year", "choices", "validators"}

_Original = Callable[..., Any]


def alter_type(
    original: _Original, operation: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    """
    Run an ``AlterField``. If the column has values, and another type from now on, every value is carried over.

    Raises ``MigrationRefused`` for values that the other type does not have exactly; nothing is changed then.
    """
    connection = schema_editor.connection
    model = from_state.apps.get_model(app_label, operation.model_name)
    old = model._meta.get_field(operation.name)
    new = to_state.apps.get_model(app_label, operation.model_name)._meta.get_field(operation.name)
    if not is_retyped(old, new) or not operation.allow_migrate_model(connection.alias, model):
        return original(operation, app_label, schema_editor, from_state, to_state)
    if schema_editor.collect_sql:
        schema_editor.collected_sql.append(f"-- The values of {old.column} are carried over by Python, row by row.")
        return original(operation, app_label, schema_editor, from_state, to_state)
    # Not by a manager, which may leave rows out.
    rows: Any = QuerySet(model, using=connection.alias)
    if not rows.filter(**{f"{old.name}__isnull": False}).exists():
        return original(operation, app_label, schema_editor, from_state, to_state)
    stand_in = _StandIn(operation, app_label, schema_editor, from_state, to_state)
    if stand_in.has_taken_place():
        return original(operation, app_label, schema_editor, from_state, to_state)
    with transaction.atomic(connection.alias) if connection.features.can_rollback_ddl else nullcontext():
        stand_in.add()
        with _locked(connection, stand_in.table):
            stand_in.fill()
            stand_in.compare()
            stand_in.take_place()
        return stand_in.run(original)


class _StandIn:
    """A second column, with the values of the first in the other type."""

    def __init__(self, operation: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self.operation = operation
        self.app_label = app_label
        self.editor = schema_editor
        self.connection = schema_editor.connection
        self.old = _field(from_state, app_label, operation)
        self.new = _field(to_state, app_label, operation)
        length = self.connection.ops.max_name_length()
        self.name = truncate_name(f"vault_fields_{self.old.name}", length)
        # Without it and with it.
        self.states = (from_state, to_state)
        self.from_state, self.to_state = self._with_it(from_state), self._with_it(to_state)
        self.model = self.from_state.apps.get_model(app_label, operation.model_name)
        self.field = self.model._meta.get_field(self.name)
        self._label = f"{self.model._meta.label}.{self.old.name}"
        self._encrypts = isinstance(self.new, Encrypted)
        self._encrypted: Encrypted = self.new if self._encrypts else self.old
        # The column as it is, in a query: an encrypted one holds text in the clear by now.
        self._first = self.old.name if self._encrypts else Bare(self.old.attname)

    def _with_it(self, state: Any) -> Any:
        state = state.clone()
        state.add_field(self.app_label, self.operation.model_name.lower(), self.name, _bare(self.new), True)
        return state

    def add(self) -> None:
        if has_column(self.connection, self.table, self.field.column):
            # Of a run that was interrupted where the database does not take changes of the schema back.
            self.remove()
        self.editor.add_field(self.model, self.field)
        if self.connection.vendor == "mysql":
            table, column, own = self._names
            self.editor.execute(f"ALTER TABLE {table} MODIFY COLUMN {own} {self._type} NULL AFTER {column}")

    def remove(self) -> None:
        table, _, own = self._names
        self.editor.execute(f"ALTER TABLE {table} DROP COLUMN {own}")

    @forgetful
    def fill(self) -> None:
        """Write the values into it. Raises ``MigrationRefused`` for those that the other type does not have."""
        refused: list[Any] = []
        for rows in self._rows(self._first):
            changes = []
            for pk, value in rows:
                try:
                    changes.append((pk, [None if value is None else self._converted(value)]))
                except (DecryptionError, ArithmeticError, TypeError, ValueError):
                    refused.append(pk)
            if not refused:
                # A commit for each batch, not for each row.
                with transaction.atomic(self.connection.alias, savepoint=False):
                    update(self.model, self.connection.alias, [self.name], changes)
        self._require_none(refused)

    @forgetful
    def compare(self) -> None:
        """Raise ``MigrationRefused`` unless both columns have the same values."""
        batches = self._rows(self._first, self.name)
        self._require_none([pk for rows in batches for pk, *values in rows if not self._are_same(*values)])

    def has_taken_place(self) -> bool:
        """Whether a run exchanged the columns and was interrupted then, where nothing takes the exchange back."""
        if self.connection.vendor != "mysql":
            return False
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT DATA_TYPE FROM information_schema.COLUMNS "
                "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s AND COLUMN_NAME = %s",
                [self.table, self.old.column],
            )
            (kind,) = cursor.fetchone()
        return (kind == "longtext") is self._encrypts

    def take_place(self) -> None:
        """Give the column the type and the values of this one, which is gone then. SQLite does that afterwards."""
        table, column, own = self._names
        if self.connection.vendor == "postgresql":
            change = f"ALTER COLUMN {column} TYPE {self._type} USING {own}"
            self.editor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT, {change}")
            self.remove()
        elif self.connection.vendor == "mysql":
            # MODIFY takes no values of another column, and bytes are no text to it.
            change = f"CHANGE COLUMN {own} {column} {self._type} NULL"
            self.editor.execute(f"ALTER TABLE {table} DROP COLUMN {column}, {change}")

    def run(self, original: _Original) -> Any:
        """Run the ``AlterField``, which finds the column as it is to be, or makes it so."""
        operation, app_label, editor = self.operation, self.app_label, self.editor
        if self.connection.vendor != "sqlite":
            return original(operation, app_label, editor, *self.states)
        # The table is made anew, and its values with whatever SQLite makes of them: the right ones follow.
        result = original(operation, app_label, editor, self.from_state, self.to_state)
        table, _, own = self._names
        column = self.connection.ops.quote_name(self.new.column)
        editor.execute(f"UPDATE {table} SET {column} = {own}")  # noqa: S608
        model = self.to_state.apps.get_model(app_label, operation.model_name)
        editor.remove_field(model, model._meta.get_field(self.name))
        return result

    @property
    def table(self) -> str:
        name: str = self.model._meta.db_table
        return name

    @property
    def _names(self) -> tuple[str, str, str]:
        """The table, the column and its stand-in, as they stand in SQL."""
        quote = self.connection.ops.quote_name
        return quote(self.table), quote(self.old.column), quote(self.field.column)

    @property
    def _type(self) -> str:
        kind: str = self.field.db_type(self.connection)
        return kind

    def _are_same(self, first: Any, second: Any) -> bool:
        plain, text = (first, second) if self._encrypts else (second, first)
        if plain is None or text is None:
            return plain is text
        try:
            value = self._encrypted.from_plaintext(text)
        except DecryptionError:
            return False
        plain = _bytes(plain)
        if isinstance(plain, str) and self.connection.vendor == "postgresql":
            # Its addresses have no spelling: it shows some with dots that Python shows without.
            return bool(encode(self._encrypted, plain) == text)
        return type(plain) is type(value) and bool(plain == value)

    def _converted(self, value: Any) -> Any:
        if self._encrypts:
            return encode(self._encrypted, _bytes(value))
        return self.field.get_db_prep_save(self._encrypted.from_plaintext(value), self.connection)

    def _rows(self, *columns: Any) -> Iterator[list[tuple[Any, ...]]]:
        queryset: Any = QuerySet(self.model, using=self.connection.alias).order_by("pk")
        page = queryset
        while rows := list(page.values_list("pk", *columns)[:BATCH_SIZE]):
            yield rows
            page = queryset.filter(pk__gt=rows[-1][0])

    def _require_none(self, pks: Sequence[Any]) -> None:
        if pks:
            shown = ", ".join(map(repr, pks[:MAX_SHOWN])) + (" …" if len(pks) > MAX_SHOWN else "")
            if not self.connection.features.can_rollback_ddl:
                self.remove()
            raise MigrationRefused(
                f"{self._label}: {counted(len(pks), 'row holds', 'rows hold')} a value that a "
                f"{type(self.new).__name__} does not have exactly (pk={shown}). Nothing was changed: change these "
                "values first."
            )


def _bytes(value: Any) -> Any:
    """Return a value that a driver may give as another class than the field has."""
    return bytes(value) if isinstance(value, memoryview) else value


def _field(state: Any, app_label: str, operation: Any) -> Any:
    return state.apps.get_model(app_label, operation.model_name)._meta.get_field(operation.name)


def _bare(field: Any) -> Any:
    """Return a column of the type of a field, without what the model or the database makes of it."""
    if isinstance(field, Encrypted):
        return TextField(null=True)
    _, _, arguments, options = field.deconstruct()
    kept = {name: value for name, value in options.items() if name not in _BARE}
    return type(field)(*arguments, **{**kept, "null": True})


@contextmanager
def _locked(connection: Any, table: str) -> Iterator[None]:
    """Keep everybody else from writing to the table, so that no value is left behind. SQLite has one writer anyway."""
    table = connection.ops.quote_name(table)
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLES {table} WRITE")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("UNLOCK TABLES")
        return
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    yield
