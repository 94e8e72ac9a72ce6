"""The key contexts of many rows, derived with one query for each relation and not for each row."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import ForeignKey, Model, Prefetch, prefetch_related_objects
from django.db.models.constants import LOOKUP_SEP

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.groups import Group
from vault_fields.keys import KeyContext

__all__ = ["derive_contexts", "located_context"]


def derive_contexts(rows: Sequence[tuple[Model, Group]], using: str | None) -> list[KeyContext]:
    """
    Return the context of each row. Raises ``KeyContextError`` for the first that has none.

    Relations are followed in the database ``using``, or else in that of each row: one query for each relation.
    """
    states = {id(instance): instance._state for instance, _ in rows if using not in {None, instance._state.db}}
    read_from = [(state, state.db) for state in states.values()]
    for state in states.values():
        state.db = using
    try:
        _load_relations(rows, using)
        return _contexts(rows)
    finally:
        for state, db in read_from:
            state.db = db


def _contexts(rows: Iterable[tuple[Model, Group]]) -> list[KeyContext]:
    own_columns = {group: group.source.own_columns(group.bindings) for _, group in rows}
    # Rows of one context share it.
    made: dict[tuple[tuple[str, str], ...], KeyContext] = {}
    contexts = []
    for instance, group in rows:
        try:
            if group.source.function is not None:
                contexts.append(group.source.derive(instance))
                continue
            items = group.source.items_of(instance, own_columns[group])
            name = tuple(items.items())
            if (context := made.get(name)) is None:
                context = made[name] = KeyContext(items)
            contexts.append(context)
        except KeyContextError as error:
            raise located_context(error, instance, group) from None
    return contexts


def located_context(error: KeyContextError, instance: Model, group: Group) -> KeyContextError:
    return KeyContextError(f"{group.members[0].label} (pk={instance.pk!r}): {error}")


def _load_relations(rows: Sequence[tuple[Model, Group]], using: str | None) -> None:
    """
    Load the relations on which the contexts of many rows depend with one query per relation, not one per row.

    They are read from the database that is written to, if it is known: the one that a router reads from may lag
    behind.
    """
    by_group: dict[Group, list[Model]] = {}
    for instance, group in rows:
        by_group.setdefault(group, []).append(instance)
    for group, instances in by_group.items():
        if group.source.relations and (using is not None or len(instances) > 1):
            with _keys_as_loaded(instances, group):
                prefetch_related_objects(instances, *_prefetches(group, using))


@contextmanager
def _keys_as_loaded(instances: Sequence[Model], group: Group) -> Iterator[None]:
    """
    Give foreign keys the spelling in which they are loaded, by which Django matches rows: 7 in place of "7".

    Afterwards instances have their former keys, and the relations that were found. A relation that was not found is
    not remembered.
    """
    spelled: list[tuple[dict[str, Any], str, Any]] = []
    followed = [binding.field for binding in group.bindings if isinstance(binding.field, ForeignKey)]
    for instance in instances:
        data = instance.__dict__
        for field in followed:
            with suppress(ValidationError):  # An impossible key is reported by the query that uses it.
                loaded = field.to_python(data.get(field.attname))
                if loaded != data.get(field.attname):
                    spelled.append((data, field.attname, data[field.attname]))
                    data[field.attname] = loaded
    try:
        yield
    finally:
        for data, name, value in spelled:
            data[name] = value
        for instance in instances:
            for field in followed:
                if field.is_cached(instance) and field.get_cached_value(instance) is None:
                    field.delete_cached_value(instance)


def _prefetches(group: Group, using: str | None) -> list[Any]:
    relations = sorted(group.source.relations)
    if using is None:
        return relations
    found: dict[str, Prefetch[Any]] = {}
    for relation in relations:
        model: Any = group.model
        path = ""
        # A missing column is reported where the path is followed.
        with suppress(FieldDoesNotExist):
            for name in relation.split(LOOKUP_SEP):
                model = model._meta.get_field(name).related_model
                path = f"{path}{LOOKUP_SEP}{name}" if path else name
                found.setdefault(path, Prefetch(path, queryset=model._base_manager.using(using)))
    return list(found.values())
