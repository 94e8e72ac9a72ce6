"""The migration operations that turn encrypted text into encrypted JSON, and back."""

import json
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

from vault_fields.fields.groups import group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.text import EncryptedTextField
from vault_fields.operations.base import FieldOperation, know_later_names, require_none
from vault_fields.rows.rewriting import convert_column
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import envelope as envelope_format

__all__ = ["JSONToText", "TextToJSON"]


class _Conversion(FieldOperation):
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
            know_later_names(group_of(field).members)
        problems: list[str] = []
        convert_column(field, convert, on_problem=problems.append, **self.options(schema_editor))
        require_none(problems, "could not be converted")

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
