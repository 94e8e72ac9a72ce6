"""Progress is shown on a terminal and nowhere else."""

import contextlib
import io
import sys

import pytest

from vault_fields.runtime.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(stream):
    with contextlib.redirect_stderr(stream), progress_bar("Encrypting", lambda: 3) as advance:
        advance(1)
        advance(2)
    return stream.getvalue()


def test_elsewhere_nothing_is_shown_and_no_row_is_counted():
    def count():
        raise AssertionError

    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), progress_bar("Encrypting", count) as advance:
        advance(1)
    assert not stream.getvalue()


def test_on_a_terminal_by_tqdm():
    assert "Encrypting: 100%" in show(Terminal())


def test_on_a_terminal_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert show(Terminal()) == ("\rEncrypting: 0 of 3 rows\rEncrypting: 1 of 3 rows\rEncrypting: 3 of 3 rows\n")


@pytest.mark.parametrize("tqdm", ["tqdm", None])
def test_errors_pass_through(tqdm, monkeypatch):
    if tqdm is None:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with contextlib.redirect_stderr(Terminal()), pytest.raises(KeyboardInterrupt), progress_bar("E", lambda: 3):
        raise KeyboardInterrupt
