"""Migrations with an index depend on the one that makes the table of index keys: ``makemigrations`` writes it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.db.migrations.autodetector import MigrationAutodetector, OperationDependency
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations import AddField, CreateModel, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation

from vault_fields.fields.blindindex import IndexField
from vault_fields.patches import wrap

__all__ = ["INDEX_KEYS", "install_dependencies", "without_index_keys"]

# The migration that makes the table of index keys.
INDEX_KEYS = ("vault_fields", "0001_index_keys")


def install_dependencies() -> None:
    """Wrap the method through which Django's autodetector collects operations, once."""
    wrap(MigrationAutodetector, "add_operation", _add_operation)


def without_index_keys(loader: MigrationLoader) -> Iterator[Migration]:
    """Yield the migrations that add the column of an index, and may run before there is a table of index keys."""
    for key, migration in loader.graph.nodes.items():
        if key[0] != INDEX_KEYS[0] and any(map(_has_index, migration.operations)):
            plan = loader.graph.forwards_plan(key)
            if not any(app_label == INDEX_KEYS[0] for app_label, _ in plan):
                yield migration


def _add_operation(
    original: Callable[..., Any],
    self: Any,
    app_label: str,
    operation: Operation,
    dependencies: Sequence[OperationDependency] | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    if _has_index(operation) and apps.is_installed("vault_fields"):
        needed = OperationDependency("vault_fields", "indexkey", None, OperationDependency.Type.CREATE)
        dependencies = [*(dependencies or ()), needed]
    return original(self, app_label, operation, dependencies, *args, **kwargs)


def _has_index(operation: Operation) -> bool:
    if isinstance(operation, SeparateDatabaseAndState):
        return any(map(_has_index, operation.database_operations))
    if isinstance(operation, CreateModel):
        return any(isinstance(field, IndexField) for _, field in operation.fields)
    return isinstance(operation, AddField) and isinstance(operation.field, IndexField)
