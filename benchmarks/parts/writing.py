"""Writing rows while the Vault is in this process, so that only the local part is measured."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connection, models

from benchmarks.models import Embedded, OwnKey, Plain, SharedKeys
from benchmarks.report import Item, Line, at_most
from benchmarks.rows import TEXT, all_of, clear, made, refill
from benchmarks.sizes import Sizes
from benchmarks.timing import Step, interleaved, ratio, spread


def measure(sizes: Sizes) -> Iterator[Item]:
    # A server's share of the work is no CPU time of this process.
    clock = time.process_time if connection.vendor == "sqlite" else time.perf_counter
    taken = interleaved(
        {
            "plain": Step(lambda: create(Plain, sizes.rows), lambda: clear(Plain)),
            "shared": Step(lambda: create(SharedKeys, sizes.rows), lambda: clear(SharedKeys)),
        },
        turns=sizes.turns,
        clock=clock,
    )
    yield Line(
        "bulk_create, one context",
        ratio(taken["shared"], taken["plain"]),
        target=at_most(2),
        beside=beside(taken, "shared", sizes.rows),
    )
    for model in (Plain, OwnKey):
        refill(model, sizes.saves)
    savers = {"plain": Saver(Plain), "own": Saver(OwnKey)}
    for label, run, target in (
        ("save()", Saver.save, at_most(1.2)),
        ("save(update_fields=…)", Saver.save_one, None),
    ):
        taken = interleaved(
            {
                name: Step(lambda saver=saver, run=run: run(saver), saver.change)  # type: ignore[misc]
                for name, saver in savers.items()
            },
            turns=sizes.turns,
            clock=clock,
        )
        yield Line(
            f"{label} of a changed value",
            ratio(taken["own"], taken["plain"]),
            target=target,
            beside=beside(taken, "own", sizes.saves),
        )
    yield tenants(sizes)


def tenants(sizes: Sizes) -> Line:
    """Waits for the disk count, so that the clock is that of the wall."""
    fresh = names("new")
    known = [f"known {number}" for number in range(sizes.tenants)]
    taken = interleaved(
        {
            "known": Step(lambda: create_for(known), lambda: clear(Embedded)),
            "new": Step(lambda: create_for([fresh() for _ in range(sizes.tenants)]), lambda: clear(Embedded)),
        },
        turns=min(sizes.turns, 5),
    )
    return Line(
        f"bulk_create, {sizes.tenants:,} new tenants, embedded",
        ratio(taken["new"], taken["known"]),
        target=at_most(1.5),
        beside=beside(taken, "new", sizes.tenants, "known"),
    )


class Saver:
    """Loaded rows, read once, whose values are changed and saved one by one."""

    def __init__(self, model: type[models.Model]) -> None:
        self.rows: list[Any] = list(all_of(model))
        self.turn = 0
        for row in self.rows:
            row.ssn  # noqa: B018

    def change(self) -> None:
        self.turn += 1
        for row in self.rows:
            row.ssn = f"{self.turn} {TEXT}"

    def save(self) -> None:
        for row in self.rows:
            row.save()

    def save_one(self) -> None:
        for row in self.rows:
            row.save(update_fields=["ssn"])


def create(model: type[models.Model], rows: int) -> None:
    model._default_manager.bulk_create(made(model, rows), batch_size=1000)


def create_for(tenants: list[str]) -> None:
    Embedded._default_manager.bulk_create([Embedded(tenant=tenant, ssn=TEXT) for tenant in tenants])


def names(prefix: str) -> Callable[[], str]:
    """Names that were not had before."""
    numbers = iter(range(10**9))
    return lambda: f"{prefix} {next(numbers)}"


def beside(taken: dict[str, list[float]], name: str, rows: int, base: str = "plain") -> str:
    one, other = (spread(taken[step]).median / rows * 1e6 for step in (name, base))
    return f"{one:.1f} µs a row, {base} {other:.1f}"
