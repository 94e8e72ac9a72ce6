"""Names of tables and columns, followed through a plan and back to those that the database has now."""

from collections.abc import Iterator
from typing import Any

from django.db.migrations import operations as ops
from django.db.migrations.state import ModelState

from vault_fields.schemachange.effects import Effect, column_of, table_of

__all__ = ["Column", "Names", "Place", "place_after"]

# A table and a column.
Column = tuple[str, str]
# An app, a model in lower case, and a field.
Place = tuple[str, str, str]


def place_after(operation: Any, app_label: str, place: Place) -> Place | None:
    """Return the place of a field after an operation on the models; None if it is gone."""
    app, model, field = place
    if app != app_label:
        return place
    if isinstance(operation, ops.RenameModel) and operation.old_name_lower == model:
        return app, operation.new_name_lower, field
    if isinstance(operation, ops.DeleteModel) and operation.name_lower == model:
        return None
    if isinstance(operation, ops.RenameField) and (operation.model_name_lower, operation.old_name) == (model, field):
        return app, model, operation.new_name
    if isinstance(operation, ops.RemoveField) and (operation.model_name_lower, operation.name) == (model, field):
        return None
    return place


class Names:
    """
    A map from columns of a later state to columns of the database as it is now; None for one that does not exist yet.
    """

    def __init__(self) -> None:
        self._tables: dict[str, str | None] = {}
        self._columns: dict[Column, Column | None] = {}

    def now(self, table: str, column: str) -> Column | None:
        if (table, column) in self._columns:
            return self._columns[table, column]
        present = self._tables.get(table, table)
        return None if present is None else (present, column)

    def named(self, table: str, column: str | None) -> str | None:
        """Return only the name of the column that the database has now."""
        found = None if column is None else self.now(table, column)
        return None if found is None else found[1]

    def follow(self, effect: Effect) -> None:
        """Go on to the names that exist after an operation."""
        for key, later_key in self._same_models(effect):
            before, after = effect.before.models.get(key), effect.after.models.get(later_key)
            if after is None:
                continue
            table = table_of(later_key[0], after)
            if before is None:
                if after.options.get("managed", True):  # Otherwise it is made of a table that is there.
                    self._tables[table] = None
                continue
            self._follow_table(table_of(key[0], before), table)
            for name, later_name in self._same_fields(effect, before, after):
                self._follow_column(table, before.fields.get(name), name, after.fields[later_name], later_name)

    def _same_models(self, effect: Effect) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
        operation, app_label = effect.operation, effect.app_label
        if isinstance(operation, ops.RenameModel):
            names = (operation.old_name_lower, operation.new_name_lower)
            before, after = reversed(names) if effect.backwards else names
            yield (app_label, before), (app_label, after)
        elif (
            name := getattr(operation, "model_name_lower", None) or getattr(operation, "name_lower", None)
        ) is not None:
            yield (app_label, name), (app_label, name)

    def _same_fields(self, effect: Effect, before: ModelState, after: ModelState) -> Iterator[tuple[str, str]]:
        operation = effect.operation
        renamed: dict[str, str] = {}
        if isinstance(operation, ops.RenameField):
            names = (operation.old_name, operation.new_name)
            earlier, later = reversed(names) if effect.backwards else names
            renamed[later] = earlier
        for name, field in after.fields.items():
            earlier_name = renamed.get(name, name)
            if earlier_name not in before.fields or before.fields[earlier_name] is not field or earlier_name != name:
                yield earlier_name, name

    def _follow_table(self, table: str, later: str) -> None:
        if table == later:
            return
        self._tables[later] = self._tables.pop(table, table)
        for each in [each for each in self._columns if each[0] == table]:
            self._columns[later, each[1]] = self._columns.pop(each)

    def _follow_column(self, table: str, field: Any, name: str, later: Any, later_name: str) -> None:
        column = column_of(later_name, later)
        if field is None:
            self._columns[table, column] = None
        elif (earlier := column_of(name, field)) != column:
            self._columns[table, column] = self.now(table, earlier)
            self._columns[table, earlier] = None
