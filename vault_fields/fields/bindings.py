"""The row's own columns that decide whether a value opens, and their values as text: one spelling for each."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any
from uuid import UUID

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import connection
from django.db.models import (
    AutoField,
    CharField,
    Field,
    ForeignKey,
    IntegerField,
    Model,
    OneToOneField,
    TextField,
    UUIDField,
)

from vault_fields.exceptions import KeyContextError

__all__ = ["Binding", "attribute_text", "column_type", "compares_exactly", "concrete_field", "kept_class"]

# Columns of these types load a value of this very class as it was saved, and need not be asked how.
_KEPT: tuple[tuple[type, tuple[type["Field[Any, Any]"], ...]], ...] = (
    (int, (IntegerField, AutoField)),
    (str, (CharField, TextField)),
    (UUID, (UUIDField,)),
)

_RELATIONS = {ForeignKey, OneToOneField}
_CONVERSIONS = ("to_python", "get_prep_value", "get_db_prep_value")


class Binding:
    """One of the row's own columns that a context starts from, or that a value is bound to."""

    __slots__ = ("_kept", "attname", "field", "name")

    def __init__(self, name: str, field: "Field[Any, Any]") -> None:
        self.name = name
        self.field = field
        self.attname = field.attname
        # Decided when it is first needed: a relation may lead to a model that does not exist yet.
        self._kept: type | None = type(None)

    def text(self, value: object) -> str | None:
        """Return the value as a companion has it: the same before saving as after loading."""
        if value is None:
            return None
        if value.__class__ is self._kept:
            return str(value)
        try:
            if self._kept is type(None):
                self._kept = kept_class(self.field)
            attribute_text(value)  # Refuse values that the column would silently convert, as 7.9 to 7.
            return attribute_text(self.loaded(self._stored(value)))
        except KeyContextError as error:
            raise KeyContextError(f"{self.attname!r} has {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, ValidationError):
            raise KeyContextError(f"{self.attname!r} has a value that its column does not take.") from None

    def selected_text(self, text: str | None) -> str | None:
        """Return the same for the text that the database makes of the column."""
        convert = _NATIVE.get(column_type(self.field).get_internal_type(), str)
        return None if text is None else self.text(self.loaded(convert(text)))

    def _stored(self, value: object) -> Any:
        if hasattr(column_type(self.field), "from_db_value"):
            return self.field.get_db_prep_value(value, connection, prepared=False)
        return self.field.get_prep_value(value)

    def loaded(self, stored: Any) -> Any:
        """Return the attribute as it is after loading: some fields store another value than they show."""
        target: Any = column_type(self.field)
        if hasattr(target, "from_db_value"):
            return target.from_db_value(stored, None, connection)
        return target.to_python(stored)


def kept_class(field: "Field[Any, Any]") -> type | None:
    """Return the class whose values the column loads as they were saved; None where only the column can tell."""
    while type(field) in _RELATIONS:
        field = field.target_field  # type: ignore[attr-defined]
    return next((cls for cls, columns in _KEPT if _is_like(field, columns)), None)


def _is_like(field: "Field[Any, Any]", columns: tuple[type["Field[Any, Any]"], ...]) -> bool:
    """Whether a column handles its values as Django's own class does."""
    own: Any = type(field)
    return not hasattr(own, "from_db_value") and any(
        issubclass(own, column) and all(getattr(own, name) is getattr(column, name) for name in _CONVERSIONS)
        for column in columns
    )


# The type that a driver returns for columns of these types. For others it is text, or Django's own fields accept text.
_NATIVE: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("AutoField", "BigAutoField", "SmallAutoField"), int),
    **dict.fromkeys(("IntegerField", "BigIntegerField", "SmallIntegerField"), int),
    **dict.fromkeys(("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"), int),
    "UUIDField": UUID,
}


def column_type(field: "Field[Any, Any]") -> "Field[Any, Any]":
    """Return the column whose values a foreign key has."""
    while isinstance(field, ForeignKey):
        field = field.target_field
    return field


def compares_exactly(field: "Field[Any, Any]") -> bool:
    """Whether a database treats two values of the column as equal only if they are; for text, its collation decides."""
    return column_type(field).get_internal_type() in _NATIVE


def attribute_text(value: object) -> str:
    """
    Return the contribution of an attribute to a context: ``str``, ``int``, ``UUID``, or an ``Enum`` of these, as text.

    Anything else has several spellings, or none, and is refused.
    """
    if value.__class__ is int or value.__class__ is str:
        return str(value)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        # A subclass may print itself differently.
        return str.__str__(value)
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise KeyContextError(f"a value of type {type(value).__name__} cannot name a tenant; use str, int, UUID or Enum.")


def concrete_field(model: type[Model], name: str) -> "Field[Any, Any]":
    """Return the column of ``model`` or its parents that has this name or attname."""
    for field in model._meta.concrete_fields:
        if name in (field.name, field.attname):
            return field
    raise FieldDoesNotExist(f"{model._meta.label} has no column {name!r}.")
