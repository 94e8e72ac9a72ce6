"""
The rows that a deletion deletes, known while it runs.

Where a database checks foreign keys at once, as MariaDB does, Django takes nullable keys from the rows that it deletes
before it deletes them. Those rows need no tenant any more. Rows that stay need one as ever.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db.models import QuerySet
from django.db.models.deletion import Collector

from vault_fields.fields.queries import matching, portions

__all__ = ["deleting", "release"]

_deletions: ContextVar[tuple[Collector, ...]] = ContextVar("deletions", default=())


@contextmanager
def deleting(collector: Collector) -> Iterator[None]:
    """Mark the collected rows as about to be deleted within the block; signals may delete more meanwhile."""
    token = _deletions.set((*_deletions.get(), collector))
    try:
        yield
    finally:
        _deletions.reset(token)


def release(queryset: Any, values: Mapping[str, Any], original: Callable[..., int]) -> tuple[int, Any]:
    """
    Write NULL to those rows of the query that are about to be deleted, by Django's ``update()``, and to no others.

    Returns how many there were, and the query of those that stay. Costs no query unless a deletion is running.
    """
    model, using = queryset.model, queryset.db
    going = _going(model, using) if all(value is None for value in values.values()) else set()
    pks = set(matching(queryset, using).values_list("pk", flat=True)) if going else set()
    released = sorted(pks & going)
    rows: Any = QuerySet(model, using=using)
    count = sum(original(rows.filter(pk__in=some), **values) for some in portions(released))
    return count, queryset.none() if len(released) == len(pks) else queryset.exclude(pk__in=released)


def _going(model: Any, using: str) -> set[Any]:
    return {
        row.pk
        for collector in _deletions.get()
        if collector.using == using
        for collected, rows in collector.data.items()
        if collected._meta.concrete_model is model._meta.concrete_model
        for row in rows
    }
