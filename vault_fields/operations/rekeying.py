"""The migration operations by which keys follow a changed declaration: another companion, context or vault."""

from collections.abc import Sequence
from typing import Any

from vault_fields.fields.groups import encrypted_fields, group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.operations.base import FieldOperation, RowsOperation, know_later_names, require_none
from vault_fields.rows.rekey import rekey_group
from vault_fields.rows.rewriting import move_to_companion
from vault_fields.rows.walk import BATCH_SIZE
from vault_fields.runtime.frames import forgetful

__all__ = ["MoveToCompanion", "RekeyField"]


class MoveToCompanion(RowsOperation):
    """
    Move the keys of the values of some fields to the column ``companion``, as ``keys_field`` will say.

    It goes after the ``AddField`` of that companion, and before the ``AlterField`` of the fields and the
    ``RemoveField`` of the companions that they leave. Values open by the declaration before and by the one after.
    Reversed, it moves the keys back to where the fields have them at this point.
    """

    __module__ = "vault_fields.operations"

    def __init__(
        self,
        model_name: str,
        names: Sequence[str],
        companion: str,
        batch_size: int = BATCH_SIZE,
        elidable: bool = False,
    ) -> None:
        if isinstance(names, str) or not names:
            raise TypeError(f"names is a list of the names of fields, not {names!r}.")
        super().__init__(model_name, batch_size, elidable)
        self.names = list(names)
        self.companion = companion

    @forgetful
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._move(schema_editor, self.fields(app_label, from_state, self.names))

    @forgetful
    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        fields = self.fields(app_label, from_state, self.names)
        if self.is_here(fields[0], schema_editor):
            know_later_names(encrypted_fields(fields[0].model))
            self._move(schema_editor, fields)

    def _move(self, schema_editor: Any, fields: list[Encrypted]) -> None:
        if self.is_here(fields[0], schema_editor):
            problems: list[str] = []
            move_to_companion(fields, self.companion, on_problem=problems.append, **self.options(schema_editor))
            require_none(problems, f"could not be moved to {self.companion!r}")

    def describe(self) -> str:
        return f"Move the values of {', '.join(self.names)} on {self.model_name} to the companion {self.companion}"

    @property
    def migration_name_fragment(self) -> str:
        return f"move_{self.model_name.lower()}_to_{self.companion.lower()}"


class RekeyField(FieldOperation):
    """
    Bring the values of a field up to date with the key context and the vault that it has at this point.

    It does the work of ``manage.py vault_rekey``, with all fields that share the companion. It does so in either
    direction, since a reversed change of the declaration needs the same. With ``accept_redirected`` it follows a
    change behind a relation or in a function, which a declaration with another path also makes.
    """

    __module__ = "vault_fields.operations"

    def __init__(
        self,
        model_name: str,
        name: str,
        batch_size: int = BATCH_SIZE,
        elidable: bool = False,
        accept_redirected: bool = False,
    ) -> None:
        super().__init__(model_name, name, batch_size, elidable)
        self.accept_redirected = accept_redirected

    @forgetful
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        (field,) = self.fields(app_label, from_state, [self.name])
        self._rekey(schema_editor, field)

    @forgetful
    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        (field,) = self.fields(app_label, from_state, [self.name])
        if self.is_here(field, schema_editor):
            know_later_names(group_of(field).members)
            self._rekey(schema_editor, field)

    def _rekey(self, schema_editor: Any, field: Encrypted) -> None:
        if self.is_here(field, schema_editor):
            problems: list[str] = []
            rekey_group(
                group_of(field),
                accept_redirected=self.accept_redirected,
                on_problem=problems.append,
                **self.options(schema_editor),
            )
            require_none(problems, "could not be brought up to date")

    def describe(self) -> str:
        return f"Rekey the rows of field {self.name} on {self.model_name}"
