"""The plan: everything that a run of ``migrate`` is about to do, examined before it does anything."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.db import router
from django.db.migrations import operations as ops
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from vault_fields.fields.base import EncryptedField
from vault_fields.operations import (
    DecryptField,
    EncryptField,
    ImportField,
    JSONToText,
    MoveToCompanion,
    RekeyField,
    TextToJSON,
)
from vault_fields.schemachange.effects import Effect, column_of, effects, table_of, unrendered
from vault_fields.schemachange.names import Column, Names

__all__ = [
    "decrypted_column",
    "encrypted_columns",
    "is_foreign",
    "is_in",
    "planned_effects",
    "state_afterwards",
]

# Django's operations that do to the tables what their states say, and nothing else.
_OF_THE_SCHEMA = (
    ops.AddConstraint,
    ops.AddField,
    ops.AddIndex,
    ops.AlterField,
    ops.AlterIndexTogether,
    ops.AlterModelManagers,
    ops.AlterModelOptions,
    ops.AlterModelTable,
    ops.AlterModelTableComment,
    ops.AlterOrderWithRespectTo,
    ops.AlterUniqueTogether,
    ops.CreateModel,
    ops.DeleteModel,
    ops.RemoveConstraint,
    ops.RemoveField,
    ops.RemoveIndex,
    ops.RenameField,
    ops.RenameIndex,
    ops.RenameModel,
)


# The values that they write open with the companion that is there.
_OF_VALUES = (ImportField, JSONToText, RekeyField, TextToJSON)


def planned_effects(executor: Any, plan: Sequence[tuple[Migration, bool]], state: ProjectState) -> list[list[Effect]]:
    """Return the effects of each migration of a plan in the order in which they run. ``state`` is the present one."""
    wanted = [migration for migration, _ in plan]
    full_plan = [
        migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    ]
    found: dict[Migration, list[Effect]] = {}
    if not plan[0][1]:
        state = unrendered(state)
        for migration in full_plan:
            if migration in wanted:
                found[migration] = effects(migration, state)
                migration.mutate_state(state, preserve=False)
        return list(found.values())
    # As Django does: a migration is undone from the state that there was before it.
    applied = {executor.loader.graph.nodes.get(key) for key in executor.loader.applied_migrations}
    state = ProjectState(real_apps=executor.loader.unmigrated_apps)
    for migration in full_plan:
        if migration in wanted:
            found[migration] = effects(migration, state, backwards=True)
        if migration in applied:
            migration.mutate_state(state, preserve=False)
    return [found[migration] for migration in wanted if migration in found]


def state_afterwards(executor: Any, plan: Sequence[tuple[Migration, bool]], state: ProjectState) -> ProjectState:
    """Return the state that a plan leads to from ``state``, the present one; without model classes."""
    wanted = {migration for migration, _ in plan}
    full_plan = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    if plan[0][1]:
        applied = {executor.loader.graph.nodes.get(key) for key in executor.loader.applied_migrations}
        wanted = applied - wanted
        state = ProjectState(real_apps=executor.loader.unmigrated_apps)
    state = unrendered(state)
    for migration, _ in full_plan:
        if migration in wanted:
            migration.mutate_state(state, preserve=False)
    return state


def encrypted_columns(migrations: Sequence[Sequence[Effect]], alias: str) -> Iterator[tuple[str, Any, Any, str, str]]:
    """
    Yield the columns of the database that become encrypted: the label, the field before and after, and the table and
    the column as the database names them now.
    """
    names = Names()
    touched: set[str] = set()
    for effect in (effect for migration in migrations for effect in migration):
        operation: Any = effect.operation
        if is_foreign(effect):
            touched.add(effect.app_label)
        elif (
            isinstance(operation, ops.AlterField)
            and not effect.backwards
            and isinstance(operation.field, EncryptedField)
            and effect.app_label not in touched
        ):
            model = effect.model_before(operation.model_name)
            old: Any = model.fields[operation.name]
            now = names.now(table_of(effect.app_label, model), column_of(operation.name, old))
            if now is not None and is_in(effect.app_label, model, alias):
                yield f"{effect.app_label}.{model.name}.{operation.name}", old, operation.field, *now
        names.follow(effect)


def is_foreign(effect: Effect) -> bool:
    """Whether an operation is foreign: its effect on the rows is unknown."""
    operation: Any = effect.operation
    if isinstance(operation, (*_OF_THE_SCHEMA, *_OF_VALUES, DecryptField, EncryptField, MoveToCompanion)):
        return False
    if isinstance(operation, ops.RunPython):
        code = operation.reverse_code if effect.backwards else operation.code
        return code is not ops.RunPython.noop and not _is_of_django(operation)
    if isinstance(operation, ops.RunSQL):
        return bool(operation.reverse_sql if effect.backwards else operation.sql)
    return not _is_of_django(operation)


def _is_of_django(operation: Operation) -> bool:
    # Content types are renamed with their models, and extensions of PostgreSQL are installed: no row of ours changes.
    return type(operation).__module__.startswith("django.contrib.")


def decrypted_column(effect: Effect) -> Column | None:
    """Return the column that an operation makes plain, if it makes one plain."""
    operation: Any = effect.operation
    if not isinstance(operation, EncryptField if effect.backwards else DecryptField):
        return None
    model = effect.model_before(operation.model_name)
    return table_of(effect.app_label, model), column_of(operation.name, model.fields[operation.name])


def is_in(app_label: str, model: ModelState, alias: str, *, is_managed: bool = True) -> bool:
    options = model.options
    if options.get("proxy") or (is_managed and not options.get("managed", True)):
        return False
    swappable = options.get("swappable")
    label = f"{app_label}.{model.name}"
    if swappable and getattr(settings, swappable, label).lower() != label.lower():
        return False
    return router.allow_migrate(alias, app_label, model_name=model.name_lower)
