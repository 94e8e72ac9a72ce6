"""Names of settings that messages may show. A key that was written in place of a name is not repeated."""

import re
from collections.abc import Iterable

__all__ = ["named", "names"]

# Tokens have digits, or are longer.
_WORD = re.compile(r"[A-Za-z_]{1,32}")


def named(name: object) -> str:
    """Return the name of an option, if it is a word, or a text that says that it is none."""
    return name if isinstance(name, str) and _WORD.fullmatch(name) else "(not a word)"


def names(options: Iterable[object]) -> str:
    """Return all names, for a message."""
    return ", ".join(sorted(set(map(named, options))))
