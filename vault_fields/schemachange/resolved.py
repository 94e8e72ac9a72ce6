"""Losses that a plan settles itself: by decrypting, moving or removing the values, or by giving names back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db.migrations import operations as ops
from django.db.migrations.state import ProjectState

from vault_fields.fields.base import EncryptedField
from vault_fields.operations import MoveToCompanion
from vault_fields.schemachange.effects import Effect, column_of, table_of
from vault_fields.schemachange.losses import Loss, companion_name, losses
from vault_fields.schemachange.names import Column, Names
from vault_fields.schemachange.plan import decrypted_column, is_foreign, is_in

__all__ = ["exchanged_companions", "is_here", "losses_on_purpose", "unsettled_losses"]


def unsettled_losses(
    migrations: Sequence[Sequence[Effect]], alias: str
) -> Iterator[tuple[Loss, str, str, str | None, str | None]]:
    """
    Yield the losses that nothing in the plan makes good: each with its table, column and companion, and the companion
    it has afterwards, all as the database names them now.

    The effect of a foreign operation on the rows of its app is unknown here. Operations that follow it in the app are
    checked when they are about to run.
    """
    names = Names()
    settled: set[Column | None] = {None}
    moved: set[tuple[str, str, str, str]] = set()
    touched: set[str] = set()
    on_purpose = losses_on_purpose(migrations)
    for migration in migrations:
        for effect in migration:
            operation = effect.operation
            if (column := decrypted_column(effect)) is not None:
                settled.add(names.now(*column))
            elif isinstance(operation, MoveToCompanion):
                moved |= _moved(effect)
            elif is_foreign(effect):
                touched.add(effect.app_label)
            for loss in losses(effect):
                now = names.now(loss.table, loss.column)
                if (
                    now is not None
                    and now not in settled
                    and effect.app_label not in touched
                    and is_here(loss, alias)
                    and (id(operation), loss.field) not in on_purpose
                    and (*_place(loss), _keys_field(loss)) not in moved
                ):
                    companion, keys = names.named(loss.table, loss.companion), names.named(loss.table, loss.keys)
                    yield loss, *now, companion, keys
            names.follow(effect)


def is_here(loss: Loss, alias: str) -> bool:
    """Whether the operation changes this database."""
    return is_in(loss.effect.app_label, loss.model, alias)


def _place(loss: Loss) -> tuple[str, str, str]:
    return loss.effect.app_label, loss.model.name_lower, loss.field


def _keys_field(loss: Loss) -> str:
    """Return the name of the companion that a field has afterwards."""
    field = loss.effect.model_after(loss.model.name).fields[loss.field]
    return companion_name(loss.field, field) if isinstance(field, EncryptedField) else ""


def _moved(effect: Effect) -> set[tuple[str, str, str, str]]:
    """Return the fields that a ``MoveToCompanion`` moves, with the names of their companions afterwards."""
    operation: Any = effect.operation
    key = (effect.app_label, operation.model_name.lower())
    if not effect.backwards:
        return {(*key, name, operation.companion) for name in operation.names}
    fields: dict[str, Any] = effect.before.models[key].fields
    return {(*key, name, companion_name(name, fields[name])) for name in operation.names}


def exchanged_companions(migrations: Sequence[Sequence[Effect]]) -> Iterator[tuple[str, str, str, str, str | None]]:
    """
    Yield the fields whose companion is another column after the plan than now: the label, the table, the column, the
    companion and the other companion, as the database names them now; None for one that does not exist yet.

    Companions look alike: if several are renamed, one can be taken for another.
    """
    steps = [effect for migration in migrations for effect in migration]
    if not steps:
        return
    names = Names()
    present = {
        (table_of(app_label, model), column_of(name, field)): column_of(keys, model.fields[keys])
        for (app_label, _), model in steps[0].before.models.items()
        for name, field in model.fields.items()
        if isinstance(field, EncryptedField) and (keys := companion_name(name, field)) in model.fields
    }
    dealt_with: set[str] = set()
    # Exchanges that existed before a foreign operation, which may deal with what follows.
    found_before: dict[str, set[Column | None]] = {}
    decrypted: set[Column | None] = {None}
    for effect in steps:
        if isinstance(effect.operation, MoveToCompanion):
            dealt_with.add(effect.app_label)
        elif is_foreign(effect) and effect.app_label not in found_before:
            others = _other_companions(effect.before, effect.app_label, present, names)
            found_before[effect.app_label] = {now for _, now, _ in others}
        if (column := decrypted_column(effect)) is not None:
            decrypted.add(names.now(*column))
        names.follow(effect)
    for app_label in {app_label for app_label, _ in steps[-1].after.models} - dealt_with:
        for label, now, later in _other_companions(steps[-1].after, app_label, present, names):
            if now not in decrypted and now in found_before.get(app_label, {now}):
                yield label, *now, present[now], later


def _other_companions(
    state: ProjectState, app_label: str, present: Mapping[Column, str], names: Names
) -> Iterator[tuple[str, Column, str | None]]:
    """
    Yield the fields of an app whose companion is another column than ``present`` says, with both columns' present
    names.
    """
    for (label, _), model in state.models.items():
        for name, field in model.fields.items():
            if label != app_label or not isinstance(field, EncryptedField):
                continue
            table, companion = table_of(app_label, model), companion_name(name, field)
            now = names.now(table, column_of(name, field))
            later = names.named(table, column_of(companion, model.fields.get(companion, field)))
            if now is not None and now in present and present[now] != later:
                yield f"{app_label}.{model.name}.{name}", now, later


def losses_on_purpose(migrations: Sequence[Sequence[Effect]]) -> frozenset[tuple[int, str]]:
    """
    Return the losses that are intended or that the plan makes good: ``id()`` of the operation, and the field's name.
    """
    found: set[tuple[int, str]] = set()
    for number, migration in enumerate(migrations):
        for position, effect in enumerate(migration):
            following = migration[position:]
            later = [*following, *(each for other in migrations[number + 1 :] for each in other)]
            found |= {
                (id(effect.operation), loss.field)
                for loss in losses(effect)
                if _is_on_purpose(loss, following) or _is_moved_back(loss, later) or _is_renamed(loss, later)
            }
    return frozenset(found)


def _is_renamed(loss: Loss, following: Sequence[Effect]) -> bool:
    """Whether the companion with the keys of the values gets the name under which they look for it."""
    former = loss.model.fields[loss.field]
    if not isinstance(former, EncryptedField):
        return False
    present = companion_name(loss.field, former)
    for effect in following:
        if isinstance(effect.operation, ops.RenameField):
            operation = effect.operation
            names = (operation.old_name, operation.new_name)
            names = (names[1], names[0]) if effect.backwards else names
            if names[0] == present and (effect.app_label, operation.model_name_lower) == _place(loss)[:2]:
                present = names[1]  # By way of a third name, if two are exchanged.
                if present == _keys_field(loss):
                    return True
    return False


def _is_moved_back(loss: Loss, following: Sequence[Effect]) -> bool:
    """
    Whether the values follow the declaration. Reversed, ``MoveToCompanion`` runs after the operations it precedes.
    """
    return loss.keys is not None and any(
        effect.backwards
        and isinstance(effect.operation, MoveToCompanion)
        and (effect.app_label, effect.operation.model_name.lower(), loss.field)
        in {(*_place(loss)[:2], name) for name in effect.operation.names}
        for effect in following
    )


def _is_on_purpose(loss: Loss, following: Sequence[Effect]) -> bool:
    """Whether the same migration goes on to remove the field, or its model, with all values."""
    key = (loss.effect.app_label, loss.model.name_lower)
    for effect in following:
        model = effect.after.models.get(key)
        if model is None or loss.field not in model.fields:
            return isinstance(effect.operation, (ops.AddField, ops.CreateModel, ops.DeleteModel, ops.RemoveField))
    return False
