"""
Hooks in Django's migrations, so that no encrypted column is made that holds something in the clear.

``AddField``, and ``RemoveField`` when it is reversed, refuse what databases would do in ways of their own: existing
rows cannot get a default, which would be in the clear. ``AlterField`` refuses to encrypt a column that is no text, and
sets hashes to NULL whose index it changes.
``schemachange.guard`` judges whole plans of migrations.
"""

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.db.migrations.operations import AddField, AlterField, RemoveField

from vault_fields.exceptions import MigrationRefused
from vault_fields.fields.conversion import require_text, require_values
from vault_fields.fields.indexchanges import forget_hashes
from vault_fields.patches import wrap

__all__ = ["guard_migrations", "install_migration_hooks"]


@functools.cache
def guard_migrations() -> None:
    """
    Let ``migrate`` refuse migrations that would leave encrypted values without what opens them.

    A process that imports an encrypted field, if only in a migration, is guarded, also once the project has taken the
    application out of ``INSTALLED_APPS``. Imported by name, since the guard is in a layer above the fields.
    """
    import_module("vault_fields.schemachange.guard").install_guard()


def install_migration_hooks() -> None:
    """Wrap the methods, each once."""
    wrap(AddField, "database_forwards", _add_field)
    wrap(AlterField, "database_forwards", _alter_field)
    wrap(RemoveField, "database_backwards", _put_back_field)


def _add_field(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    advice = (
        "Add the field with null=True, give the rows their values with save() or bulk_update() in RunPython, and make "
        "it null=False then."
    )
    _require_no_rows(self, self.field, app_label, schema_editor, from_state, advice)
    return original(self, app_label, schema_editor, from_state, to_state)


def _alter_field(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    require_text(self, app_label, schema_editor, from_state, to_state)
    require_values(self, app_label, schema_editor, from_state, to_state)
    result = original(self, app_label, schema_editor, from_state, to_state)
    forget_hashes(self, app_label, schema_editor, from_state, to_state)
    return result


def _put_back_field(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    field = to_state.apps.get_model(app_label, self.model_name)._meta.get_field(self.name)
    advice = (
        "Its values went with the column. Before the RemoveField write an AlterField with null=True, and between the "
        "two RunPython whose reverse gives the rows new values with save() or bulk_update()."
    )
    _require_no_rows(self, field, app_label, schema_editor, from_state, advice)
    return original(self, app_label, schema_editor, from_state, to_state)


def _require_no_rows(operation: Any, field: Any, app_label: str, schema_editor: Any, state: Any, advice: str) -> None:
    """Refuse to add an encrypted column that must have a value to a table that has rows."""
    if not getattr(field, "is_encrypted", False) or field.null or schema_editor.collect_sql:
        return
    model = state.apps.get_model(app_label, operation.model_name)
    alias = schema_editor.connection.alias
    if operation.allow_migrate_model(alias, model) and model._base_manager.using(alias).exists():
        raise MigrationRefused(
            f"{model._meta.label}.{operation.name} is encrypted for the key context of each row, which a column's "
            f"default does not know, and the table has rows: nothing was changed. {advice}"
        )
