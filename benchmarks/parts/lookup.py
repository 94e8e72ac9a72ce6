"""Rows that are found by value: by the hash in an index, against a plain column with an index, in one table."""

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.db import connection, models
from django.test import override_settings

from benchmarks.models import Sought
from benchmarks.report import Item, Line, at_most
from benchmarks.rows import analyze, clear
from benchmarks.sizes import Sizes
from benchmarks.timing import Step, interleaved, ratio, spread

# Rows whose values the package wrote, and which are looked up. They lie among the others.
SOUGHT = 100
# Each is looked up so often in a turn.
AGAIN = 5
INSERTED_AT_ONCE = 10_000


def measure(sizes: Sizes) -> Iterator[Item]:
    fill(sizes.sought)
    condition = f"{sizes.sought:,} rows, of which {SOUGHT} are sealed and looked up; the others have a random hash"
    for found in (by_value, by_global):
        plan = explained(found(0))
        if not takes_index(plan):
            raise AssertionError(f"The lookup does not take the index: {plan}")
    steps = {
        "plain": Step(lambda: look_up(by_plain)),
        "per tenant": Step(lambda: look_up(by_value)),
        "global": Step(lambda: look_up(by_global)),
        "per tenant, not remembered": Step(lambda: without_remembering(by_value)),
        "global, not remembered": Step(lambda: without_remembering(by_global)),
    }
    is_server = connection.vendor != "sqlite"
    # A server's share of the work is no CPU time of this process.
    taken = interleaved(steps, turns=sizes.turns, clock=time.perf_counter if is_server else time.process_time)
    for name, label in (
        ("per tenant", "an index of each tenant"),
        ("global", "a global index"),
        ("per tenant, not remembered", "an index of each tenant, VAULT_INDEX_KEY_AGE = 0"),
        ("global, not remembered", "a global index, VAULT_INDEX_KEY_AGE = 0"),
    ):
        beside = f"{micros(taken[name]):.0f} µs, plain {micros(taken['plain']):.0f}; the index is taken; {condition}"
        # Lookups in transactions read index keys each time; the target is for those outside.
        target = None if name.endswith("not remembered") else at_most(1.5)
        yield Line(f"lookup by value, {label}", ratio(taken[name], taken["plain"]), "×", target, beside)


def by_plain(number: int) -> Any:
    return Sought._default_manager.filter(tenant=tenant(number), plain=value(number))


def by_value(number: int) -> Any:
    return Sought._default_manager.filter(tenant=tenant(number), ssn=value(number))


def by_global(number: int) -> Any:
    return Sought._default_manager.filter(email=value(number))


def look_up(found: Callable[[int], Any]) -> None:
    for _ in range(AGAIN):
        for number in range(SOUGHT):
            found(number).get()


def without_remembering(found: Callable[[int], Any]) -> None:
    """Look up with index keys that are read each time."""
    with override_settings(VAULT_INDEX_KEY_AGE=0):
        look_up(found)


def tenant(number: int) -> str:
    return f"tenant {number % 10}"


def value(number: int) -> str:
    return f"{number:09}"


def fill(rows: int) -> None:
    """Rows as the package writes them, between rows that have the same columns with other hashes."""
    clear(Sought)
    columns = [str(field.column) for field in Sought._meta.concrete_fields if not field.primary_key]
    fields = ", ".join(map(connection.ops.quote_name, columns))
    statement = f"INSERT INTO {Sought._meta.db_table} ({fields}) VALUES ({', '.join(['%s'] * len(columns))})"  # noqa: S608
    for half in range(2):
        sealed = Sought._default_manager.bulk_create(
            Sought(tenant=tenant(number), plain=value(number), ssn=value(number), email=value(number))
            for number in range(half, SOUGHT, 2)
        )
        pattern = dict(stored(columns, sealed[0].pk))
        with connection.cursor() as cursor:
            for start in range(SOUGHT + half, rows, 2 * INSERTED_AT_ONCE):
                numbers = range(start, min(start + 2 * INSERTED_AT_ONCE, rows), 2)
                cursor.executemany(statement, [other(pattern, number) for number in numbers])
    analyze(Sought)


def stored(columns: list[str], pk: int) -> Iterator[tuple[str, Any]]:
    """What the columns of one row hold."""
    with connection.cursor() as cursor:
        names = ", ".join(map(connection.ops.quote_name, columns))
        cursor.execute(f"SELECT {names} FROM {Sought._meta.db_table} WHERE id = %s", [pk])  # noqa: S608
        return zip(columns, cursor.fetchone(), strict=True)


def other(pattern: dict[str, Any], number: int) -> list[Any]:
    """A row with the same sealed values and hashes of nothing."""
    new = {**pattern, "tenant": tenant(number), "plain": value(number)}
    for name in pattern:
        if name.endswith("_index"):
            new[name] = _as_stored(UUID(bytes=os.urandom(16), version=4))
    return list(new.values())


def _as_stored(hashed: UUID) -> Any:
    index: Any = Sought._meta.get_field("ssn_index")
    return index.get_db_prep_value(hashed, connection)


def explained(queryset: models.QuerySet[Any]) -> str:
    """The database's plan."""
    return str(queryset.explain())


def takes_index(plan: str) -> bool:
    """Whether the plan goes by the index of a column with hashes, and does not scan the table."""
    named = re.search(r"(?:ssn|email)_index_\w+", plan) is not None
    return named and re.search(r"Seq Scan|SCAN|\bALL\b", plan) is None


def micros(seconds: list[float]) -> float:
    return spread(seconds).median * 1e6 / (SOUGHT * AGAIN)
