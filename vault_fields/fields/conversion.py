"""Columns that can become encrypted ones: those whose rows hold text that every database spells alike."""

import re
from typing import Any, NoReturn

from django.db import models

from vault_fields.exceptions import MigrationRefused
from vault_fields.text.counting import counted

__all__ = ["holds_text", "refuse_conversion", "require_text", "require_values"]

_TEXT = {"CharField", "TextField", "SlugField", "FileField", "FilePathField"}
_WHOLE_NUMBERS = {"IntegerField", "BigIntegerField", "SmallIntegerField", "PositiveIntegerField"}
_WHOLE_NUMBERS |= {"PositiveBigIntegerField", "PositiveSmallIntegerField"}
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
        refuse_conversion(f"{model._meta.label}.{old.name}", old)


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


def refuse_conversion(label: str, old: Any) -> NoReturn:
    raise MigrationRefused(
        f"{label} is a {type(old).__name__}, whose values each database writes as text in a way of its own, and the "
        "table has rows: nothing was changed. Add a TextField, or a JSONField, beside it, give the rows their values "
        "in RunPython, remove the old field, and encrypt the new one."
    )


def holds_text(old: Any, new: Any, connection: Any) -> bool:
    """Whether the values of a column are spelled as text would be, or are converted."""
    kind = old.get_internal_type()
    if getattr(old, "is_encrypted", False) or kind in _TEXT | _WHOLE_NUMBERS:
        return True
    if kind == "JSONField":
        return isinstance(new, models.JSONField)
    return not hasattr(models, kind) and _TEXT_COLUMN.fullmatch(old.db_type(connection) or "") is not None
