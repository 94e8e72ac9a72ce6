"""Rows to measure with, written as a project would write them."""

from collections.abc import Iterable
from typing import Any

from django.db import connection, models

__all__ = ["TEXT", "all_of", "clear", "copy_bytes", "fill", "made", "refill", "stored"]

# 100 characters.
TEXT = "The quick brown fox jumps over the lazy dog. " * 2 + "0123456789"


def made(model: type[models.Model], rows: int, tenants: int = 1, text: str = TEXT) -> list[Any]:
    """Instances that are not saved."""
    return [model(tenant=f"tenant {number % tenants}", ssn=text) for number in range(rows)]


def fill(model: type[models.Model], rows: int, tenants: int = 1, text: str = TEXT) -> None:
    """Insert the rows, a part at a time so that a million of them do not stand in memory."""
    for start in range(0, rows, 10_000):
        model._default_manager.bulk_create(made(model, min(10_000, rows - start), tenants, text))
    analyze(model)


def refill(model: type[models.Model], rows: int, tenants: int = 1, text: str = TEXT) -> None:
    """``fill`` of an empty table."""
    clear(model)
    fill(model, rows, tenants, text)


def all_of(model: type[models.Model]) -> Any:
    return model._default_manager.all()


def clear(model: type[models.Model]) -> None:
    """Empty the table and its indexes without dead rows."""
    with connection.cursor() as cursor:
        verb = "DELETE FROM" if connection.vendor == "sqlite" else "TRUNCATE"
        cursor.execute(f"{verb} {model._meta.db_table}")


def analyze(model: type[models.Model]) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM ANALYZE {model._meta.db_table}")


def stored(model: type[models.Model], limit: int | None = None) -> list[tuple[Any, ...]]:
    """What the columns hold: the key, the tenant, the value and the companion."""
    with connection.cursor() as cursor:
        end = "" if limit is None else f" LIMIT {limit}"
        cursor.execute(f"SELECT id, tenant, ssn, ssn_keys FROM {model._meta.db_table} ORDER BY id{end}")  # noqa: S608
        return list(cursor.fetchall())


def copy_bytes(rows: Iterable[tuple[Any, ...]], model: type[models.Model]) -> None:
    """The same bytes in plain columns."""
    clear(model)
    model._default_manager.bulk_create(
        [model(tenant=tenant, ssn=value, ssn_keys=keys) for _, tenant, value, keys in rows], batch_size=1000
    )
    analyze(model)
