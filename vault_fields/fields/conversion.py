"""Columns that can become encrypted ones: those whose rows hold text that every database spells alike."""

import re
from typing import Any, NoReturn

from django.db import models

from vault_fields.exceptions import MigrationRefused
from vault_fields.text.counting import counted

__all__ = ["holds_text", "is_retyped", "refuse_conversion", "require_text", "require_values"]

_TEXT = {"CharField", "TextField", "SlugField", "FileField", "FilePathField"}
_WHOLE_NUMBERS = {"IntegerField", "BigIntegerField", "SmallIntegerField", "PositiveIntegerField"}
_WHOLE_NUMBERS |= {"PositiveBigIntegerField", "PositiveSmallIntegerField"}
# Types whose columns become encrypted ones of the same type only, or plain ones again. The first that fits counts: a
# DateTimeField is a DateField to Python.
_TYPES = (
    models.BinaryField,
    models.BooleanField,
    models.DateTimeField,
    models.DateField,
    models.DecimalField,
    models.DurationField,
    models.FloatField,
    models.GenericIPAddressField,
    models.IntegerField,
    models.TimeField,
    models.UUIDField,
)
# The columns of fields that are not Django's own.
_TEXT_COLUMN = re.compile(r"(?i)(n?varchar|char|character varying|citext|(tiny|medium|long)?text)(\(\d+\))?( .*)?")


def require_text(operation: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
    """Refuse to encrypt a column of existing rows if the database would choose the spelling of its values."""
    model = from_state.apps.get_model(app_label, operation.model_name)
    old = model._meta.get_field(operation.name)
    new = to_state.apps.get_model(app_label, operation.model_name)._meta.get_field(operation.name)
    connection = schema_editor.connection
    if not getattr(new, "is_encrypted", False) or schema_editor.collect_sql or holds_text(old, new, connection):
        return
    if not operation.allow_migrate_model(connection.alias, model):
        return
    if model._base_manager.using(connection.alias).filter(**{f"{old.name}__isnull": False}).exists():
        refuse_conversion(f"{model._meta.label}.{old.name}", old, new)


def require_values(operation: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
    """Refuse NOT NULL while a row has no value: the value that Django would write there is not encrypted."""
    model = from_state.apps.get_model(app_label, operation.model_name)
    old = model._meta.get_field(operation.name)
    new = to_state.apps.get_model(app_label, operation.model_name)._meta.get_field(operation.name)
    alias = schema_editor.connection.alias
    if not getattr(new, "is_encrypted", False) or new.null or not old.null or schema_editor.collect_sql:
        return
    if operation.allow_migrate_model(alias, model) and (
        rows := model._base_manager.using(alias).filter(**{f"{old.name}__isnull": True}).count()
    ):
        raise MigrationRefused(
            f"{model._meta.label}.{old.name} cannot be made NOT NULL: {counted(rows, 'row has', 'rows have')} no "
            f"value, and it is encrypted "
            "for the key context of each row, which a default in the database does not know. Nothing was changed. "
            "Give the rows their values with save() or bulk_update() in RunPython before that."
        )


def refuse_conversion(label: str, old: Any, new: Any) -> NoReturn:
    kind = type(old).__name__
    way_out = "Add an encrypted field beside it, give the rows their values in RunPython, and remove the old one"
    if kind in {each.__name__ for each in _TYPES}:
        way_out = f"Declare it as the encrypted field of its type, Encrypted{kind}"
    raise MigrationRefused(
        f"{label} is a {kind}, and {type(new).__name__} is of another type, for which each database writes the values "
        f"in a way of its own; the table has rows, and nothing was changed. {way_out}."
    )


def is_retyped(old: Any, new: Any) -> bool:
    """
    Whether a column becomes an encrypted one of its type, or a plain one again, and a database would spell its values.

    Then they are carried over by Python: see ``vault_fields.schemachange.retyping``.
    """
    are_encrypted = getattr(old, "is_encrypted", False), getattr(new, "is_encrypted", False)
    if are_encrypted[0] == are_encrypted[1]:
        return False
    plain, encrypted = (old, new) if are_encrypted[1] else (new, old)
    kind = plain.get_internal_type()
    return kind not in _WHOLE_NUMBERS and kind == _type_of(encrypted)


def _type_of(encrypted: Any) -> str | None:
    """Return the type of Django's that an encrypted field has, unless that is text or JSON."""
    return next((each.__name__ for each in _TYPES if isinstance(encrypted, each)), None)


def holds_text(old: Any, new: Any, connection: Any) -> bool:
    """Whether a column can become the encrypted one: its values are spelled as text would be, or are converted."""
    kind, later = old.get_internal_type(), _type_of(new)
    if getattr(old, "is_encrypted", False):
        return True
    if later is not None:
        return is_retyped(old, new) or (later == "IntegerField" and kind in _WHOLE_NUMBERS)
    if kind in _TEXT | _WHOLE_NUMBERS:
        return True
    if kind == "JSONField":
        return isinstance(new, models.JSONField)
    return not hasattr(models, kind) and _TEXT_COLUMN.fullmatch(old.db_type(connection) or "") is not None
