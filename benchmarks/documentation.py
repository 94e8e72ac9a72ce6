"""The figures of a run in the documentation, between two marks of its page."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Conditions, Item, Line, Missing, table

__all__ = ["write"]

FIGURES = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


def write(items: Sequence[Item], page: Path) -> None:
    """A table for each part, and the conditions before them."""
    lines = [item for item in items if isinstance(item, Line | Missing)]
    texts = dict.fromkeys(item.text for item in items if isinstance(item, Conditions))
    found = [f"{'. '.join(texts)}."]
    for part in dict.fromkeys(line.part for line in lines):
        found += [f"### {part.capitalize()}", table((line for line in lines if line.part == part), with_part=False)]
    text = page.read_text("utf-8")
    if not FIGURES.search(text):
        raise ValueError(f"{page} does not mark the place for the figures.")
    page.write_text(FIGURES.sub(lambda _: "\n" + "\n\n".join(found) + "\n\n", text), "utf-8")
