"""Writes of whole rows, in which a group - its values and their companion - is written all or none, on every path."""

from collections.abc import Iterable, Iterator, Sequence, Set as AbstractSet
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.models import Model

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.blindindex import note_apart
from vault_fields.fields.groups import Group, all_groups_of
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.plaintext import leave_in_the_clear
from vault_fields.fields.sealed import Handover
from vault_fields.fields.sealing import seal
from vault_fields.fields.state import GroupState
from vault_fields.fields.writtenback import forget_assigned

__all__ = [
    "handed_over",
    "load_missing",
    "load_sealed",
    "prepare_rows",
    "require_matched_context",
    "require_settled_context",
    "seal_chosen",
    "seal_rows",
    "settle_context",
]


def prepare_rows(instances: Sequence[Model], model: type[Model], using: str | None) -> None:
    """
    Seal rows that are about to be written whole, to the database ``using``.

    Every group of a row is sealed at once, in whichever of its tables it is, so that equal contexts share a key.
    """
    groups = all_groups_of(model)
    if any(group.late_columns for group in groups):
        for instance in instances:
            settle_context(instance)
    for group in groups:
        load_missing(instances, group)
    rows = [(instance, group) for instance in instances for group in groups]
    _seal(rows, using, written=instances, fields=model._meta.concrete_fields)


def settle_context(instance: Model, names: AbstractSet[str] | None = None) -> None:
    """
    Give the columns that decide whether a value opens the values with which they are saved.

    Some fields choose theirs only in ``pre_save``, as slugs that are made of a title. With ``names``, only those
    columns are saved.
    """
    for group in all_groups_of(type(instance)):
        for field in group.late_columns:
            if names is None or names & {field.name, field.attname}:
                setattr(instance, field.attname, field.pre_save(instance, instance._state.adding))


def require_settled_context(instance: Model, group: Group) -> None:
    """Refuse a column that chose another value after the row was sealed for the first one."""
    if group.late_columns and (changed := GroupState(instance, group).changed_columns()):
        raise KeyContextError(
            f"{group.members[0].label} (pk={instance.pk!r}): {', '.join(each.attname for each in changed)} has another "
            "value each time its pre_save() is called, and decides whether the value opens. Let it keep the value "
            "that it has."
        )


def seal_rows(
    rows: Sequence[tuple[Model, Group]], using: str | None = None, *, new_keys: NewKeys | None = None
) -> None:
    """Seal whole rows for the database that they are written to, if that is known."""
    for instance, group in rows:
        load_missing([instance], group)
    _seal(rows, using, new_keys)


def seal_chosen(instance: Model, group: Group) -> None:
    """
    Seal a value that a field chose while its row is being written, under the data key that the row has by then.

    Columns that Django read before may be the companion, or values beside this one: they stay as they are.
    """
    seal_rows([(instance, group)], new_keys=NewKeys(shared=True, by_chance=False))


def _seal(
    rows: Sequence[tuple[Model, Group]],
    using: str | None,
    new_keys: NewKeys | None = None,
    *,
    written: Sequence[Model] = (),
    fields: Sequence[Any] = (),
) -> None:
    leave_in_the_clear(rows)
    seal(rows, new_keys, using=using, written=written, fields=fields)
    for instance, group in rows:
        instance.__dict__[group.companion] = GroupState(instance, group).written_companion
        forget_assigned(instance)


def require_matched_context(model: type[Model], names: set[str], matched: Iterable[str]) -> set[str]:
    """
    Return the columns that an upsert has to update with ``names``.

    The values are encrypted for the context of the rows as given. An existing row has to end up with the same context:
    its columns are those by which rows are matched, or they are updated together with all that depends on them.
    """
    matched = set(matched)
    for group in all_groups_of(model):
        label = group.members[0].label
        moving = names & group.context_names - matched
        if not moving and not names & group.columns:
            continue
        left = ", ".join(sorted(group.member_names - names))
        if moving and left:
            raise KeyContextError(
                f"{label}: an upsert that updates {', '.join(sorted(moving))} has to update what is encrypted for it: "
                f"add {left} to update_fields, or {', '.join(sorted(moving))} to unique_fields."
            )
        if left:
            raise KeyContextError(
                f"{label}: an upsert gives the row a companion, which has to open all values that share it: add {left} "
                "to update_fields."
            )
        for binding in group.all_bindings:
            if not (names | matched) & {binding.field.name, binding.attname}:
                raise KeyContextError(
                    f"{label}: an upsert that updates encrypted values has to name {binding.attname!r} in "
                    "unique_fields or update_fields: an existing row might belong to another key context."
                )
        names = names | group.columns
    return names


def load_missing(instances: Sequence[Model], group: Group) -> None:
    """Load the group's deferred columns, sealed: what is written together has to be in memory. At most one query."""
    load_sealed(instances, group.member_names)


def load_sealed(instances: Sequence[Model], names: AbstractSet[str], *, for_write: bool = True) -> None:
    """Load these columns, where they are deferred, from the database that the instances were read from."""
    lacking = [instance for instance in instances if not names <= instance.__dict__.keys()]
    if not lacking:
        return
    queryset = type(lacking[0])._base_manager.using(lacking[0]._state.db)
    if for_write and connections[queryset.db].in_atomic_block:
        # Nobody may re-encrypt between this and the write that follows.
        queryset = queryset.select_for_update()
    stored = queryset.only(*names).in_bulk([instance.pk for instance in lacking])
    for instance in lacking:
        # Django reports a row that is gone when it updates it.
        row = stored[instance.pk].__dict__ if instance.pk in stored else {}
        if alone := [
            name
            for group in all_groups_of(type(instance))
            for name in group.hashes_of(names - instance.__dict__.keys())
        ]:
            note_apart(instance, alone)
        for name in names:
            instance.__dict__.setdefault(name, row.get(name))


@contextmanager
def handed_over(instances: Iterable[Model], names: Iterable[str]) -> Iterator[None]:
    """Let Django read the stored texts while it reads the attributes of these rows in order to write them."""
    names = list(names)
    rows = [instance.__dict__ for instance in instances]
    taken = [(data, name, data[name]) for data in rows for name in names if name in data]
    for data, name, held in taken:
        data[name] = Handover(held)
    try:
        yield
    finally:
        for data, name, held in taken:
            data[name] = held
