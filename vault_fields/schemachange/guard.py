"""
The guard refuses migrations that would leave encrypted values without what opens them, or in rows where they do not
open.

It wraps ``MigrationExecutor.migrate``, through which every migration of a database goes. That method knows the whole
plan, so the refusal comes before anything is changed, also on databases that cannot roll back changes of the schema.
The guard also wraps the operations that can do harm, for what a plan cannot tell: how many rows are still encrypted
when they are about to run. ``sqlmigrate`` and ``--fake`` change no column, and are not checked.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import DatabaseError
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import AddField, AlterField, RemoveField, SeparateDatabaseAndState

from vault_fields.exceptions import MigrationRefused
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.companion import CompanionField
from vault_fields.fields.conversion import holds_text, is_retyped, refuse_conversion, shares_texts
from vault_fields.patches import wrap
from vault_fields.rows.presence import has_column
from vault_fields.schemachange import refusals
from vault_fields.schemachange.comparing import differing_rows
from vault_fields.schemachange.decrypted import made_plain, made_plain_by_plan
from vault_fields.schemachange.dependencies import install_dependencies
from vault_fields.schemachange.effects import Effect, column_of, table_of, unrendered
from vault_fields.schemachange.losses import Loss, companion_name, losses
from vault_fields.schemachange.names import Column
from vault_fields.schemachange.plan import encrypted_columns, planned_effects, state_afterwards
from vault_fields.schemachange.resolved import (
    exchanged_companions,
    is_here,
    losses_on_purpose,
    unsettled_losses,
)
from vault_fields.schemachange.respelling import Respelling, left_to_others, respelled_by, respelled_by_plan
from vault_fields.schemachange.retyping import alter_type
from vault_fields.schemachange.rowcounts import encrypted_rows, has_values, longer_rows, rows_without_keys
from vault_fields.text.counting import counted

__all__ = ["install_guard"]

_MARK = "_vault_fields_guard"

# Losses that the running plan causes on purpose, together with the values: the ``id()`` of an operation, and a field.
_on_purpose: ContextVar[frozenset[tuple[int, str]]] = ContextVar("vault_fields_on_purpose", default=frozenset())


def install_guard() -> None:
    """Wrap Django's classes, each method once."""
    install_dependencies()
    wrap(MigrationExecutor, "migrate", _migrate, mark=_MARK)
    for cls, name, backwards in (
        (AlterField, "database_forwards", False),
        (RemoveField, "database_forwards", False),
        (AddField, "database_backwards", True),
    ):
        wrap(cls, name, functools.partial(_change_database, backwards=backwards), mark=_MARK)
    for name in ("database_forwards", "database_backwards"):
        wrap(SeparateDatabaseAndState, name, _change_state, mark=_MARK)


def _migrate(
    original: Callable[..., Any],
    self: Any,
    targets: Any,
    plan: Any = None,
    state: Any = None,
    fake: bool = False,
    fake_initial: bool = False,
) -> Any:
    if plan is None:
        plan = self.migration_plan(targets)
    if fake or not plan:
        return original(self, targets, plan, state, fake, fake_initial)
    if state is None:
        state = self._create_project_state(with_applied_migrations=True)
    with _judged(self, plan, state):
        return original(self, targets, plan, state, fake, fake_initial)


@contextmanager
def _judged(executor: Any, plan: Any, state: Any) -> Iterator[None]:
    """Refuse the plan, or allow its losses on purpose while it runs."""
    if not _concerns_us(plan, state):
        yield
        return
    migrations = planned_effects(executor, plan, state)
    afterwards = functools.cache(functools.partial(state_afterwards, executor, plan, state))
    with _answered("Nothing was migrated"):
        _require_sound(migrations, state, afterwards, executor.connection)
    token = _on_purpose.set(_on_purpose.get() | losses_on_purpose(migrations) | left_to_others(migrations))
    try:
        yield
    finally:
        _on_purpose.reset(token)


@contextmanager
def _answered(outcome: str) -> Iterator[None]:
    """Refuse the migration if the database cannot answer: that does not mean that there are no such rows."""
    try:
        yield
    except DatabaseError as error:
        raise MigrationRefused(
            f"{outcome}: the database did not tell whether rows hold values that would not open afterwards "
            f"({type(error).__name__}; --traceback shows its own message). The user that migrates must be able to "
            "read the tables with encrypted columns."
        ) from error


def _require_sound(
    migrations: Sequence[Sequence[Effect]], state: Any, afterwards: Callable[[], Any], connection: Any
) -> None:
    for label, old, new, table, column in encrypted_columns(migrations, connection.alias):
        if not holds_text(old, new, connection) and has_values(connection, table, column):
            refuse_conversion(label, old, new)
    refused: list[str] = []
    lost: set[Column] = set()
    for loss, table, column, companion, keys in unsettled_losses(migrations, connection.alias):
        if rows := _encrypted_rows(connection, table, column, companion, keys):
            refused.append(refusals.lost(loss, rows))
            lost.add((table, column))
    for label, table, column, companion in made_plain_by_plan(state, migrations, afterwards, connection.alias):
        if (table, column) not in lost and (rows := _rows_with_keys(connection, table, column, companion)):
            refused.append(refusals.read_as_stored(label, rows))
            lost.add((table, column))
    for label, table, column, companion, keys in exchanged_companions(migrations):
        if (table, column) in lost:
            continue
        if rows := _encrypted_rows(connection, table, column, companion, keys):
            refused.append(refusals.exchanged(label, rows))
    respelled = respelled_by_plan(unrendered(state), migrations, afterwards, connection.alias)
    refused += [
        refusals.respelled(found, rows)
        for found in respelled
        if found.place not in lost and (rows := _differing_rows(found, connection))
    ]
    if refused:
        raise MigrationRefused("\n".join(["Nothing was migrated.", *dict.fromkeys(refused)]))


def _concerns_us(plan: Any, state: Any) -> bool:
    """Whether something is encrypted, or the plan turns columns of existing tables into encrypted ones."""
    if any(
        isinstance(field, (CompanionField, EncryptedField))
        for model in state.models.values()
        for field in model.fields.values()
    ):
        return True
    labels = {app_label for app_label, _ in state.models}
    return any(
        isinstance(field, EncryptedField)
        for migration, _ in plan
        if migration.app_label in labels
        for operation in migration.operations
        for field in _fields_of(operation)
    )


def _fields_of(operation: Any) -> Iterator[Any]:
    if isinstance(operation, SeparateDatabaseAndState):
        for inner in operation.database_operations:
            yield from _fields_of(inner)
    elif isinstance(operation, AlterField):
        yield operation.field


def _change_database(
    original: Callable[..., Any],
    self: Any,
    app_label: str,
    schema_editor: Any,
    from_state: Any,
    to_state: Any,
    *,
    backwards: bool,
) -> Any:
    if not schema_editor.collect_sql:
        effect = Effect("", app_label, self, from_state, to_state, backwards)
        with _answered(f'"{self.describe()}" was not run'):
            _require_no_loss(effect, schema_editor.connection)
            if _makes_plain(effect):
                _require_read(from_state, to_state, schema_editor.connection)
            if isinstance(self, AlterField):
                _require_same_texts(effect, schema_editor.connection)
            if (id(self), "") not in _on_purpose.get():
                _require_no_respelling(effect, schema_editor.connection)
    if isinstance(self, AlterField):
        return alter_type(original, self, app_label, schema_editor, from_state, to_state)
    return original(self, app_label, schema_editor, from_state, to_state)


def _change_state(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    """Check after the state has changed. The database part may decrypt first, and is checked by itself."""
    result = original(self, app_label, schema_editor, from_state, to_state)
    if not schema_editor.collect_sql:
        with _answered(f'"{self.describe()}" does not count'):
            _require_read(from_state, to_state, schema_editor.connection)
    return result


def _makes_plain(effect: Effect) -> bool:
    """Whether it makes a field plain in a way that `_require_no_loss` misses, as in a table Django does not manage."""
    operation: Any = effect.operation
    if not isinstance(operation, AlterField) or (id(operation), operation.name) in _on_purpose.get():
        return False
    before, after = effect.model_before(operation.model_name), effect.model_after(operation.model_name)
    return isinstance(before.fields.get(operation.name), EncryptedField) and not isinstance(
        after.fields.get(operation.name), EncryptedField
    )


def _require_read(before: Any, after: Any, connection: Any) -> None:
    for label, table, column, companion in made_plain(before, lambda: after, connection.alias):
        if rows := _rows_with_keys(connection, table, column, companion):
            raise MigrationRefused(refusals.read_as_stored(label, rows))


def _require_no_loss(effect: Effect, connection: Any) -> None:
    for loss in losses(effect):
        if (id(effect.operation), loss.field) in _on_purpose.get() or not is_here(loss, connection.alias):
            continue
        if rows := _encrypted_rows(connection, loss.table, loss.column, loss.companion, loss.keys):
            raise MigrationRefused(refusals.lost(loss, rows))
        if has_column(connection, loss.table, loss.column):
            _require_room(loss, connection)


def _require_same_texts(effect: Effect, connection: Any) -> None:
    """Refuse another type of an encrypted field while values are encrypted as texts that it does not read."""
    operation: Any = effect.operation
    model, name = effect.model_before(operation.model_name), operation.name
    old, new = model.fields.get(name), effect.model_after(operation.model_name).fields.get(name)
    if not (isinstance(old, EncryptedField) and isinstance(new, EncryptedField)) or shares_texts(old, new):
        return
    keys = companion_name(name, old)
    place = table_of(effect.app_label, model), column_of(name, old)
    rows = _rows_with_keys(connection, *place, column_of(keys, model.fields.get(keys, old)))
    if rows:
        label = f"{effect.app_label}.{model.name}.{name}"
        raise MigrationRefused(refusals.another_type(label, type(new).__name__, rows))


def _require_no_respelling(effect: Effect, connection: Any) -> None:
    for found in respelled_by(effect, connection.alias):
        if rows := _differing_rows(found, connection):
            raise MigrationRefused(refusals.respelled(found, rows))


def _differing_rows(found: Respelling, connection: Any) -> int:
    # A state may have columns that the database does not have, as after --fake.
    if not all(has_column(connection, table, column) for table, column in found.columns):
        return 0
    return differing_rows(found.present, connection.alias, found.first, found.later)


def _rows_with_keys(connection: Any, table: str, column: str, companion: str) -> int:
    """Count the rows with an encrypted value; none where there is no companion, since nobody can open these."""
    if not has_column(connection, table, column) or not has_column(connection, table, companion):
        return 0
    return encrypted_rows(connection, table, column, companion)


def _encrypted_rows(connection: Any, table: str, column: str, companion: str | None, keys: str | None) -> int:
    """Count the rows with an encrypted value, except those whose keys are in the companion that it has afterwards."""
    if not has_column(connection, table, column):
        return 0
    is_there = companion is not None and has_column(connection, table, companion)
    if keys is not None and has_column(connection, table, keys):
        return rows_without_keys(connection, table, column, companion if is_there else None, keys)
    return encrypted_rows(connection, table, column, companion if is_there else None)


def _require_room(loss: Loss, connection: Any) -> None:
    """Refuse a column that is narrower than the values need: some databases would cut them silently."""
    later = loss.effect.model_after(loss.model.name).fields[loss.field]
    length = getattr(later, "max_length", None)
    if length is None or later.get_internal_type() == "TextField" or is_retyped(loss.field_before, later):
        return
    if rows := longer_rows(connection, loss.table, loss.column, length):
        raise MigrationRefused(
            f"{loss.label}: {counted(rows, 'row holds', 'rows hold')} more than the {length} characters that a "
            f"{type(later).__name__}("
            f"max_length={length}) takes. Shorten them, or write a greater max_length; the column was not changed."
        )
