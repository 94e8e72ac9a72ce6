"""Rows that are written to a parent's table beside the tables that inherit from it: values there come along."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Case, Field, Model, Q, QuerySet, Value, When
from django.utils.hashable import make_hashable

from vault_fields.fields.dependents import depends_on, holders_of, names_of
from vault_fields.fields.moving import Move
from vault_fields.fields.queries import portions

__all__ = ["take_along", "take_along_in_bulk", "take_along_in_upsert"]

Result = TypeVar("Result")


def take_along(
    instance: Model,
    table: Any,
    names: Iterable[str] | None,
    using: str,
    update: Callable[..., int],
    bulk_update: Callable[..., int],
    save: Callable[[], Result],
    *,
    raw: bool,
) -> Result:
    """
    Before ``save`` writes the instance to this table, write what other models hold for the row, sealed for its columns.

    Where a value could depend on what is written, costs what ``Move.concerns`` costs, and what ``Move`` costs if one
    does. Whether the instance was loaded does not matter: Django updates the row that has its key.
    """
    pk: Any = instance._get_pk_val(table._meta)
    columns = _deciding(table, table._meta.local_concrete_fields, names) if pk is not None else []
    values: dict[str, Any] = {}
    for field in columns:
        if not raw:
            _settle(instance, field)
        values[field.attname] = getattr(instance, field.attname)
    move = Move(_rows(table, Q(pk=pk), using), values, only_inheriting=True, besides=type(instance))
    if not move:
        return save()
    with transaction.atomic(using, savepoint=False):
        if not move.concerns(pk):
            return save()  # Nobody gives the row another tenant in between.
    move.prepare()
    with transaction.atomic(using, savepoint=False):
        move.write(update, bulk_update)
        result = save()
        move.require_written()
        return result


def take_along_in_bulk(
    instances: Sequence[Model],
    model: Any,
    names: Iterable[str],
    using: str,
    update: Callable[..., int],
    bulk_update: Callable[..., int],
) -> None:
    """Do the same for rows that ``bulk_update()`` writes, before it does, in its transaction."""
    for some in portions(instances):
        conditions = [(row, Q(pk=row.pk)) for row in some]
        if move := _move(conditions, model, names, using):
            move.run(update, bulk_update)


def take_along_in_upsert(
    instances: Sequence[Any],
    model: Any,
    names: Iterable[str],
    unique: Iterable[str],
    using: str,
    update: Callable[..., int],
    bulk_update: Callable[..., int],
    insert: Callable[[], Result],
) -> Result:
    """
    Do the same for rows that ``insert`` may find in the table.

    Costs three queries for those that exist: before, in the transaction, and once more afterwards, to tell whether
    they are the expected ones; and for the values that they hold, as many for each model that could hold some.
    """
    meta = model._meta
    columns = [] if meta.concrete_model._meta.parents else _deciding(model, meta.concrete_fields, names)
    if not columns:
        return insert()  # For a model with parents, Django reports that it is none for this.
    keys = list(_unique_keys(meta, [meta.pk if name == "pk" else meta.get_field(name) for name in unique]))
    for row in instances:
        row._prepare_related_fields_for_save(operation_name="bulk_create")
        for field in {*columns, *(field for key in keys for field in key)}:
            _settle(row, field)
    # Of two that are the same row, the last one is stored.
    last = {make_hashable([_values(row, key) for key in keys]): row for row in instances}
    moves: list[Move] = []
    for some in portions([*last.values()]):
        conditions = [(row, condition) for row in reversed(some) if (condition := _matching(row, keys))]
        moves += [move] if (move := _move(conditions, model, names, using)) else []
    seen: set[Any] = set()
    for move in moves:
        move.prepare()
        move.require_new(seen)
    # The caller's earlier writes stay, if it continues after an error.
    with transaction.atomic(using):
        for move in moves:
            move.write(update, bulk_update)
        result = insert()
        for move in moves:
            move.require_written()
    return result


def _move(conditions: Sequence[tuple[Model, Q]], model: Any, names: Iterable[str], using: str) -> Move | None:
    """Return the move of the rows that meet a condition; each gets the columns of the instance that belongs to it."""
    columns = _deciding(model, model._meta.concrete_fields, names)
    if not columns or not conditions:
        return None
    values = {
        field.attname: Case(
            *[When(condition, then=_expression(getattr(row, field.attname), field)) for row, condition in conditions],
            output_field=field,
        )
        for field in columns
    }
    found = Q()
    for _, condition in conditions:
        found |= condition
    return Move(_rows(model, found, using), values, only_inheriting=True)


def _deciding(model: Any, columns: Iterable[Any], names: Iterable[str] | None) -> list[Any]:
    """Return those of these columns that are written, and on which values in the tables of other models depend."""
    written = [field for field in columns if names is None or {*names_of(field)} & {*names}]
    groups = [group for holder in holders_of(model, written, only_inheriting=True) for group in holder.groups]
    return [field for field in written if any(depends_on(group, field) for group in groups)]


def _settle(instance: Model, field: Any) -> None:
    """Let a field choose its value, if it does so only when it is saved; see ``settle_context``."""
    if type(field).pre_save is not Field.pre_save:
        setattr(instance, field.attname, field.pre_save(instance, instance._state.adding))


def _unique_keys(meta: Any, named: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the columns by which an upsert may find a row: the named ones, or else all that are unique."""
    if named:
        yield named
        return
    yield from ([field] for field in meta.concrete_fields if field.unique)
    for names in (*meta.unique_together, *(constraint.fields for constraint in meta.total_unique_constraints)):
        yield [meta.get_field(name) for name in names]


def _matching(instance: Model, keys: Iterable[Sequence[Any]]) -> Q:
    found = Q()
    for key in keys:
        if None not in (values := _values(instance, key)):
            found |= Q(**{field.attname: value for field, value in zip(key, values, strict=True)})
    return found


def _values(instance: Model, key: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(getattr(instance, field.attname) for field in key)


def _rows(model: Any, condition: Q, using: str) -> Any:
    return QuerySet(model, using=using).filter(condition)


def _expression(value: Any, field: Any) -> Any:
    return value if hasattr(value, "resolve_expression") else Value(value, output_field=field)
