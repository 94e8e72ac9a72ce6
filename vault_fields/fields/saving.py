"""Writing rows so that a group - its values and their companion - is written all or none, on every path."""

from collections.abc import Iterable, Iterator, Sequence, Set as AbstractSet
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.models import Model

from vault_fields import envelope as envelope_format
from vault_fields.exceptions import KeyContextError
from vault_fields.fields.changes import changed_columns, has_companion, is_anchored, needs_sealing
from vault_fields.fields.context import Binding
from vault_fields.fields.groups import Group, all_groups_of, groups_of
from vault_fields.fields.sealed import Handover, Pending, Sealed
from vault_fields.fields.sealing import seal

__all__ = [
    "HeldBack",
    "companion_of",
    "handed_over",
    "is_sealed",
    "load_missing",
    "prepare_fixture",
    "prepare_rows",
    "prepare_save",
    "require_matched_context",
    "seal_rows",
]


def prepare_save(
    instance: Model, table: type[Model], update_fields: Iterable[str] | None, using: str | None
) -> frozenset[str] | None:
    """
    Seal what a save is about to write to the table of one model; return the ``update_fields`` to use.

    Every group of the row is sealed at once, in whichever of its tables it stands, so that equal contexts share a key.
    ``using`` is the database that it is written to, which need not be the one that it was read from.
    """
    groups = all_groups_of(type(instance))
    if update_fields is None:
        seal_rows([(instance, group) for group in groups], using)
        return None
    named = frozenset(update_fields)
    for group in groups:
        if named & (group.columns | group.context_names):
            _require_saved_context([instance], group, named, using)
    written = [group for group in groups if _writes(instance, group, named, using)]
    seal_rows([(instance, group) for group in written], using)
    for group in groups_of(table):
        named = named | group.columns if group in written else named - group.columns
    # Django takes an empty set for "all columns". A primary key is never among the columns that are updated.
    return named or frozenset({table._meta.pk.name})


def prepare_rows(instances: Sequence[Model], model: type[Model], fields: Iterable[str] | None, using: str) -> set[str]:
    """
    Seal the rows of a bulk operation; return the names to write: ``fields`` and what has to go with them.

    Without ``fields`` all columns are written.
    """
    names = set() if fields is None else set(fields)
    groups = [
        group
        for group in all_groups_of(model)
        if fields is None or names & group.columns or names & group.context_names
    ]
    for group in groups:
        if fields is not None:
            _require_saved_context(instances, group, frozenset(names), using)
            # The rest of what is written whole is what stands there, and not what stands where these were read.
            load_missing(instances, group, using)
        load_missing(instances, group)
    seal_rows([(instance, group) for instance in instances for group in groups], using)
    for group in groups:
        names |= group.columns
    return names


class HeldBack:
    """
    What the caller of a save did not name, set aside until the save is done; meanwhile there is what is stored of it.

    A group has to be written whole, but what was assigned and not named is not to be saved, and what was loaded may be
    older than what is stored. Costs one query where a group that is written has such members.
    """

    def __init__(
        self, instances: Sequence[Model], model: type[Model], named: Iterable[str] | None, using: str | None
    ) -> None:
        self._taken: list[tuple[dict[str, Any], str, Any]] = []
        if named is None:
            return
        names = frozenset(named)
        groups = [group for group in all_groups_of(model) if names & (group.columns | group.context_names)]
        unnamed = {member.attname for group in groups for member in group.members} - names
        rows = [instance.__dict__ for instance in instances]
        self._taken = [(data, name, data.pop(name)) for data in rows for name in unnamed if name in data]
        _load(instances, unnamed, using)

    def restore(self) -> None:
        """Give everything back, in place of what is stored by now."""
        for data, name, held in self._taken:
            data[name] = _returned(held, data.get(name))


def _returned(held: Any, stored: Any) -> Any:
    if isinstance(held, Pending):
        return Pending(held.value, stored if isinstance(stored, Sealed) else None)
    if not isinstance(held, Sealed) or not isinstance(stored, Sealed) or held.keys == stored.keys:
        return held
    # It was encrypted again meanwhile. What the caller has seen of it stays; what he has not, is as it is stored.
    return stored if held.opened is None else Pending(held.opened.value, stored)


def seal_rows(rows: Sequence[tuple[Model, Group]], using: str | None = None) -> None:
    """Seal whole rows for the database that they are written to, if that is known."""
    for instance, group in rows:
        load_missing([instance], group)
    seal(rows, using=using)
    for instance, group in rows:
        instance.__dict__[group.companion] = companion_of(instance, group)


def is_sealed(instance: Model, group: Group) -> bool:
    """Whether everything in the group was sealed a moment ago, or is NULL: told at a glance."""
    data = instance.__dict__
    return all(
        value is None or (isinstance(value, Sealed) and not value.loaded)
        for value in (data.get(member.attname, instance) for member in group.members)
    )


def require_matched_context(model: type[Model], names: set[str], matched: Iterable[str]) -> set[str]:
    """
    The columns that an upsert has to update with ``names``.

    The values are encrypted for the context of the rows as given. A row that is there already has to end up with the
    same one: its columns are what the rows are matched by, or they are updated together with all that depends on them.
    """
    matched = set(matched)
    for group in all_groups_of(model):
        label = group.members[0].label
        moving = names & group.context_names - matched
        if not moving and not names & group.columns:
            continue
        if moving and (left := sorted(member.name for member in group.members if member.name not in names)):
            raise KeyContextError(
                f"{label}: an upsert that updates {', '.join(sorted(moving))} has to update what is encrypted for it: "
                f"add {', '.join(left)} to update_fields, or {', '.join(sorted(moving))} to unique_fields."
            )
        for binding in group.all_bindings:
            if not (names | matched) & {binding.field.name, binding.attname}:
                raise KeyContextError(
                    f"{label}: an upsert that updates encrypted values has to name {binding.attname!r} in "
                    "unique_fields or update_fields: an existing row might belong to another key context."
                )
        names = names | group.columns
    return names


def load_missing(instances: Sequence[Model], group: Group, using: str | None = None, *, for_write: bool = True) -> None:
    """
    Load the group's deferred columns, sealed: what is written together has to be there. At most one query.

    From the database that the instances were read from, unless another one is named.
    """
    _load(instances, {member.attname for member in group.members}, using, for_write=for_write)


def _load(instances: Sequence[Model], names: AbstractSet[str], using: str | None, *, for_write: bool = True) -> None:
    lacking = [instance for instance in instances if not names <= instance.__dict__.keys()]
    if not lacking:
        return
    queryset = type(lacking[0])._base_manager.using(using or lacking[0]._state.db)
    if for_write and connections[queryset.db].in_atomic_block:
        # Nobody may re-encrypt between this and the write that follows.
        queryset = queryset.select_for_update()
    stored = queryset.only(*names).in_bulk([instance.pk for instance in lacking])
    for instance in lacking:
        # Of a row that is gone, Django says so when it is updated.
        row = stored[instance.pk].__dict__ if instance.pk in stored else {}
        for name in names:
            instance.__dict__.setdefault(name, row.get(name))


def companion_of(instance: Model, group: Group) -> str | None:
    """The companion's text that goes with what the instance holds: that of its sealed values, if it has any."""
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        if isinstance(held, Sealed):
            return held.keys if held.keys is not None else instance.__dict__.get(group.companion)
    return None


@contextmanager
def handed_over(instances: Iterable[Model], names: Iterable[str]) -> Iterator[None]:
    """While Django reads the attributes of these rows in order to write them, let it read what is stored."""
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


def prepare_fixture(instance: Model, table: type[Model], using: str | None) -> None:
    """
    Recognise what a fixture brings as it was stored, so that loading it neither encrypts again nor costs a call.

    What it brings in the clear is sealed, and what was encrypted for other columns than the row has here. An instance
    of a fixture has the columns of one table and no others, so those of parents are not compared.
    """
    own = set(table._meta.local_concrete_fields)
    for group in groups_of(table):
        keys = instance.__dict__.get(group.companion)
        for member in group.members:
            held = instance.__dict__.get(member.attname)
            value = held.value if isinstance(held, Pending) else None
            if keys and isinstance(value, str) and envelope_format.is_envelope(value):
                instance.__dict__[member.attname] = Sealed(value, keys)
        is_clear = any(isinstance(instance.__dict__.get(member.attname), Pending) for member in group.members)
        if is_clear or any(binding.field in own for binding in changed_columns(instance, group)):
            seal_rows([(instance, group)], using)


def _writes(instance: Model, group: Group, named: frozenset[str], using: str | None) -> bool:
    """
    Whether a save writes this group, all of it or none.

    It does if a value is named, or a column that decides whether the values open: what is in memory goes together, be
    it older than what is stored by now. A companion that is merely loaded, as when Django names every loaded column
    because others are deferred, must not be written over that of a newer value.
    """
    members = {member.attname for member in group.members}
    if not named & (members | group.context_names):
        return False
    missing = members - instance.__dict__.keys()
    load_missing([instance], group, using)
    return not missing or bool(named & (members - missing)) or needs_sealing(instance, group)


def _require_saved_context(instances: Sequence[Model], group: Group, named: frozenset[str], using: str | None) -> None:
    """Refuse to encrypt for columns whose change stays in memory: the stored row would not match its own values."""
    unsaved = [binding for binding in group.all_bindings if not named & {binding.field.name, binding.attname}]
    if not unsaved:
        return
    unknown = []
    for instance in instances:
        if changed := [binding for binding in changed_columns(instance, group) if binding in unsaved]:
            raise _unsaved_context(instance, group, changed)
        # What is known of the row where it was read says nothing of one in another database.
        is_known = is_anchored(instance, group) and instance._state.db == using
        if not is_known and (has_companion(instance, group) or needs_sealing(instance, group)):
            unknown.append(instance)
    if not unknown:
        return
    # Nothing in memory tells what the columns of these rows are: they had no value yet, or one that was encrypted for
    # columns whose change may have been rolled back since. The stored rows tell.
    queryset = type(unknown[0])._base_manager.using(using)
    stored = queryset.only(*(binding.attname for binding in unsaved)).in_bulk([instance.pk for instance in unknown])
    for instance in unknown:
        row = stored.get(instance.pk, instance)  # Of a row that is gone, Django says so.
        changed = [
            binding
            for binding in unsaved
            if binding.text(getattr(instance, binding.attname)) != binding.text(getattr(row, binding.attname))
        ]
        if changed:
            raise _unsaved_context(instance, group, changed)


def _unsaved_context(instance: Model, group: Group, changed: Sequence[Binding]) -> KeyContextError:
    names = ", ".join(binding.attname for binding in changed)
    return KeyContextError(
        f"{group.members[0].label} (pk={instance.pk!r}): {names} was changed and decides whether the value opens, but "
        "is not among the fields to be saved. Save it as well, or change it back."
    )
