"""Changes of an index by a migration: hashes that were made otherwise are set to NULL, so that none is wrong."""

from collections.abc import Iterator
from typing import Any

from vault_fields.fields.blindindex import IndexField, indexes_of

__all__ = ["forget_hashes"]


def forget_hashes(operation: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
    """Set the hashes to NULL that an ``AlterField`` makes useless. ``vault_index`` makes them anew."""
    model = to_state.apps.get_model(app_label, operation.model_name)
    if not operation.allow_migrate_model(schema_editor.connection.alias, model):
        return
    former = from_state.apps.get_model(app_label, operation.model_name)._meta.get_field(operation.name)
    quote = schema_editor.quote_name
    present = model._meta.get_field(operation.name)
    for column in _changed(former, present, operation.field):
        table, name = quote(model._meta.db_table), quote(column.column)
        schema_editor.execute(f"UPDATE {table} SET {name} = NULL WHERE {name} IS NOT NULL")  # noqa: S608


def _changed(former: Any, present: Any, newer: Any) -> Iterator[IndexField]:
    """Yield the columns of indexes that make other hashes after a change of one field, or after undoing it."""
    if isinstance(former, IndexField) and isinstance(present, IndexField):
        if _recipe(former) != _recipe(present):
            yield present
    elif getattr(former, "is_encrypted", False) and getattr(present, "is_encrypted", False):
        older = former if present.former_labels == newer.former_labels else present
        # The first of the former labels stands in the index. Where there was none, it is added after a rename, and
        # was the field's own.
        if older.former_labels and older.former_labels[:1] != newer.former_labels[:1]:
            yield from (index for index in indexes_of(present) if index.declared_label is None)


def _recipe(index: IndexField) -> tuple[Any, ...]:
    names = {field.name for field in index.model._meta.local_fields}
    label = index.index_label if index.of in names else index.declared_label
    return index.normalize, index.scope, index.bits, label
