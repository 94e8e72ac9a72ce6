"""The text of a column, by which contexts are compared: does it stay the same when the column changes its type?"""

from collections.abc import Iterator
from typing import Any

from django.db.migrations.state import ProjectState
from django.db.migrations.utils import resolve_relation
from django.db.models import CharField, ForeignKey

from vault_fields.fields.base import EncryptedField
from vault_fields.schemachange.names import Place

__all__ = ["columns_of_contexts", "keeps_spelling", "taken_length"]

_WHOLE_NUMBERS = {f"{size}IntegerField" for size in ("", "Big", "Small", "Positive", "PositiveBig", "PositiveSmall")}
_WHOLE_NUMBERS |= {"AutoField", "BigAutoField", "SmallAutoField"}
_TEXTS = {"CharField", "FilePathField", "SlugField", "TextField"}

# The digits of the longest whole number that a database has, with its sign.
_DIGITS = 20

# Options of a declaration that do not affect the text of a value.
_NEUTRAL = {
    "auto_created",
    "blank",
    "choices",
    "db_collation",
    "db_column",
    "db_comment",
    "db_index",
    "db_tablespace",
    "default",
    "db_default",
    "editable",
    "error_messages",
    "help_text",
    "max_length",
    "null",
    "primary_key",
    "serialize",
    "unique",
    "validators",
    "verbose_name",
}


def keeps_spelling(former: Any, later: Any) -> bool:
    """
    Whether every value of a column has the same text afterwards. ``False`` means that it depends on the values.

    Both are columns with values of their own, not foreign keys.
    """
    kinds = (_kind(former), _kind(later))
    room, needed = taken_length(later), taken_length(former)
    if kinds == ("number", "text"):
        return room is None or room >= _DIGITS
    is_cut = room is not None and (needed is None or needed > room)
    if kinds[0] != kinds[1] or is_cut:
        return False
    return kinds[0] in {"number", "text", "UUID"} or _options(former) == _options(later)


def taken_length(column: Any) -> int | None:
    """Return the number of characters that a column takes; None without a limit."""
    if not isinstance(column, CharField):
        return None
    length: int | None = column.max_length
    return length


def _kind(column: Any) -> Any:
    if not type(column).__module__.startswith("django."):
        return type(column)  # It may show another value than it stores.
    name = column.get_internal_type()
    if name in _WHOLE_NUMBERS:
        return "number"
    if name in _TEXTS:
        return "text"
    return "UUID" if name == "UUIDField" else type(column)


def _options(column: Any) -> Any:
    *_, arguments, options = column.deconstruct()
    return arguments, {name: value for name, value in options.items() if name not in _NEUTRAL}


def columns_of_contexts(state: ProjectState) -> Iterator[tuple[tuple[Place, str], Any]]:
    """
    Yield the columns on which encrypted values depend, by the field and its name for the column.

    Each is the column that has the values itself: for a foreign key, that of its target. No model classes are made.
    """
    for key, model in state.models.items():
        for name, field in model.fields.items():
            if isinstance(field, EncryptedField):
                for root in (*field.source.roots.values(), *field.bind_to):
                    column = _column(state, key, root)
                    if column is not None:
                        yield ((*key, name), root), column


def _column(state: ProjectState, key: tuple[str, str], name: str) -> Any:
    model = state.models.get(key)
    if model is None:
        return None
    for own, field in model.fields.items():
        if isinstance(field, ForeignKey) and name in (own, f"{own}_id"):
            return _target(state, key, field)
        if name == own:
            return field
    parents = (resolve_relation(base, *key) for base in model.bases if isinstance(base, str))
    return next((found for parent in parents if (found := _column(state, parent, name)) is not None), None)


def _target(state: ProjectState, key: tuple[str, str], field: Any) -> Any:
    target = resolve_relation(field.remote_field.model, *key)
    # An app without migrations is in no state.
    fields = state.models[target].fields if target in state.models else {}
    name = field.remote_field.field_name or next((own for own, each in fields.items() if each.primary_key), None)
    return None if name is None else _column(state, target, name)
