"""The history of names in the migrations: the labels that each encrypted field had while it was encrypted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field as dataclass_field
from typing import Any

from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation

from vault_fields.fields.base import EncryptedField

__all__ = ["LabelHistory", "all_migrations"]

ModelKey = tuple[str, str]


@dataclass(slots=True, eq=False)
class _Model:
    """A model as the migrations have it: of each column, its former labels, or None while it is not encrypted."""

    app_label: str
    name: str
    columns: dict[str, list[str] | None]
    # Made or deleted in the state alone, as when a model moves to another app with its table.
    state_only: bool = False

    def label(self, column: str) -> str:
        return f"{self.app_label}.{self.name}.{column}"

    def labels(self, column: str) -> list[str]:
        """Every label that the column had while it was encrypted, the present one last."""
        former = self.columns.get(column)
        return [] if former is None else [*former, self.label(column)]


@dataclass(slots=True, eq=False)
class LabelHistory:
    """
    Names followed through migrations, which are given in their order.

    Only operations on models and fields count, in the state's version: SQL or Python in a migration changes no label.
    Making a field plain ends its history, since its values were decrypted for that.
    """

    models: dict[ModelKey, _Model] = dataclass_field(default_factory=dict)
    _left: list[_Model] = dataclass_field(default_factory=list)
    # The labels of columns that are gone, or plain by now.
    _ended: list[list[str]] = dataclass_field(default_factory=list)

    @classmethod
    def of(cls, migrations: Iterable[Migration]) -> "LabelHistory":
        history = cls()
        for migration in migrations:
            for operation in migration.operations:
                history.apply(migration.app_label, operation)
        return history

    def knows(self, model: ModelKey, column: str) -> bool:
        return model in self.models and column in self.models[model].columns

    def labels(self, model: ModelKey, column: str) -> list[str]:
        """Return the labels under which values of a column may have been encrypted, oldest first."""
        state = self.models.get(model)
        if state is None or state.columns.get(column) is None:
            return []
        moved = [left for left in self._left if state.state_only and left.name.lower() == state.name.lower()]
        return list(dict.fromkeys(label for each in (*moved, state) for label in each.labels(column)))

    def kin(self, label: str) -> list[str]:
        """Return the labels, earlier and later ones, of every column that had this one; itself too."""
        known = [self.labels(key, column) for key, model in self.models.items() for column in model.columns]
        return list(dict.fromkeys(each for labels in (*known, *self._ended) if label in labels for each in labels))

    def apply(self, app_label: str, operation: Operation, *, state_only: bool = False) -> None:
        if isinstance(operation, ops.SeparateDatabaseAndState):
            for inner in operation.state_operations:
                self.apply(app_label, inner, state_only=True)
        elif isinstance(operation, ops.CreateModel):
            columns = {name: _history(field) for name, field in operation.fields}
            self.models[app_label, operation.name_lower] = _Model(app_label, operation.name, columns, state_only)
        elif isinstance(operation, ops.DeleteModel):
            model = self.models.pop((app_label, operation.name_lower), None)
            if model is not None:
                self._ended += [model.labels(column) for column in model.columns]
                self._left += [model] if state_only else []
        elif isinstance(operation, ops.RenameModel):
            model = self.models.pop((app_label, operation.old_name_lower), None)
            if model is not None:
                _remember(model, model.columns)
                model.name = operation.new_name
                self.models[app_label, operation.new_name_lower] = model
        else:
            self._apply_to_field(app_label, operation)

    def _apply_to_field(self, app_label: str, operation: Operation) -> None:
        if not isinstance(operation, (ops.AddField, ops.AlterField, ops.RemoveField, ops.RenameField)):
            return
        model = self.models.get((app_label, operation.model_name_lower))
        if model is None:
            return
        columns = model.columns
        if isinstance(operation, (ops.AddField, ops.AlterField)):
            former = columns.get(operation.name)
            if former is not None and not isinstance(operation.field, EncryptedField):
                self._ended.append(model.labels(operation.name))
            columns[operation.name] = _history(operation.field, former or [])
        elif isinstance(operation, ops.RemoveField):
            self._ended.append(model.labels(operation.name))
            columns.pop(operation.name, None)
        elif operation.old_name in columns:
            _remember(model, [operation.old_name])
            columns[operation.new_name] = columns.pop(operation.old_name)


def all_migrations() -> Iterator[Migration]:
    """
    Yield the project's migrations in their order, from disk, without a database.

    Squashed ones are replaced by those that they were made from, as long as these are there: squashing optimizes
    renames away. Raises the errors of ``makemigrations`` where they cannot be read.
    """
    loader = MigrationLoader(None, ignore_no_migrations=True)
    seen: set[tuple[str, str]] = set()
    for leaf in loader.graph.leaf_nodes():
        for key in loader.graph.forwards_plan(leaf):
            if key not in seen:
                seen.add(key)
                yield from _originals(loader.graph.nodes[key], loader)


def _originals(migration: Any, loader: MigrationLoader) -> Iterator[Migration]:
    replaced = [loader.disk_migrations.get(tuple(key)) for key in migration.replaces]
    if not replaced or None in replaced:
        yield migration
        return
    for original in replaced:
        yield from _originals(original, loader)


def _history(field: Any, former: list[str] | None = None) -> list[str] | None:
    return (former or []) if isinstance(field, EncryptedField) else None


def _remember(model: _Model, columns: Iterable[str]) -> None:
    for column in columns:
        former = model.columns[column]
        if former is not None:
            former.append(model.label(column))
