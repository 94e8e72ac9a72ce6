"""Progress is shown on a terminal and nowhere else."""

import contextlib
import io
from typing import Never

import pytest

from vault_fields.runtime.progress import bar_on, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(stream):
    with contextlib.redirect_stderr(stream), progress_bar("Encrypting", lambda: 3) as advance:
        advance(1)
        advance(2)
    return stream.getvalue()


def test_elsewhere_nothing_is_shown_and_no_row_is_counted() -> None:
    def count() -> Never:
        raise AssertionError

    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), progress_bar("Encrypting", count) as advance:
        advance(1)
    assert not stream.getvalue()


def test_on_a_terminal_the_rows_are_counted() -> None:
    assert show(Terminal()) == ("\rEncrypting: 0 of 3\rEncrypting: 1 of 3\rEncrypting: 3 of 3\n")


def test_what_takes_long_tells_how_long_it_will_take() -> None:
    stream, times = io.StringIO(), iter([100.0, 104.9, 110.0])
    with bar_on(stream, "Encrypting", 300, clock=lambda: next(times)) as advance:
        advance(50)
        advance(50)
        advance(200)
    assert stream.getvalue().split("\r")[2:] == [
        "Encrypting: 50 of 300",
        "Encrypting: 100 of 300, 0:00:20 left",
        "Encrypting: 300 of 300              \n",
    ]


def test_rows_that_came_later_are_counted_too() -> None:
    stream = io.StringIO()
    with bar_on(stream, "Encrypting", 1, clock=iter([0.0]).__next__) as advance:
        advance(2)
    assert stream.getvalue().endswith("\rEncrypting: 2 of 1\n")


def test_errors_pass_through() -> None:
    with contextlib.redirect_stderr(Terminal()), pytest.raises(KeyboardInterrupt), progress_bar("E", lambda: 3):
        raise KeyboardInterrupt
