"""The base of the modules that let ``QuerySet.update()`` write encrypted values."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db.models import Model, Value

__all__ = ["ROWS_PER_STATEMENT", "as_assigned", "bulk_updating", "is_bulk_updating", "matching", "portions"]

# The rows that one statement writes: a CASE is searched from its beginning for each of them.
ROWS_PER_STATEMENT = 200

# True while ``bulk_update()`` calls its own ``update()``: it writes sealed values, each with its companion.
_bulk_updating: ContextVar[bool] = ContextVar("bulk_updating", default=False)


@contextmanager
def bulk_updating() -> Iterator[None]:
    token = _bulk_updating.set(True)
    try:
        yield
    finally:
        _bulk_updating.reset(token)


def is_bulk_updating() -> bool:
    return _bulk_updating.get()


def portions(pks: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Return the keys in portions, each as many as one statement takes."""
    return (pks[start : start + ROWS_PER_STATEMENT] for start in range(0, len(pks), ROWS_PER_STATEMENT))


def matching(queryset: Any, using: str) -> Any:
    """Return the rows of the query in this database, in no order."""
    return queryset._chain().using(using).order_by()


def as_assigned(field: Any, value: Any) -> Any:
    """
    Return the attribute that a row gets if ``update()`` gets ``value`` for its column: the key of a related object.
    """
    if isinstance(value, Model):
        return value.prepare_database_save(field)
    return value.value if type(value) is Value else value
