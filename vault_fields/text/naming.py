"""What of a setting may be named in a message: a key that stands in the place of a name is not repeated."""

import re
from collections.abc import Iterable

__all__ = ["named", "names"]

# Tokens have digits, or are longer.
_WORD = re.compile(r"[A-Za-z_]{1,32}")


def named(name: object) -> str:
    """The name of an option, if it is a word."""
    return name if isinstance(name, str) and _WORD.fullmatch(name) else "(not a word)"


def names(options: Iterable[object]) -> str:
    """All of them, in a message."""
    return ", ".join(sorted(set(map(named, options))))
