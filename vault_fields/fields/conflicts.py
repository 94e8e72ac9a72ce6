"""Refusal of a write whose rows derive their key contexts from values that the same write changes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import reduce
from itertools import pairwise
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.groups import Group

__all__ = ["apart_error", "leading", "require_apart"]


def leading(group: Group, fields: Iterable[Any]) -> Iterator[tuple[Sequence[str], Any]]:
    """Yield those relations of the context that come to a row of which it reads one of these columns."""
    for path in group.source.paths.values():
        model: Any = group.model
        relations: list[str] = []
        with suppress(FieldDoesNotExist):  # A missing column is reported where the path is followed.
            for name, following in pairwise(path.split(LOOKUP_SEP)):
                model = model._meta.get_field(name).related_model
                relations = [*relations, name]
                column = model._meta.get_field(following)
                yield from ((relations, field) for field in fields if field == column)


def require_apart(rows: Iterable[tuple[Model, Group]], written: Sequence[Model], fields: Sequence[Any]) -> None:
    """
    Refuse rows whose context was derived from an instance that is ``written`` with them, if it gets another value in
    one of these columns: they would be encrypted for its former tenant.
    """
    rows = list(rows)
    led = {group: tuple(leading(group, fields)) for group in {group for _, group in rows}}
    ways = [(instance, group, *way) for instance, group in rows for way in led[group]]
    if not ways:
        return
    by_pk: dict[Any, dict[Any, list[Model]]] = {}
    for field in {field for *_, field in ways}:
        found_by = by_pk[field] = defaultdict(list)
        for other in written:
            # Instances that are not stored yet have no key, and are nobody else's row.
            if (pk := _pk(other, field)) is not None:
                found_by[pk].append(other)
    for instance, group, relations, field in ways:
        found = reduce(getattr, relations, instance)
        for other in by_pk[field].get(_pk(found, field), ()):
            if other is not found and _differ(other, found, field):
                for each, _, names, _ in ways:
                    each._state.fields_cache.pop(names[0], None)  # After the advice, the value is there.
                raise apart_error(group, instance.pk, found, field, relations[0])


def apart_error(group: Group, pk: Any, found: Model, field: Any, relation: str) -> KeyContextError:
    return KeyContextError(
        f"{group.members[0].label} (pk={pk!r}) gets its key context from {found._meta.label} (pk={found.pk!r}), whose "
        f"{field.attname} this update changes too. Nothing was written. Update {field.attname} by itself first, and "
        f"{relation} then."
    )


def _pk(instance: Any, field: Any) -> Any:
    """Return the key of the row that has the column, which may be the row of a parent."""
    return instance._get_pk_val(field.model._meta)


def _differ(written: Model, found: Model, field: Any) -> bool:
    value = written.__dict__.get(field.attname, found)
    if value is found:
        return False  # The column is deferred, and written as it is.
    if hasattr(value, "resolve_expression"):
        return True  # Only the database knows the value.
    try:
        return bool(field.to_python(value) != getattr(found, field.attname))
    except ValidationError:
        return False  # Django reports it when it writes the value.
