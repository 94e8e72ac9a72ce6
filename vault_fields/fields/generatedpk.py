"""
Rows whose values are bound to the key that the database generates: inserted first, and encrypted then.

Both are one transaction, so that nobody else sees a row without its values, and an error leaves no row behind. The
statement that inserts writes an empty text for each value and companion, which satisfies the constraints of a column.
Meanwhile the instance keeps its values, for columns that are made of them. See
``docs/decisions/0085-a-row-tied-to-its-own-key-is-inserted-first.md``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models import Model, QuerySet

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.groups import all_groups_of, groups_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.saving import seal_rows, settle_context
from vault_fields.fields.sealed import Sealed

__all__ = ["PLACEHOLDER", "SealedRows", "awaits_key", "has_chosen", "insert_first", "is_inserted", "placeholder"]
__all__ += ["rows_to_insert_first"]

Result = TypeVar("Result")

# The one of the two statements that a row is in.
_STATEMENT = "vault_fields_statement"
_INSERT, _UPDATE = "insert", "update"

PLACEHOLDER = Sealed("")


class SealedRows(QuerySet[Any]):
    """Rows whose ``bulk_update()`` writes them as they are: sealed a moment ago, and locked by this transaction."""


def awaits_key(instance: Model, table: type[Model]) -> bool:
    """Whether values in ``table`` are bound to the key that the database still has to give its row."""
    key = table._meta.auto_field
    return key is not None and getattr(instance, key.attname) is None and _key_decides(table)


def _key_decides(table: type[Model]) -> bool:
    """Whether some value is tied to a key that the database counts up."""
    key = table._meta.auto_field
    return any(binding.field is key for group in groups_of(table) for binding in group.all_bindings)


def rows_to_insert_first(objs: Iterable[Model], model: type[Model], using: str, *, is_upsert: bool) -> list[Model]:
    """
    Return the rows that wait for their keys. Raises ``KeyContextError`` where ``bulk_create()`` does not return keys.
    """
    table: Any = model._meta.concrete_model
    rows = [obj for obj in objs if awaits_key(obj, table)] if _key_decides(table) else []
    if len({id(row) for row in rows}) != len(rows):
        reason = "gives one instance several keys; pass an instance for each row."
    elif is_upsert:
        reason = "with update_conflicts or ignore_conflicts does not tell; give the rows their keys, or save() each."
    elif not connections[using].features.can_return_rows_from_bulk_insert:
        reason = "of this database does not tell; save() each row."
    else:
        return rows
    for row in rows:
        for group in groups_of(table):
            for binding in group.all_bindings:
                if binding.field is table._meta.auto_field and placeholder(row, group.members):
                    raise KeyContextError(
                        f"{group.members[0].label} is encrypted for {binding.attname!r} of its row, which "
                        f"bulk_create() {reason}"
                    )
    return []


def insert_first(
    instances: Sequence[Model],
    table: type[Model],
    using: str | None,
    insert: Callable[[], Result],
    update: Callable[[list[Model], set[str]], object],
) -> Result:
    """
    Call ``insert``, encrypt, and call ``update`` with the rows that have values and the columns to write.

    If anything fails, the instances are again as they were.
    """
    key: Any = table._meta.auto_field
    groups = groups_of(table)
    names = {key.attname} | {name for group in all_groups_of(type(instances[0])) for name in group.columns}
    before = [{name: data[name] for name in names & data.keys()} for data in map(vars, instances)]
    try:
        for instance in instances:
            settle_context(instance)
        with transaction.atomic(using, savepoint=False):
            with _statement(instances, _INSERT):
                result = insert()
            valued = [group for group in groups if any(placeholder(row, group.members) for row in instances)]
            rows = [row for row in instances if any(placeholder(row, group.members) for group in valued)]
            seal_rows([(row, group) for row in instances for group in all_groups_of(type(row))], using)
            if rows:
                with _statement(rows, _UPDATE):
                    update(rows, {name for group in valued for name in group.columns})
    except BaseException:
        for instance, held in zip(instances, before, strict=True):
            vars(instance).update(held)
        raise
    return result


def is_inserted(instance: Model) -> bool:
    """Whether the row is being inserted, to be encrypted when it has its key."""
    return vars(instance._state).get(_STATEMENT) == _INSERT


def has_chosen(instance: Model) -> bool:
    """Whether its fields have already chosen the values to write, when it was inserted."""
    return vars(instance._state).get(_STATEMENT) == _UPDATE


def placeholder(instance: Model, members: Iterable[Encrypted]) -> Sealed | None:
    """Return the stand-in for values, or their companion, until the row has its key; NULL, if there is no value."""
    has_value = any(vars(instance).get(member.attname) is not None for member in members)
    return PLACEHOLDER if has_value else None


@contextmanager
def _statement(instances: Iterable[Model], name: str) -> Iterator[None]:
    states = [vars(instance._state) for instance in instances]
    for state in states:
        state[_STATEMENT] = name
    try:
        yield
    finally:
        for state in states:
            state.pop(_STATEMENT, None)
