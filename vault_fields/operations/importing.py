"""The migration operation that fills an encrypted column from one that another library encrypted."""

from functools import partial
from typing import Any

from vault_fields.operations.base import know_later_names
from vault_fields.operations.encrypting import ColumnOperation
from vault_fields.rows.imports import OldReader, import_column, take_back_column
from vault_fields.rows.walk import BATCH_SIZE
from vault_fields.runtime.frames import forgetful

__all__ = ["ImportField"]


class ImportField(ColumnOperation):
    """
    Read the column of the field ``source`` by a reader of ``vault_fields.importing``, and encrypt its values as ours.

    The old column stays as it is. Rows whose new field has a value are left alone, so that it can be interrupted and
    run again. Each value is opened again before it is written, and compared with the old one. Reversed, it empties the
    new field of every row whose two columns still hold the same. Transactions are those of ``EncryptField``.
    """

    __module__ = "vault_fields.operations"

    _place = "after the AddField that adds one"

    def __init__(
        self,
        model_name: str,
        name: str,
        source: str,
        reader: OldReader,
        batch_size: int = BATCH_SIZE,
        elidable: bool = False,
    ) -> None:
        super().__init__(model_name, name, batch_size, elidable)
        self.source = source
        self.reader = reader

    @forgetful
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        field = self._field(app_label, to_state)
        if self.is_here(field, schema_editor):
            self._run(partial(import_column, source=self.source, reader=self.reader), field, schema_editor)

    @forgetful
    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        field = self._field(app_label, from_state)
        if self.is_here(field, schema_editor):
            # Rows that were written after a later rename know the field by its later labels, and its state does not.
            know_later_names([field])
            self._run(partial(take_back_column, source=self.source, reader=self.reader), field, schema_editor)

    def describe(self) -> str:
        return f"Import the values of field {self.name} on {self.model_name} from {self.source}"
