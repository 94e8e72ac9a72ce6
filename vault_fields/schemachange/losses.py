"""The operations that take from encrypted values what opens them, derived from the states of the models alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db.migrations.operations import AddField, AlterField, RemoveField
from django.db.migrations.state import ModelState
from django.db.models import CharField, JSONField, TextField

from vault_fields.fields.base import EncryptedField
from vault_fields.fields.companion import CompanionField
from vault_fields.schemachange.effects import Effect, column_of, table_of

__all__ = ["Loss", "companion_name", "losses"]


@dataclass(frozen=True, slots=True)
class Loss:
    """A column whose encrypted values, if it has any, could not be opened after an operation."""

    effect: Effect
    model: ModelState
    field: str
    table: str
    column: str
    companion: str
    # The effect of the operation on the field, for messages.
    deed: str
    # The operation that has the same effect without a loss.
    remedy: str
    # The column with the keys afterwards, if it is another one. Values whose keys it already has are not lost.
    keys: str | None = None

    @property
    def field_before(self) -> Any:
        return self.model.fields[self.field]

    @property
    def is_still_encrypted(self) -> bool:
        """Whether the field stays encrypted, and looks for its keys in another column than the one that has them."""
        later = self.effect.model_after(self.model.name).fields[self.field]
        if not isinstance(later, EncryptedField):
            return False
        keys = companion_name(self.field, self.field_before)
        return companion_name(self.field, later) != keys or self.companion != _column(self.model, keys)

    @property
    def label(self) -> str:
        return f"{self.effect.app_label}.{self.model.name}.{self.field}"


def losses(effect: Effect) -> Iterator[Loss]:
    """
    Yield the losses an operation would cause. A field removed with its values, or its model, is removed on purpose: no
    loss.
    """
    operation = effect.operation
    if not isinstance(operation, (AddField, AlterField, RemoveField)):
        return
    before, after = effect.model_before(operation.model_name), effect.model_after(operation.model_name)
    for name, field in before.fields.items():
        later = after.fields.get(name)
        if isinstance(field, EncryptedField) and later is not None:
            yield from _of_field(effect, before, after, name, field, later)
    gone = operation.name
    if isinstance(before.fields.get(gone), CompanionField) and not isinstance(after.fields.get(gone), CompanionField):
        yield from _of_other_fields(effect, before, gone)
        if gone not in after.fields:
            yield from _of_plain_columns(effect, before, after, gone)


def companion_name(name: str, field: EncryptedField) -> str:
    """Return the companion of a field in a state, where fields do not know their names."""
    return field.keys_field or f"{name}_keys"


def _of_field(
    effect: Effect, before: ModelState, after: ModelState, name: str, field: EncryptedField, later: Any
) -> Iterator[Loss]:
    decrypt = f'DecryptField("{before.name_lower}", "{name}")'
    if not isinstance(later, EncryptedField):
        keys = companion_name(name, field)
        yield _loss(effect, before, name, field, keys, f"turn it into a {type(later).__name__}", decrypt)
        return
    keys, later_keys = companion_name(name, field), companion_name(name, later)
    if later_keys != keys:
        move = f'MoveToCompanion("{before.name_lower}", ["{name}"], "{later_keys}")'
        deed = f"look for its data keys in {later_keys!r}, not in {keys!r}"
        companion = after.fields.get(later_keys)
        later_column = None if companion is None else column_of(later_keys, companion)
        yield replace(_loss(effect, before, name, field, keys, deed, move), keys=later_column)
    elif isinstance(before.fields.get(keys), CompanionField) and not isinstance(after.fields.get(keys), CompanionField):
        yield _loss(effect, before, name, field, keys, f"take its companion {keys!r} away", decrypt)


def _of_other_fields(effect: Effect, before: ModelState, companion: str) -> Iterator[Loss]:
    """Yield losses of fields that were renamed without their companion, and still have their keys in it."""
    for name, field in before.fields.items():
        if not isinstance(field, EncryptedField) or (keys := companion_name(name, field)) == companion:
            continue
        deed = f"take {companion!r} away, which has its data keys, and not {keys!r}"
        remedy = f'RenameField("{before.name_lower}", "{companion}", "{keys}")'
        later_column = _column(before, keys) if keys in before.fields else None
        yield replace(_loss(effect, before, name, field, companion, deed, remedy), keys=later_column)


def _of_plain_columns(effect: Effect, before: ModelState, after: ModelState, companion: str) -> Iterator[Loss]:
    """Yield losses of columns that are plain by now, but may hold values encrypted before."""
    for name, field in after.fields.items():
        if isinstance(field, (CharField, JSONField, TextField)) and not isinstance(
            field, (CompanionField, EncryptedField)
        ):
            deed = f"take the companion {companion!r} away, which opens what is still encrypted in it"
            yield _loss(effect, before, name, field, companion, deed, f'DecryptField("{before.name_lower}", "{name}")')


def _loss(effect: Effect, model: ModelState, name: str, field: Any, companion: str, deed: str, remedy: str) -> Loss:
    table = table_of(effect.app_label, model)
    return Loss(effect, model, name, table, column_of(name, field), _column(model, companion), deed, remedy)


def _column(model: ModelState, name: str) -> str:
    return column_of(name, model.fields[name]) if name in model.fields else name
