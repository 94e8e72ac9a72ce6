"""Text of a column, and the stand-in for a column that holds something else."""

from typing import Any

from vault_fields.exceptions import EnvelopeError

__all__ = ["DAMAGED", "Damaged", "as_text", "require_text"]


class Damaged(str):
    """
    A stand-in for content of a text column that is not text, as SQLite allows: never opened and never written.

    Reading the value raises an error that says so; the rows beside it are not disturbed.
    """

    __slots__ = ()


DAMAGED = Damaged("(damaged)")


def as_text(value: Any) -> str | None:
    """Return the content of a column as text."""
    return value if value is None or isinstance(value, str) else DAMAGED


def require_text(text: str | None, label: str) -> str | None:
    """Refuse to write or hand out a text that only stands for the column's content."""
    if isinstance(text, Damaged):
        raise EnvelopeError(f"{label}: the column does not hold text. Nothing was written; assign a new value first.")
    return text
