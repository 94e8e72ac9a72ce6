"""
``vault_encrypt`` on a column that holds plaintext, against a plain ``UPDATE`` that writes the same bytes.

The plain one reads nothing and has all parameters at hand: one statement a batch with arrays on PostgreSQL,
``executemany`` on the others, and a commit for each batch.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.management import call_command
from django.db import connection, transaction

from benchmarks.models import Migrating, Plain, SameBytes
from benchmarks.report import Item, Line, at_least
from benchmarks.rows import clear, refill, stored
from benchmarks.sizes import Sizes
from benchmarks.timing import Step, interleaved, ratio, spread

TENANTS = 100
BATCH = 1000
TARGETS = {"sqlite": at_least(0.5), "postgresql": at_least(0.7)}


def measure(sizes: Sizes) -> Iterator[Item]:
    refill(Plain, sizes.backfilled, TENANTS)
    lay_plaintext(Migrating)
    encrypt()
    sample = [(value, keys) for _, _, value, keys in stored(Migrating, limit=10 * BATCH)]
    taken = interleaved(
        {
            "UPDATE": Step(lambda: update(sample, sizes.backfilled), lambda: lay_plaintext(SameBytes)),
            "vault_encrypt": Step(encrypt, lambda: lay_plaintext(Migrating)),
        },
        turns=min(sizes.turns, 5),
        warm_up=0,
    )
    plain, ours = (spread(taken[name]).median for name in ("UPDATE", "vault_encrypt"))
    yield Line(
        f"backfill of {sizes.backfilled:,} rows, rate against a plain UPDATE",
        ratio(taken["UPDATE"], taken["vault_encrypt"]),
        target=TARGETS.get(connection.vendor),
        beside=f"{sizes.backfilled / ours:,.0f} rows/s, plain {sizes.backfilled / plain:,.0f}; {TENANTS} tenants",
    )


def lay_plaintext(model: Any) -> None:
    """The rows of ``Plain``, with nothing in the companion."""
    clear(model)
    table, source = model._meta.db_table, Plain._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (id, tenant, ssn) SELECT id, tenant, ssn FROM {source}")  # noqa: S608
        if connection.vendor == "postgresql":
            cursor.execute(f"VACUUM ANALYZE {table}")
            cursor.execute("CHECKPOINT")


def encrypt() -> None:
    call_command("vault_encrypt", "benchmarks.Migrating", stdout=io.StringIO(), stderr=io.StringIO())


def update(sample: Sequence[tuple[str, str]], rows: int) -> None:
    """As many bytes as were encrypted, from a sample of them."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT min(id) FROM {SameBytes._meta.db_table}")  # noqa: S608
        (first,) = cursor.fetchone()
        for start in range(0, rows, BATCH):
            batch = [
                (*sample[number % len(sample)], first + number) for number in range(start, min(start + BATCH, rows))
            ]
            with transaction.atomic():
                write(cursor, batch)


def write(cursor: Any, batch: list[tuple[str, str, int]]) -> None:
    table = SameBytes._meta.db_table
    if connection.vendor == "postgresql":
        cursor.execute(
            f"UPDATE {table} SET ssn = given.ssn, ssn_keys = given.ssn_keys"  # noqa: S608
            " FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS given (ssn, ssn_keys, id)"
            f" WHERE {table}.id = given.id",
            [list(column) for column in zip(*batch, strict=True)],
        )
    else:
        cursor.executemany(f"UPDATE {table} SET ssn = %s, ssn_keys = %s WHERE id = %s", batch)  # noqa: S608
