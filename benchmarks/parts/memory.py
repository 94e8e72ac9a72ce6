"""Memory that Python allocates, by tracemalloc: the cache of keys, and a backfill of more and more rows."""

import gc
import io
import tracemalloc
from collections.abc import Iterator

from django.core.management import call_command

from benchmarks.models import Migrating, OwnKey, Plain
from benchmarks.parts.backfill import lay_plaintext
from benchmarks.report import Item, Line, at_most
from benchmarks.rows import all_of, refill
from benchmarks.sizes import Sizes
from benchmarks.timing import spread
from vault_fields.vaults import vaults


def measure(sizes: Sizes) -> Iterator[Item]:
    yield cache(sizes)
    yield backfill(sizes)


def cache(sizes: Sizes) -> Line:
    """What is left of reading as many rows, each with a key of its own, when the rows are gone."""
    refill(OwnKey, sizes.cached_keys, tenants=100)
    for row in all_of(OwnKey)[:10]:
        row.ssn  # noqa: B018
    vaults["own"].purge()
    gc.collect()
    tracemalloc.start()
    for row in all_of(OwnKey):
        row.ssn  # noqa: B018
    del row
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    return Line(f"cache of {sizes.cached_keys:,} keys", spread([held]), "MB", at_most(5))


def backfill(sizes: Sizes) -> Line:
    """The peak for four times as many rows over that for one time."""
    peaks = []
    for rows in (10, sizes.rows // 2, sizes.rows * 2):
        refill(Plain, rows, tenants=100)
        lay_plaintext(Migrating)
        gc.collect()
        tracemalloc.start()
        call_command("vault_encrypt", "benchmarks.Migrating", stdout=io.StringIO(), stderr=io.StringIO())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    _, one, four = peaks
    return Line(
        "peak of a backfill of 4 times the rows",
        spread([four / one]),
        target=at_most(1.1),
        beside=f"{four / 1e6:.1f} MB for {sizes.rows * 2:,} rows, {one / 1e6:.1f} for {sizes.rows // 2:,}",
    )
