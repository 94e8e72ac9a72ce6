"""Numbers in messages, with words that agree with them."""

__all__ = ["counted"]


def counted(number: int, one: str, many: str) -> str:
    """``1 row was left alone``, or ``1,000 rows were left alone``: whichever of the two texts is right behind it."""
    return f"{number:,} {one if number == 1 else many}"
