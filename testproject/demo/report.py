"""What the demo prints: short, aligned, at most 80 columns, whatever script a value is in."""

import textwrap
import unicodedata
from collections.abc import Callable

__all__ = ["DemoFailed", "Report", "clip"]

WIDTH = 80
INDENT = "   "


class DemoFailed(Exception):
    """Something that the demo says is not so."""


class Report:
    """Numbered sections of lines, written as they are added."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._sections = 0

    def section(self, title: str) -> None:
        self._sections += 1
        self._write(f"\n{self._sections}  {title}\n")

    def line(self, text: str = "") -> None:
        """One line as it is, such as a command."""
        self._write(f"{INDENT}{text}" if text else "")

    def text(self, text: str) -> None:
        """A paragraph, wrapped."""
        self._write(textwrap.fill(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False))

    def fact(self, name: str, value: str | int) -> None:
        """A name and, aligned at the right edge of a column, its number or value."""
        shown = f"{value:,}" if isinstance(value, int) else value
        self._write(f"{INDENT}{pad(clip(name, 56), 58)}{shown:>10}")

    def side_by_side(self, left: str, right: str) -> None:
        self._write(f"{INDENT}{pad(clip(left, 38), 41)}{clip(right, 36)}".rstrip())

    def require(self, holds: bool, claim: str) -> None:
        """Say what holds; where it does not, ``DemoFailed``."""
        if not holds:
            raise DemoFailed(claim)
        self.checked(claim)

    def checked(self, claim: str) -> None:
        """Say what was found to hold."""
        self._write(f"{INDENT}✓ {claim}")


def clip(text: str, columns: int) -> str:
    """The beginning of ``text`` that fits in so many columns of a terminal, on one line."""
    shown = ""
    used = 0
    for character in " ".join(text.split()):
        width = _columns(character)
        if used + width > columns - 1:
            return shown + "…"
        shown += character
        used += width
    return shown


def pad(text: str, columns: int) -> str:
    return text + " " * (columns - sum(map(_columns, text)))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Cf", "Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"F", "W"} else 1
