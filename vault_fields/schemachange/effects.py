"""The effects of a migration on the database, one operation at a time, in the direction in which it runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.backends.utils import truncate_name
from django.db.migrations.migration import Migration
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import ForeignKey

__all__ = ["Effect", "column_of", "effects", "table_of", "unrendered"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One operation that reaches the database, with the states of the models before and after it."""

    migration: str
    app_label: str
    operation: Operation
    before: ProjectState
    after: ProjectState
    backwards: bool

    def model_before(self, name: str) -> ModelState:
        model: ModelState = self.before.models[self.app_label, name.lower()]
        return model

    def model_after(self, name: str) -> ModelState:
        model: ModelState = self.after.models[self.app_label, name.lower()]
        return model


def unrendered(state: ProjectState) -> ProjectState:
    """Return a copy of the state without model classes, which is cheap to change."""
    return ProjectState({key: model.clone() for key, model in state.models.items()}, state.real_apps)


def effects(migration: Migration, state: ProjectState, *, backwards: bool = False) -> list[Effect]:
    """Return all effects of a migration in the order in which it runs. Forwards, ``state`` is the one before it."""
    found: list[Effect] = []
    state = unrendered(state)  # The caller goes on to change the state that it passed.
    for operation in migration.operations:
        after = _advanced(state, migration.app_label, operation)
        found += _of_operation(f"{migration.app_label}.{migration.name}", migration.app_label, operation, state, after)
        state = after
    if not backwards:
        return found
    return [
        Effect(each.migration, each.app_label, each.operation, each.after, each.before, backwards=True)
        for each in reversed(found)
    ]


def _of_operation(
    migration: str, app_label: str, operation: Operation, before: ProjectState, after: ProjectState
) -> Iterator[Effect]:
    if not isinstance(operation, SeparateDatabaseAndState):
        yield Effect(migration, app_label, operation, before, after, backwards=False)
        return
    for inner in operation.database_operations:
        # As the operation itself does: what changes the database goes on from its own states.
        reached = _advanced(before, app_label, inner)
        yield from _of_operation(migration, app_label, inner, before, reached)
        before = reached


def _advanced(state: ProjectState, app_label: str, operation: Operation) -> ProjectState:
    after = unrendered(state)
    operation.state_forwards(app_label, after)
    return after


def table_of(app_label: str, model: ModelState) -> str:
    """Return the name of a model's table, as ``Model._meta.db_table`` would have it."""
    table = model.options.get("db_table") or truncate_name(
        f"{app_label}_{model.name_lower}", connection.ops.max_name_length()
    )
    return str(table)


def column_of(name: str, field: Any) -> str:
    """Return the name of a field's column. In a state, fields do not know theirs."""
    return str(field.db_column or (f"{name}_id" if isinstance(field, ForeignKey) else name))
