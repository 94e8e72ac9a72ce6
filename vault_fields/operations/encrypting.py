"""The migration operations that encrypt the rows of an existing column, and decrypt them again."""

from collections import deque
from collections.abc import Callable
from typing import Any

from django.core.exceptions import FieldError
from django.core.management.base import CommandError

from vault_fields.exceptions import RowsLeftAlone
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.groups import group_of
from vault_fields.operations.base import FieldOperation, know_later_names
from vault_fields.rows.backfill import BackfillReport, decrypt_column, encrypt_column
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar
from vault_fields.text.counting import counted

__all__ = ["ColumnOperation", "DecryptField", "EncryptField"]


class ColumnOperation(FieldOperation):
    """The base of the operations that write one column, row by row, and change no model."""

    # The place of the operation, for errors.
    _place: str

    @property
    def migration_name_fragment(self) -> str:
        return f"{type(self).__name__.removesuffix('Field').lower()}_{self.model_name.lower()}_{self.name.lower()}"

    def _encrypt(self, app_label: str, schema_editor: Any, state: Any) -> None:
        field = self._field(app_label, state)
        if self.is_here(field, schema_editor):
            self._run(encrypt_column, field, schema_editor)

    def _decrypt(self, app_label: str, schema_editor: Any, state: Any) -> None:
        field = self._field(app_label, state)
        if self.is_here(field, schema_editor):
            # Rows that were written after a later rename know the field by its later labels, and its state does not.
            know_later_names([field])
            self._run(decrypt_column, field, schema_editor)

    def _field(self, app_label: str, state: Any) -> EncryptedField:
        model = state.apps.get_model(app_label, self.model_name)
        field = model._meta.get_field(self.name)
        if not isinstance(field, EncryptedField):
            raise FieldError(
                f"{model._meta.label}.{self.name} is not an encrypted field here: {type(self).__name__} goes "
                f"{self._place}."
            )
        return field

    def _run(self, rewrite: Callable[..., BackfillReport], field: EncryptedField, schema_editor: Any) -> None:
        """Process every row that can be processed, and end with an error if there are others."""
        connection = schema_editor.connection
        problems: deque[str] = deque(maxlen=1)
        try:
            report = rewrite(
                field,
                using=connection.alias,
                batch_size=self.batch_size,
                progress=progress_bar,
                on_problem=problems.append,
            )
        except KeyboardInterrupt:
            # In words, with the status of a process that SIGINT ended.
            raise CommandError(f"{field.label}: interrupted. {_outcome(connection)}", returncode=130) from None
        if report.left_alone:
            raise RowsLeftAlone(
                f"{field.label}: {counted(len(report.left_alone), 'row', 'rows')} cannot be {report.participle} "
                f"({report.keys_left_alone}). {_outcome(connection)} The last: {problems[0]}"
            )
        if connection.vendor == "postgresql" and connection.in_atomic_block:
            # A table whose rows have deferred constraints to be checked cannot be altered in the same transaction.
            schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


class EncryptField(ColumnOperation):
    """
    Encrypt what the rows hold, after the operations that made the column an encrypted one with ``migrating=True``.

    Reversed, it writes everything in the clear again. It commits each batch by itself, so that it can be interrupted
    and run again, except in an atomic migration on PostgreSQL and SQLite: there the whole migration is one
    transaction. Give a large table a migration of its own with ``atomic = False``.
    """

    __module__ = "vault_fields.operations"

    _place = "after the AlterField that makes it one"

    @forgetful
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._encrypt(app_label, schema_editor, to_state)

    @forgetful
    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._decrypt(app_label, schema_editor, from_state)

    def describe(self) -> str:
        return f"Encrypt the rows of field {self.name} on {self.model_name}"


class DecryptField(ColumnOperation):
    """
    Write what the rows hold in the clear again, before the operations that make the column a plain one.

    The reverse of ``EncryptField``, and reversible like it; the field need not be ``migrating``. Costs one ``decrypt``
    for each data key. Stop whatever writes to the column first: a value that is encrypted after its row was passed
    stays encrypted, and the operations that follow refuse to make the column a plain one.
    """

    __module__ = "vault_fields.operations"

    _place = "before the AlterField that makes it a plain one"

    @forgetful
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._decrypt(app_label, schema_editor, to_state)

    @forgetful
    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        # From the state in which this operation is undone: whatever the fields say, rows are plain now.
        for member in group_of(self._field(app_label, from_state)).members:
            member.migrating = True
        self._encrypt(app_label, schema_editor, from_state)

    def describe(self) -> str:
        return f"Decrypt the rows of field {self.name} on {self.model_name}"


def _outcome(connection: Any) -> str:
    if connection.in_atomic_block:
        return "The migration is one transaction: none of it is kept."
    return "What was written stays, and the migration can be run again."
