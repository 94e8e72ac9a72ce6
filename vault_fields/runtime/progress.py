"""Progress of a long operation: a bar on a terminal, silence elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from time import monotonic
from typing import TextIO

__all__ = ["Progress", "progress_bar", "silent"]

# A function of a title and of a function that counts the rows. It yields a function to call with numbers of finished
# rows.
Progress = Callable[[str, Callable[[], int]], AbstractContextManager[Callable[[int], object]]]


@contextmanager
def silent(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
    """Show nothing, and count no rows, which can take a database a while."""
    yield lambda rows: None


@contextmanager
def progress_bar(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
    """Show on standard error, if that is a terminal, how many rows are done and how long the others may take."""
    if not sys.stderr.isatty():
        with silent(title, count) as advance:
            yield advance
        return
    with bar_on(sys.stderr, title, count()) as advance:
        yield advance


@contextmanager
def bar_on(
    stream: TextIO, title: str, total: int, *, clock: Callable[[], float] = monotonic
) -> Iterator[Callable[[int], object]]:
    """A line of ``stream`` that is written anew after each batch; the time left is told from the fifth second on."""
    done = width = 0
    started = clock()

    def advance(rows: int) -> None:
        nonlocal done, width
        done += rows
        line = f"{title}: {done} of {total}"
        if 0 < done < total and (passed := clock() - started) >= 5:
            line += f", {timedelta(seconds=round(passed / done * (total - done)))} left"
        # Spaces cover what is left of a longer line.
        stream.write(f"\r{line:<{width}}")
        stream.flush()
        width = len(line)

    advance(0)
    try:
        yield advance
    finally:
        stream.write("\n")
