"""The migration operation that encrypts the rows of an existing column."""

from typing import Any

from django.core.exceptions import FieldError
from django.db.migrations.operations.base import Operation, OperationCategory

from vault_fields.backfill import BATCH_SIZE, decrypt_column, encrypt_column
from vault_fields.fields.base import EncryptedField
from vault_fields.progress import progress_bar
from vault_fields.renames import LabelHistory, all_migrations

__all__ = ["EncryptField"]


class EncryptField(Operation):
    """
    Encrypt what the rows hold, after the operations that made the column an encrypted one with ``migrating=True``.

    Reversed, it writes everything in the clear again. It commits each batch by itself, so that it can be interrupted
    and run again, except in an atomic migration on PostgreSQL and SQLite: there the whole migration is one
    transaction. Give a large table a migration of its own with ``atomic = False``.
    """

    category = OperationCategory.PYTHON
    reduces_to_sql = False
    # Not one transaction where the migration is none: each batch is one.
    atomic = False

    # None of these is keyword-only, because squashmigrations would leave it out of what it writes.
    def __init__(self, model_name: str, name: str, batch_size: int = BATCH_SIZE, elidable: bool = False) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
        self.model_name = model_name
        self.name = name
        self.batch_size = batch_size
        self.elidable = elidable  # type: ignore[misc]  # As in RunPython.

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The rows change; the models do not."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        field = self._field(app_label, to_state)
        if self._is_here(field, schema_editor):
            encrypt_column(field, **self._options(schema_editor))

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        field = self._field(app_label, from_state)
        if self._is_here(field, schema_editor):
            # Rows that were written after a later rename know the field by its later labels, which its state does not.
            field.former_labels = [*field.former_labels, *LabelHistory.of(all_migrations()).kin(field.label)]
            decrypt_column(field, **self._options(schema_editor))

    def describe(self) -> str:
        return f"Encrypt the rows of field {self.name} on {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        return f"encrypt_{self.model_name.lower()}_{self.name.lower()}"

    def _field(self, app_label: str, state: Any) -> EncryptedField:
        model = state.apps.get_model(app_label, self.model_name)
        field = model._meta.get_field(self.name)
        if not isinstance(field, EncryptedField):
            raise FieldError(
                f"{model._meta.label}.{self.name} is not an encrypted field here: EncryptField goes after the "
                "AlterField that makes it one."
            )
        return field

    def _is_here(self, field: EncryptedField, schema_editor: Any) -> bool:
        return self.allow_migrate_model(schema_editor.connection.alias, field.model)

    def _options(self, schema_editor: Any) -> dict[str, Any]:
        return {"using": schema_editor.connection.alias, "batch_size": self.batch_size, "progress": progress_bar}
