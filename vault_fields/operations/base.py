"""The parts of the operations that write to the rows of a model and leave its columns alone."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import FieldError
from django.db import router
from django.db.migrations.operations.base import Operation, OperationCategory

from vault_fields.exceptions import RowsLeftAlone
from vault_fields.fields.groups import encrypted_fields
from vault_fields.fields.interface import Encrypted
from vault_fields.rows.labels import LabelHistory, all_migrations
from vault_fields.rows.presence import has_table
from vault_fields.rows.walk import BATCH_SIZE
from vault_fields.runtime.progress import progress_bar
from vault_fields.text.counting import counted

__all__ = ["FieldOperation", "RowsOperation", "know_later_names", "require_none"]

# The number of rows left alone that an error names.
MAX_NAMED = 20


class RowsOperation(Operation):
    """An operation that writes to the rows of one model. The columns and their names stay as they are."""

    category = OperationCategory.PYTHON
    reduces_to_sql = False
    # Not one transaction where the migration is none: each batch is one.
    atomic = False

    # None of these is keyword-only, here and below, because squashmigrations would leave it out of its result.
    def __init__(self, model_name: str, batch_size: int, elidable: bool) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
        self.model_name = model_name
        self.batch_size = batch_size
        self.elidable = elidable  # type: ignore[misc]  # As in RunPython.

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Leave the state alone: the rows change, and the models do not."""

    def fields(self, app_label: str, state: Any, names: Sequence[str]) -> list[Encrypted]:
        """Return the encrypted fields with these names in the model's own table."""
        model = state.apps.get_model(app_label, self.model_name)
        own = {field.name: field for field in encrypted_fields(model)}
        for name in names:
            if name not in own:
                raise FieldError(
                    f"{model._meta.label}.{name} is not an encrypted field in the model's own table here: "
                    f"{type(self).__name__} goes after the operation that makes it one, and names the model with it."
                )
        return [own[name] for name in names]

    def is_here(self, field: Encrypted, schema_editor: Any) -> bool:
        connection, meta = schema_editor.connection, field.model._meta
        if meta.swapped or not router.allow_migrate_model(connection.alias, field.model):
            return False
        # A table that Django does not manage may or may not exist, as in a test database.
        return meta.managed or has_table(connection, meta.db_table)

    def options(self, schema_editor: Any) -> dict[str, Any]:
        return {"using": schema_editor.connection.alias, "batch_size": self.batch_size, "progress": progress_bar}


class FieldOperation(RowsOperation):
    """An operation on the values of one field."""

    def __init__(self, model_name: str, name: str, batch_size: int = BATCH_SIZE, elidable: bool = False) -> None:
        super().__init__(model_name, batch_size, elidable)
        self.name = name

    @property
    def migration_name_fragment(self) -> str:
        return f"{type(self).__name__.lower()}_{self.model_name.lower()}_{self.name.lower()}"


def know_later_names(fields: Sequence[Encrypted]) -> None:
    """Add later labels to fields: rows written after a rename know a field by them, and its state does not."""
    history = LabelHistory.of(all_migrations())
    for field in fields:
        field.former_labels = [*field.former_labels, *history.kin(field.label)]


def require_none(problems: Sequence[str], what: str) -> None:
    if problems:
        named = "\n".join(problems[:MAX_NAMED])
        more = f"\n… and {len(problems) - MAX_NAMED} more." if len(problems) > MAX_NAMED else ""
        raise RowsLeftAlone(
            f"{counted(len(problems), 'row', 'rows')} {what}; the others were, and running it again leaves them "
            f"alone.\n{named}{more}"
        )
