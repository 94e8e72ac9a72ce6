"""Progress of a long operation: a bar on a terminal, silence elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

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
    """Show a bar on standard error, if that is a terminal. By tqdm where it is installed (the ``progress`` extra)."""
    if not sys.stderr.isatty():
        with silent(title, count) as advance:
            yield advance
        return
    try:
        from tqdm import tqdm
    except ImportError:
        with _plain_bar(title, count()) as advance:
            yield advance
        return
    with tqdm(desc=title, total=count(), unit=" rows", file=sys.stderr) as bar:
        yield bar.update


@contextmanager
def _plain_bar(title: str, total: int) -> Iterator[Callable[[int], object]]:
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        sys.stderr.write(f"\r{title}: {done} of {total} rows")
        sys.stderr.flush()

    advance(0)
    try:
        yield advance
    finally:
        sys.stderr.write("\n")
