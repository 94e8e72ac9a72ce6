"""Columns that can become encrypted ones: those whose rows hold text that every database spells alike."""

import re
from typing import Any, NoReturn

from django.db import models

from vault_fields.exceptions import MigrationRefused
from vault_fields.text.counting import counted

__all__ = ["holds_text", "is_retyped", "refuse_conversion", "require_text", "require_values", "shares_texts"]

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
    """Refuse another type for a column of existing rows if the database would choose the spelling of its values."""
    model = from_state.apps.get_model(app_label, operation.model_name)
    old = model._meta.get_field(operation.name)
    new = to_state.apps.get_model(app_label, operation.model_name)._meta.get_field(operation.name)
    connection = schema_editor.connection
    if schema_editor.collect_sql or holds_text(old, new, connection):
        return
    if not operation.allow_migrate_model(connection.alias, model):
        return
    rows: Any = models.QuerySet(model, using=connection.alias)  # A manager may leave rows out.
    if rows.filter(**{f"{old.name}__isnull": False}).exists():
        refuse_conversion(f"{model._meta.label}.{old.name}", old, new)


def require_values(operation: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
    """Refuse NOT NULL while a row has no value: the value that Django would write there is not encrypted."""
    model = from_state.apps.get_model(app_label, operation.model_name)
    old = model._meta.get_field(operation.name)
    new = to_state.apps.get_model(app_label, operation.model_name)._meta.get_field(operation.name)
    alias = schema_editor.connection.alias
    if not getattr(new, "is_encrypted", False) or new.null or not old.null or schema_editor.collect_sql:
        return
    queryset: Any = models.QuerySet(model, using=alias)
    if operation.allow_migrate_model(alias, model) and (
        rows := queryset.filter(**{f"{old.name}__isnull": True}).count()
    ):
        raise MigrationRefused(
            f"{model._meta.label}.{old.name} cannot be made NOT NULL: {counted(rows, 'row has', 'rows have')} no "
            f"value, and it is encrypted "
            "for the key context of each row, which a default in the database does not know. Nothing was changed. "
            "Give the rows their values with save() or bulk_update() in RunPython before that."
        )


def refuse_conversion(label: str, old: Any, new: Any) -> NoReturn:
    kind, later = type(old).__name__, type(new).__name__
    way_out = "Add a field of that type beside it, give the rows their values in RunPython, and remove the old one"
    if not _is_encrypted(old) and kind in {each.__name__ for each in _TYPES}:
        way_out = f"Declare it as the encrypted field of its type, Encrypted{kind}"
    raise MigrationRefused(
        f"{label} is a {kind}, and {later} does not read what the column would hold: each type, and each database, "
        f"writes values as text in a way of its own. The table has rows, and nothing was changed. {way_out}."
    )


def is_retyped(old: Any, new: Any) -> bool:
    """
    Whether a column becomes an encrypted one of its type, or a plain one again, and a database would spell its values.

    Then they are carried over by Python: see ``vault_fields.schemachange.retyping``.
    """
    if _is_encrypted(old) == _is_encrypted(new):
        return False
    plain, encrypted = (old, new) if _is_encrypted(new) else (new, old)
    kind = plain.get_internal_type()
    return kind not in _WHOLE_NUMBERS and kind == _type_of(encrypted)


def holds_text(old: Any, new: Any, connection: Any) -> bool:
    """Whether a column may change its type: its values are texts that both read, or they are converted."""
    if not _is_encrypted(old):
        return not _is_encrypted(new) or _can_be_encrypted(old, new, connection)
    former, kind = _type_of(old), new.get_internal_type()
    if _is_encrypted(new) or former is None or kind in _TEXT:
        return True
    return is_retyped(old, new) or (former == "IntegerField" and kind in _WHOLE_NUMBERS)


def shares_texts(former: Any, later: Any) -> bool:
    """Whether an encrypted field reads what another one encrypted. Text and JSON have operations of their own."""
    if _type_of(later) == _type_of(former):
        return True
    # As text the spaces would be seen that fill values of some types.
    return isinstance(later, (models.CharField, models.TextField)) and not former.padded_to


def _can_be_encrypted(old: Any, new: Any, connection: Any) -> bool:
    kind, later = old.get_internal_type(), _type_of(new)
    if later is not None:
        return is_retyped(old, new) or (later == "IntegerField" and kind in _WHOLE_NUMBERS)
    if kind in _TEXT | _WHOLE_NUMBERS:
        return True
    if kind == "JSONField":
        return isinstance(new, models.JSONField)
    return not hasattr(models, kind) and _TEXT_COLUMN.fullmatch(old.db_type(connection) or "") is not None


def _type_of(encrypted: Any) -> str | None:
    """Return the type of Django's that an encrypted field has, unless that is text or JSON."""
    return next((each.__name__ for each in _TYPES if isinstance(encrypted, each)), None)


def _is_encrypted(field: Any) -> bool:
    return getattr(field, "is_encrypted", False)
