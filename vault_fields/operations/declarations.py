"""
The migration operations for a field that is encrypted and goes on being so, and whose declaration changes.

Users import them from ``vault_fields.operations``.
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from django.core.exceptions import FieldError
from django.db import router
from django.db.migrations.operations.base import Operation, OperationCategory

from vault_fields.exceptions import RowsLeftAlone
from vault_fields.fields.groups import encrypted_fields, group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.text import EncryptedTextField
from vault_fields.rows.labels import LabelHistory, all_migrations
from vault_fields.rows.presence import has_table
from vault_fields.rows.rekey import rekey_group
from vault_fields.rows.rewriting import convert_column, move_to_companion
from vault_fields.rows.walk import BATCH_SIZE
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar
from vault_fields.stored import envelope as envelope_format
from vault_fields.text.counting import counted

__all__ = ["JSONToText", "MoveToCompanion", "RekeyField", "RowsOperation", "TextToJSON"]

# The number of rows left alone that an error names.
MAX_NAMED = 20


class RowsOperation(Operation):
    """An operation that writes to the rows of one model. The columns and their names stay as they are."""

    category = OperationCategory.PYTHON
    reduces_to_sql = False
    # Not one transaction where the migration is none: each batch is one.
    atomic = False

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


class MoveToCompanion(RowsOperation):
    """
    Move the keys of the values of some fields to the column ``companion``, as ``keys_field`` will say.

    It goes after the ``AddField`` of that companion, and before the ``AlterField`` of the fields and the
    ``RemoveField`` of the companions that they leave. Values open by the declaration before and by the one after.
    Reversed, it moves the keys back to where the fields have them at this point.
    """

    __module__ = "vault_fields.operations"

    # None of these is keyword-only, because squashmigrations would leave it out of its result.
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
            _know_later_names(encrypted_fields(fields[0].model))
            self._move(schema_editor, fields)

    def _move(self, schema_editor: Any, fields: list[Encrypted]) -> None:
        if self.is_here(fields[0], schema_editor):
            problems: list[str] = []
            move_to_companion(fields, self.companion, on_problem=problems.append, **self.options(schema_editor))
            _require_none(problems, f"could not be moved to {self.companion!r}")

    def describe(self) -> str:
        return f"Move the values of {', '.join(self.names)} on {self.model_name} to the companion {self.companion}"

    @property
    def migration_name_fragment(self) -> str:
        return f"move_{self.model_name.lower()}_to_{self.companion.lower()}"


class _FieldOperation(RowsOperation):
    """An operation on the values of one field."""

    def __init__(self, model_name: str, name: str, batch_size: int = BATCH_SIZE, elidable: bool = False) -> None:
        super().__init__(model_name, batch_size, elidable)
        self.name = name

    @property
    def migration_name_fragment(self) -> str:
        return f"{type(self).__name__.lower()}_{self.model_name.lower()}_{self.name.lower()}"


class RekeyField(_FieldOperation):
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
            _know_later_names(group_of(field).members)
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
            _require_none(problems, "could not be brought up to date")

    def describe(self) -> str:
        return f"Rekey the rows of field {self.name} on {self.model_name}"


class _Conversion(_FieldOperation):
    """A conversion of values of a text field to those of a JSON field, or back: beside the ``AlterField``."""

    @forgetful
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._convert(app_label, schema_editor, from_state, self.converted)

    @forgetful
    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._convert(app_label, schema_editor, from_state, self.converted_back, reversed_=True)

    def _convert(
        self,
        app_label: str,
        schema_editor: Any,
        state: Any,
        convert: Callable[[str], str],
        *,
        reversed_: bool = False,
    ) -> None:
        (field,) = self.fields(app_label, state, [self.name])
        if not self.is_here(field, schema_editor):
            return
        (field,) = self.fields(app_label, self._state_of_texts(app_label, state, field), [self.name])
        if reversed_:
            _know_later_names(group_of(field).members)
        problems: list[str] = []
        convert_column(field, convert, on_problem=problems.append, **self.options(schema_editor))
        _require_none(problems, "could not be converted")

    def _state_of_texts(self, app_label: str, state: Any, field: Encrypted) -> Any:
        """Return the state in which the field is one of text: the encrypted form of JSON is its text."""
        *_, options = field.deconstruct()
        kept = {name: value for name, value in options.items() if name in _OPTIONS}
        state = state.clone()
        state.alter_field(
            app_label, self.model_name.lower(), self.name, EncryptedTextField(**kept), preserve_default=True
        )
        return state

    @staticmethod
    @abstractmethod
    def converted(text: str) -> str: ...

    @staticmethod
    @abstractmethod
    def converted_back(text: str) -> str: ...


# The options of a declaration that decide how its values open.
_OPTIONS = {"key_context", "keys_field", "migrating", "former_labels", "bind_to", "former_bind_to", "vault"}
_OPTIONS |= {"null", "db_column"}


def _as_json(text: str) -> str:
    """Return JSON as it is, and any other text as a JSON string. So converting twice changes nothing."""
    return text if _is_json(text) else json.dumps(text, ensure_ascii=False)


def _as_text(text: str) -> str:
    """Return the inverse of ``_as_json``: a JSON string loses its quotes unless it would be JSON without them."""
    value = json.loads(text) if _is_json(text) else None
    if not isinstance(value, str) or _is_json(value) or envelope_format.is_envelope(value) or not _is_utf8(value):
        return text
    return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and the infinities, which Python reads and JSON does not have.


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class TextToJSON(_Conversion):
    """
    Convert the values of an encrypted text field so that an ``EncryptedJSONField`` can read them.

    A text that is JSON is taken for that JSON, as a database does when it turns a text column into a JSON column. Any
    other text becomes a JSON string. Reversed, it is ``JSONToText``.
    """

    __module__ = "vault_fields.operations"
    converted = staticmethod(_as_json)
    converted_back = staticmethod(_as_text)

    def describe(self) -> str:
        return f"Make JSON of the texts of field {self.name} on {self.model_name}"


class JSONToText(_Conversion):
    """
    Convert the values of an ``EncryptedJSONField`` so that an encrypted text field shows them.

    A JSON string becomes its text, unless that is JSON itself. All other values become their JSON. Reversed, it is
    ``TextToJSON``.
    """

    __module__ = "vault_fields.operations"
    converted = staticmethod(_as_text)
    converted_back = staticmethod(_as_json)

    def describe(self) -> str:
        return f"Make text of the JSON of field {self.name} on {self.model_name}"


def _know_later_names(fields: Sequence[Encrypted]) -> None:
    """Add later labels to fields: rows written after a rename know a field by them, and its state does not."""
    history = LabelHistory.of(all_migrations())
    for field in fields:
        field.former_labels = [*field.former_labels, *history.kin(field.label)]


def _require_none(problems: Sequence[str], what: str) -> None:
    if problems:
        named = "\n".join(problems[:MAX_NAMED])
        more = f"\n… and {len(problems) - MAX_NAMED} more." if len(problems) > MAX_NAMED else ""
        raise RowsLeftAlone(
            f"{counted(len(problems), 'row', 'rows')} {what}; the others were, and running it again leaves them "
            f"alone.\n{named}{more}"
        )
