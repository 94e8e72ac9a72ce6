"""
The hashes of rows that are written: each made of the text that is sealed, under the index key of the row's context.

A hash that was loaded a moment ago from the database that is written to, together with the value that stays, is kept.
Every other one is made again. One that was assigned, or loaded at another time, may be that of another value. One that
this process made before may have been made in a transaction that was rolled back, with the index key. And one that was
read long ago may be from an index key that was replaced since.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from time import monotonic
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from uuid import UUID

from django.db import router
from django.db.models import Model, Q, QuerySet

from vault_fields.exceptions import DecryptionError, IndexKeyMissing, ValueRefused, VaultError
from vault_fields.fields.blindindex import IndexField, came_apart, note_apart
from vault_fields.fields.deriving import derive_contexts
from vault_fields.fields.groups import Group, all_groups_of
from vault_fields.fields.indexkeys import Wanted, find_written_keys, make_key, stored_names
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.opening import locate, located, open_sealed
from vault_fields.fields.sealed import Opened, Sealed
from vault_fields.fields.state import GroupState, is_encrypted
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import companion as companion_format
from vault_fields.vaults import vaults

__all__ = ["HASH_AGE", "OF_NOTHING", "WithoutKey", "hash_of", "index_key_name", "make_index_keys", "require_never_used"]
__all__ += ["write_indexes"]

# The seconds for which a hash that was read is kept beside its value. A rotation of index keys waits for longer.
HASH_AGE = 600.0

# The hash that no value has: version 4 sets bits of it.
OF_NOTHING = UUID(int=0)

# For a context without an index key: make one, unless it is lost; make one in any case; or make none, and give its rows
# the hash that no value has.
WithoutKey = Literal["make", "replace", "leave"]

# At most so many of the rows that may have hashes under a lost index key are looked at.
_LOOKED_AT = 100

# The database for which an instance's hashes were last made.
_WRITTEN_TO = "vault_fields_written_to"


class _Due(NamedTuple):
    """One hash that has to be made."""

    instance: Model
    group: Group
    member: Encrypted
    column: IndexField
    text: str
    wanted: Wanted


@forgetful
def write_indexes(
    rows: Iterable[tuple[Model, Group]],
    using: str | None,
    *,
    without_key: WithoutKey = "make",
    contexts: Mapping[int, KeyContext] = MappingProxyType({}),
) -> None:
    """
    Give rows whose values are sealed their hashes, in memory, before they are written to the database ``using``.

    ``contexts`` are those that rows will have, where their companions name others, by the ids of instances. Costs, for
    groups that have an index, one query for the index keys, and in Vault calls one ``decrypt`` for each index key that
    is not cached, one ``create`` for each that is new, and what it costs to open values that were not assigned. Raises
    ``VaultError``, ``DecryptionError``, ``ValueRefused``, or ``IndexKeyMissing``.
    """
    due: defaultdict[str, list[_Due]] = defaultdict(list)
    for instance, group in rows:
        if group.index_names:
            alias = using or _written_to(instance)
            # Django does not tell pre_save(), which may seal the row once more, where it is saved.
            setattr(instance._state, _WRITTEN_TO, alias)
            due[alias] += _due(instance, group, alias, contexts)
    for alias, those in due.items():
        keys = _keys(those, alias, without_key)
        for each in those:
            key, place = keys.get(each.wanted), locate(each.member, each.instance)
            value = hash_of(each.column, key, each.text, place) if key else OF_NOTHING
            each.instance.__dict__[each.column.attname] = value


def index_key_name(index: IndexField, group: Group, context: KeyContext | None) -> Wanted:
    """Return which index key a hash for a row of this context is made with; None serves a global index."""
    return Wanted(group.declared_vault, index.key_context(context))


@forgetful
def hash_of(index: IndexField, key: DataKey, text: str, place: str) -> UUID | None:
    """
    Return the hash of a text; None where the normalization leaves it out. Raises what ``normal_of`` does.
    """
    normal = normal_of(index, text, place)
    return None if normal is None else index.hash_of(key, normal)


@forgetful
def normal_of(index: IndexField, text: str, place: str) -> str | None:
    """Return the normalized text. Raises ``ValueRefused``, which names the ``place``, if it cannot be normalized."""
    try:
        normal = index.normal(text)
        if normal is not None:
            normal.encode()  # A function of the project may return what has no hash.
    except Exception as error:  # noqa: BLE001 - a normalization is the project's own code, and its frames hold the text.
        failure = type(error).__name__
    else:
        return normal
    # Raised outside of the handler: the error would keep that of the function, and with it the text.
    raise ValueRefused(f"{place}: the normalization of its index {index.name!r} failed ({failure}).")


def indexed_text(member: Encrypted, opened: Opened) -> str:
    """Return the text of an opened value of which its hashes are made."""
    return member.current_text(opened.text)


def make_index_keys(instance: Model, *, using: str | None = None) -> None:
    """
    Make the index keys that rows like this one need, as when a tenant signs up: ``Patient(organization=acme)``.

    The instance has the attributes that its key contexts start from, and need not be saved. The keys serve every model
    with the same key context and vault. Without this call, the first row of a tenant makes them. Costs one query; for
    each key that is not there yet, one query for each index and two besides, and one ``create``. Raises
    ``KeyContextError``, ``VaultError`` or ``IndexKeyMissing``.
    """
    alias = using or router.db_for_write(type(instance), instance=instance)
    first: dict[Wanted, tuple[Encrypted, IndexField, Group]] = {}
    for group in all_groups_of(type(instance)):
        if group.index_names:
            (context,) = derive_contexts([(instance, group)], alias)
            for member in group.members:
                for index in group.indexes[member.name]:
                    first.setdefault(index_key_name(index, group, context), (member, index, group))
    keys = find_written_keys(first, alias)
    for wanted, (_, index, group) in first.items():
        if wanted not in keys:
            require_never_used(index, group, {wanted: group.rows_like(instance)}, alias)
            make_key(wanted, alias)


def require_never_used(index: IndexField, group: Group, missing: Mapping[Wanted, Q], using: str) -> bool:
    """
    Raise ``IndexKeyMissing`` if rows have hashes under one of these index keys, which are not there. One query.

    Those rows would not be found any more, and a second row with the same value would pass for the first one. With
    each key come the conditions for rows that may have such hashes. Returns whether somebody has made the keys
    meanwhile, and those rows.
    """
    rows: Any = QuerySet(group.model, using=using).filter(**{f"{index.attname}__isnull": False})
    if index.scope == "global":
        used = {*missing} if rows.exists() else set()
    else:
        # A row whose key context was changed since has its hash under another key.
        claims = [condition & Q(**{f"{group.companion}__contains": _said(each)}) for each, condition in missing.items()]
        texts = rows.filter(reduce(or_, claims)).values_list(group.companion, flat=True)[:_LOOKED_AT]
        found = {(vaults.writer(said.vault), said.context) for said in map(companion_format.decode, texts)}
        used = {each for each in missing if (vaults.writer(each.vault), each.context) in found}
    if used - stored_names(used, using):
        raise IndexKeyMissing(
            f"rows of this key context have hashes in {index.name!r}, and the index key that "
            "made them is missing in the table of index keys. Bring that row back from a backup, "
            "or make all hashes anew with `manage.py vault_index --rebuild`."
        )
    return bool(used)


def _said(wanted: Wanted) -> str:
    """Return the part of a companion's text that names the context. No text in a companion has quotes as it has."""
    return f'"context":{wanted.context.canonical.decode()},"row":'


def _due(instance: Model, group: Group, alias: str, contexts: Mapping[int, KeyContext]) -> list[_Due]:
    """Return the hashes to make, and put NULL where there is no value, or one in the clear."""
    data, due = instance.__dict__, []
    is_here = instance._state.db == alias
    for member in group.members:
        held = data.get(member.attname)
        for index in group.indexes[member.name]:
            if not is_encrypted(held):
                data[index.attname] = None
            elif not (
                is_here and _is_fresh(held) and index.attname in data and not came_apart(instance, index.attname)
            ):
                if held.loaded:
                    note_apart(instance, [index.attname])  # What is made may be rolled back, with its index key.
                text = indexed_text(member, held.opened or open_sealed(member, held, instance))
                context = contexts.get(id(instance))
                if context is None:
                    context = companion_format.decode(GroupState(instance, group).beside(held) or "").context
                due.append(_Due(instance, group, member, index, text, index_key_name(index, group, context)))
    return due


def _written_to(instance: Model) -> str:
    """Return the database that a row is written to, where the caller does not say it."""
    noted: str | None = getattr(instance._state, _WRITTEN_TO, None)
    return noted or instance._state.db or router.db_for_write(type(instance), instance=instance)


def _is_fresh(held: Sealed) -> bool:
    return bool(held.loaded) and monotonic() - held.loaded < HASH_AGE


def _keys(due: Sequence[_Due], alias: str, without_key: WithoutKey) -> Mapping[Wanted, DataKey]:
    first = {each.wanted: each for each in reversed(due)}
    try:
        keys = find_written_keys(first, alias)
        for wanted, each in first.items():
            if wanted not in keys and without_key != "leave":
                if without_key == "make":
                    require_never_used(each.column, each.group, {wanted: each.group.rows_like(each.instance)}, alias)
                keys[wanted] = make_key(wanted, alias)
    except (DecryptionError, VaultError) as error:
        raise located(error, due[0].member, due[0].instance) from None
    return keys
