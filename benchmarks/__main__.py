"""
Run the benchmarks and print one table.

    python -m benchmarks                                  all parts, smaller than the targets name; some minutes
    python -m benchmarks --full --plots docs/plots        with the sizes of the targets; hours
    python -m benchmarks --only reading --database sqlite
    python -m benchmarks --save FILE                      … and keep what was measured, after what is there already
    python -m benchmarks --render FILE --docs docs        write what was kept into the documentation

The status is 1 if a target is missed with ``--strict``, and always if a line is missing: a package to compare with, a
database, or a part that failed. ``--without-peers`` excuses packages.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from benchmarks.conditions import conditions as described, load
from benchmarks.part import PARTS, databases
from benchmarks.report import Conditions, Curve, Item, Line, Missing, received, sent, table
from benchmarks.sizes import SIZES

DATABASES = ("sqlite", "postgres", "mariadb")
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    options = parsed()
    if options.render:
        items = [received(text) for text in options.render.read_text("utf-8").splitlines()]
    else:
        conditions = Conditions(f"Sizes: {options.size} ({SIZES[options.size]}). {'; '.join(described())}")
        print(f"{conditions.text}; load {load():.1f} at the start", flush=True)
        items = list(kept(chain([conditions], measured(options)), options.save))
    lines = [
        item
        for item in items
        if isinstance(item, Line) or (isinstance(item, Missing) and not (item.is_peer and options.without_peers))
    ]
    curves = [item for item in items if isinstance(item, Curve)]
    print()
    print(table(lines))
    if options.plots or options.docs:
        from benchmarks.documentation import write
        from benchmarks.plots import draw

        if options.docs:
            write(items, options.docs / "performance.md")
        for path in draw(curves, options.plots or options.docs / "plots"):
            print(f"Drawn: {path}")
    return summed_up(lines, is_strict=options.strict)


def kept(items: Iterable[Item], path: Path | None) -> Iterator[Item]:
    """The items, each written down as it comes: a run takes long, and may be ended before its end."""
    for item in items:
        if path is not None:
            with path.open("a", encoding="utf-8") as file:
                file.write(sent(item))
        yield item


def measured(options: argparse.Namespace) -> Iterator[Item]:
    for parts, database in runs(options.only or PARTS, options.database, is_together=options.size == "tiny"):
        print(f"… {parts} {database}".rstrip(), file=sys.stderr, flush=True)
        yield from run(parts, database, options.size)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="size", action="store_const", const="full", default="quick")
    size.add_argument("--tiny", dest="size", action="store_const", const="tiny", help="only that everything runs")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="the parts to run (default: all)")
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES, help="(default: all)")
    parser.add_argument("--without-peers", action="store_true", help="packages to compare with may be missing")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw the curves of growth there")
    parser.add_argument("--save", type=Path, metavar="FILE", help="append what was measured")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing and take what was kept there")
    parser.add_argument("--docs", type=Path, metavar="DIRECTORY", help="write performance.md and its plots")
    parser.add_argument("--strict", action="store_true", help="a target that is not met is a failure")
    return parser.parse_args()


def runs(only: Sequence[str], chosen: Sequence[str], *, is_together: bool) -> Iterator[tuple[str, str]]:
    """The processes: parts and a database. Together, all parts of a database are one, since no time counts."""
    if not is_together:
        for part in only:
            yield from ((part, database) for database in databases(part) if not database or database in chosen)
        return
    for database in chosen:
        parts = [
            part for part in only if database in databases(part) or (databases(part) == ("",) and database == chosen[0])
        ]
        if parts:
            yield ",".join(parts), database


def run(part: str, database: str, size: str) -> Iterator[Item]:
    """What a part reports, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.part", part, database, size]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:  # noqa: S603
        for text in process.stdout or ():
            if text.startswith("{"):
                yield received(text)
    if process.returncode:
        yield Missing("all or the rest of it", f"failed with status {process.returncode}", database=database, part=part)


def summed_up(lines: list[Line | Missing], *, is_strict: bool) -> int:
    missed = [line for line in lines if isinstance(line, Line) and line.verdict == "not met"]
    met = [line for line in lines if isinstance(line, Line) and line.verdict == "met"]
    missing = [line for line in lines if isinstance(line, Missing)]
    print(
        f"\n{len(met)} targets met, {len(missed)} not met, {len(missing)} lines missing; load {load():.1f} at the end"
    )
    for line in missed:
        if line.unit == "exponent":
            print(f"Worse than linear: {line.what} ({line.database}), exponent {line.measured.median:.2f}")
    return int(bool(missing) or (is_strict and bool(missed)))


if __name__ == "__main__":
    sys.exit(main())
