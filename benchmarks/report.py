"""The lines that a part reports, their way between processes, and the one table of all of them."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.timing import Spread

__all__ = [
    "Conditions",
    "Curve",
    "Item",
    "Line",
    "Missing",
    "Target",
    "at_least",
    "at_most",
    "received",
    "send",
    "sent",
    "table",
]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of a median."""

    bound: float
    is_upper: bool

    def is_met(self, value: float) -> bool:
        return value <= self.bound if self.is_upper else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.is_upper else '≥'} {self.bound:g}"


def at_most(bound: float) -> Target:
    return Target(bound, is_upper=True)


def at_least(bound: float) -> Target:
    return Target(bound, is_upper=False)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a run was made with."""

    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table. ``beside`` has the absolute figures, or what else a reader must know."""

    what: str
    measured: Spread
    unit: str = "×"
    target: Target | None = None
    beside: str = ""
    database: str = ""
    part: str = ""
    load: float = 0.0

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "met" if self.target.is_met(self.measured.median) else "not met"


@dataclass(frozen=True, slots=True)
class Missing:
    """A line that could not be measured, and the reason."""

    what: str
    reason: str
    is_peer: bool = False
    database: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """The seconds of something by its size, for a plot; several curves have one plot, by its name."""

    plot: str
    axis: str
    what: str
    points: list[tuple[float, float]]
    database: str = ""

    @property
    def is_base(self) -> bool:
        """Whether others are compared with it."""
        return "plain" in self.what or self.what == "least time"


Item = Conditions | Line | Missing | Curve


def send(item: Item) -> None:
    """Write it for the process that prints the table."""
    sys.stdout.write(sent(item))
    sys.stdout.flush()


def sent(item: Item) -> str:
    """The item as one line."""
    return json.dumps({type(item).__name__: asdict(item)}) + "\n"


def received(text: str) -> Item:
    [(kind, data)] = json.loads(text).items()
    if kind == "Conditions":
        return Conditions(**data)
    if kind == "Missing":
        return Missing(**data)
    if kind == "Curve":
        return Curve(**data | {"points": [tuple(point) for point in data["points"]]})
    target = data["target"] and Target(**data["target"])
    return Line(**data | {"measured": Spread(**data["measured"]), "target": target})


HEAD = ("part", "measured", "database", "median", "quartiles", "target", "", "load", "beside")


def table(items: Iterable[Line | Missing], *, with_part: bool = True) -> str:
    """All lines as a Markdown table, aligned for a terminal."""
    return aligned([cells[not with_part :] for cells in (HEAD, *map(_cells, items))])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _cells(item: Line | Missing) -> tuple[str, ...]:
    if isinstance(item, Missing):
        return (item.part, item.what, item.database, "", "", "", "missing", "", item.reason)
    one = item.measured
    return (
        item.part,
        item.what,
        item.database,
        f"{number(one.median)} {item.unit}".strip(),
        f"{number(one.lower)} – {number(one.upper)}",
        str(item.target or ""),
        item.verdict,
        f"{item.load:.1f}",
        item.beside,
    )


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
