"""
The measurement of compared steps: interleaved turns, medians and quartiles.

All steps run in each turn, in an order that rotates from turn to turn, so that they share the machine's noise. A ratio
is taken within each turn. Garbage is collected before each step and what is left is frozen: a collection during a step
looks at the objects of that step only, and counts as its cost.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Spread", "Step", "difference", "interleaved", "ratio", "spread"]

Clock = Callable[[], float]


def nothing() -> None:
    """Prepare nothing."""


class Step(NamedTuple):
    """What is measured, and what is done before it in each turn and not measured."""

    run: Callable[[], object]
    prepare: Callable[[], object] = nothing


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its quartiles."""

    median: float
    lower: float
    upper: float

    def times(self, factor: float) -> "Spread":
        return Spread(self.median * factor, self.lower * factor, self.upper * factor)


def spread(values: Sequence[float]) -> Spread:
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, lower, upper)


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """The ratios within each turn."""
    return spread([one / other for one, other in zip(above, below, strict=True)])


def difference(above: Sequence[float], below: Sequence[float]) -> Spread:
    """The differences within each turn."""
    return spread([one - other for one, other in zip(above, below, strict=True)])


def interleaved(
    steps: Mapping[str, Step], *, turns: int, clock: Clock = time.perf_counter, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each step in each turn, after ``warm_up`` turns that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for turn in range(-warm_up, turns):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            steps[name].prepare()
            gc.collect()
            gc.freeze()
            try:
                started = clock()
                steps[name].run()
                taken = clock() - started
            finally:
                gc.unfreeze()
            if turn >= 0:
                seconds[name].append(taken)
    return seconds
