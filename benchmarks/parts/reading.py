"""Reading rows whose keys are warm, against plain rows and against other packages."""

import time
from collections.abc import Iterator
from typing import Any

from django.db import connection, models

from benchmarks import peers
from benchmarks.models import OwnKey, Plain, SameBytes, SharedKeys
from benchmarks.report import Item, Line, at_least, at_most
from benchmarks.rows import all_of, copy_bytes, refill, stored
from benchmarks.sizes import Sizes
from benchmarks.timing import Spread, Step, difference, interleaved, ratio, spread

# A value is read so often in a turn that the clock does not matter.
AGAIN = 20


def measure(sizes: Sizes) -> Iterator[Item]:
    is_server = connection.vendor != "sqlite"
    found, missing = peers.installed()
    yield from missing
    measured: list[type[models.Model]] = [Plain, OwnKey, SharedKeys, *(peer.model for peer in found)]
    for model in measured:
        refill(model, sizes.rows)
    copy_bytes(stored(OwnKey), SameBytes)
    steps = {
        "plain": Step(lambda: read(Plain)),
        "own": Step(lambda: read(OwnKey)),
        "shared": Step(lambda: read(SharedKeys)),
        "plain, loaded": Step(lambda: load(Plain)),
        "same bytes, loaded": Step(lambda: load(SameBytes)),
        "own, loaded": Step(lambda: load(OwnKey)),
        "plain, values": Step(lambda: values(Plain)),
        "own, values": Step(lambda: values(OwnKey)),
        **{peer.name: Step(lambda model=peer.model: read(model)) for peer in found},  # type: ignore[misc]
    }
    # A server's share of the work is no CPU time of this process.
    taken = interleaved(steps, turns=sizes.turns, clock=time.perf_counter if is_server else time.process_time)

    def beside(name: str, base: str) -> str:
        return f"{micros(taken[name], sizes):.1f} µs a row, {base} {micros(taken[base], sizes):.1f}"

    for name, label, bound in (
        ("own", "full read, a key for each row", 2.5 if is_server else 2.0),
        ("shared", "full read, shared keys", 2.2 if is_server else 1.8),
    ):
        yield Line(label, ratio(taken[name], taken["plain"]), target=at_most(bound), beside=beside(name, "plain"))
    yield Line(
        "loaded, not touched",
        ratio(taken["own, loaded"], taken["plain, loaded"]),
        target=at_most(1.6 if is_server else 1.25),
        beside=beside("own, loaded", "plain, loaded"),
    )
    yield Line(
        "the same bytes in two plain columns",
        ratio(taken["same bytes, loaded"], taken["plain, loaded"]),
        beside=beside("same bytes, loaded", "plain, loaded"),
    )
    for peer in found:
        yield Line(
            f"against {peer.name}",
            ratio(taken[peer.name], taken["own"]),
            target=at_least(peer.target),
            beside=f"{beside(peer.name, 'own')}; {peer.remark}",
        )
    yield Line(
        "values_list over plain",
        per_row(difference(taken["own, values"], taken["plain, values"]), sizes),
        "µs a row",
        at_most(6),
        beside("own, values", "plain, values"),
    )
    yield reading_again(sizes)


def reading_again(sizes: Sizes) -> Line:
    plain, encrypted = load(Plain), load(OwnKey)
    taken = interleaved(
        {"plain": Step(lambda: again(plain)), "own": Step(lambda: again(encrypted))},
        turns=sizes.turns,
        clock=time.process_time,
    )
    each = 1 / AGAIN
    return Line(
        "reading again over a plain attribute",
        per_row(difference(taken["own"], taken["plain"]), sizes).times(each),
        "µs",
        at_most(0.15),
        f"{micros(taken['own'], sizes) * each:.3f} µs, plain {micros(taken['plain'], sizes) * each:.3f}",
    )


def read(model: type[models.Model]) -> None:
    for row in all_of(model):
        row.ssn  # noqa: B018


def load(model: type[models.Model]) -> list[Any]:
    return list(all_of(model))


def values(model: type[models.Model]) -> list[Any]:
    return list(all_of(model).values_list("ssn"))


def again(rows: list[Any]) -> None:
    for _ in range(AGAIN):
        for row in rows:
            row.ssn  # noqa: B018


def micros(seconds: list[float], sizes: Sizes) -> float:
    return per_row(spread(seconds), sizes).median


def per_row(seconds: Spread, sizes: Sizes) -> Spread:
    return seconds.times(1e6 / sizes.rows)
