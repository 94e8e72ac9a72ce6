"""
The hashes of rows that are written: each made of the text that is sealed, under the index key of the row's context.

A hash that was loaded from the database that is written to, beside the value that stays, is kept. Every other one is
made again: a value that this process sealed before may have got its hash in a transaction that was rolled back, with
the index key.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import router
from django.db.models import Model, QuerySet

from vault_fields.exceptions import DecryptionError, IndexKeyMissing, ValueRefused, VaultError
from vault_fields.fields.blindindex import IndexField
from vault_fields.fields.groups import Group
from vault_fields.fields.indexkeys import Wanted, find_written_keys, make_key
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.opening import locate, located, open_sealed
from vault_fields.fields.state import GroupState, is_encrypted
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import companion as companion_format

__all__ = ["hash_of", "index_key_name", "write_indexes"]


class _Due(NamedTuple):
    """One hash that has to be made."""

    instance: Model
    group: Group
    member: Encrypted
    column: IndexField
    text: str
    wanted: Wanted


@forgetful
def write_indexes(rows: Iterable[tuple[Model, Group]], using: str | None, *, rebuild: bool = False) -> None:
    """
    Give rows whose values are sealed their hashes, in memory, before they are written to the database ``using``.

    With ``rebuild`` an index key that is lost is replaced. Costs, for groups that have an index, one query for the
    index keys, and in Vault calls one ``decrypt`` for each index key that is not cached, one ``create`` for each that
    is new, and what it costs to open values that were not assigned. Raises ``VaultError``, ``DecryptionError``,
    ``ValueRefused``, or ``IndexKeyMissing``.
    """
    due: defaultdict[str, list[_Due]] = defaultdict(list)
    for instance, group in rows:
        if group.index_names:
            alias = using or instance._state.db or router.db_for_write(type(instance), instance=instance)
            due[alias] += _due(instance, group, alias)
    for alias, those in due.items():
        keys = _keys(those, alias, rebuild=rebuild)
        for each in those:
            value = hash_of(each.column, keys[each.wanted], each.text, locate(each.member, each.instance))
            each.instance.__dict__[each.column.attname] = value


def index_key_name(index: IndexField, group: Group, context: KeyContext | None) -> Wanted:
    """Return which index key a hash for a row of this context is made with; None serves a global index."""
    return Wanted(group.declared_vault, index.key_context(context))


@forgetful
def hash_of(index: IndexField, key: DataKey, text: str, place: str) -> UUID | None:
    """Return the hash of a text. Raises ``ValueRefused``, which names the ``place``, if it cannot be normalized."""
    try:
        return index.hash_of(key, text)
    except Exception as error:  # noqa: BLE001 - a normalization is the project's own code, and its frames hold the text.
        failure = type(error).__name__
    # Raised outside of the handler: the error would keep that of the function, and with it the text.
    raise ValueRefused(f"{place}: the normalization of its index {index.name!r} failed ({failure}).")


def _due(instance: Model, group: Group, alias: str) -> list[_Due]:
    """Return the hashes to make, and put NULL where there is no value, or one in the clear."""
    data, due = instance.__dict__, []
    is_here = instance._state.db == alias
    for member in group.members:
        held = data.get(member.attname)
        for index in group.indexes[member.name]:
            if not is_encrypted(held):
                data[index.attname] = None
            elif not (held.loaded and is_here and index.attname in data):
                text = (held.opened or open_sealed(member, held, instance)).text
                said = companion_format.decode(GroupState(instance, group).beside(held) or "")
                due.append(_Due(instance, group, member, index, text, index_key_name(index, group, said.context)))
    return due


def _keys(due: Sequence[_Due], alias: str, *, rebuild: bool) -> Mapping[Wanted, DataKey]:
    first = {each.wanted: each for each in reversed(due)}
    try:
        keys = find_written_keys(first, alias)
        for wanted, each in first.items():
            if wanted not in keys:
                if not rebuild:
                    _require_new(each, alias)
                keys[wanted] = make_key(wanted, alias)
    except (DecryptionError, VaultError) as error:
        raise located(error, due[0].member, due[0].instance) from None
    return keys


def _require_new(due: _Due, alias: str) -> None:
    """
    Refuse to make an index key where rows have hashes that were made with another one, which is lost.

    They would not be found any more, and a second row with the same value would pass for the first one.
    """
    rows: Any = QuerySet(due.group.model, using=alias).filter(**{f"{due.column.attname}__isnull": False})
    if due.column.scope == "context":
        rows = rows.filter(**{each.attname: getattr(due.instance, each.attname) for each in due.group.bindings})
    if rows.exists():
        raise IndexKeyMissing(
            f"rows of this key context have hashes in {due.column.name!r}, and the index key that "
            "made them is missing in the table of index keys. Nothing was written. Bring that row back from a backup, "
            "or make all hashes anew with `manage.py vault_index --rebuild`."
        )
