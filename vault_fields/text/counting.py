"""Numbers in messages, with words that agree with them."""

__all__ = ["counted"]


def counted(number: int, one: str, many: str) -> str:
    """Return ``1 row was left alone`` or ``1,000 rows were left alone``: the number, and the text that fits it."""
    return f"{number:,} {one if number == 1 else many}"
