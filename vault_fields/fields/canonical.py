"""
The canonical texts of typed values: equal values have one text, whatever the database and its version.

A text is what is encrypted, and what a blind index hashes; ``docs/format.md`` has them for other readers. Writers
raise ``ValueError``, ``ArithmeticError`` or ``TypeError`` for values that have none, and readers for every text that
no writer makes.
"""

import base64
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar
from uuid import UUID

__all__ = [
    "address_from",
    "address_text",
    "boolean_from",
    "boolean_text",
    "bytes_from",
    "bytes_text",
    "date_from",
    "date_text",
    "datetime_from",
    "datetime_text",
    "decimal_from",
    "decimal_text",
    "duration_from",
    "duration_text",
    "float_from",
    "float_text",
    "time_from",
    "time_text",
    "uuid_from",
    "uuid_text",
    "whole_number_from",
    "whole_number_text",
]

T = TypeVar("T")

_BOOLEANS = {"true": True, "false": False}
_MICROSECOND = timedelta(microseconds=1)
# Digits before and behind the point that PostgreSQL's numeric has, for decimals without a declared size.
_MOST_DIGITS = 131_072
_MOST_PLACES = 16_383


def boolean_text(value: bool) -> str:
    """Return ``true`` or ``false``."""
    return "true" if value else "false"


def boolean_from(text: str) -> bool:
    """Read what ``boolean_text`` writes."""
    return _checked(_BOOLEANS.get(text, False), text, boolean_text)


def whole_number_text(value: int) -> str:
    """Return the digits, with a sign before a negative number."""
    return str(value)


def whole_number_from(text: str) -> int:
    """Read what ``whole_number_text`` writes."""
    return _checked(int(text), text, whole_number_text)


def decimal_text(value: Decimal, max_digits: int | None = None, places: int | None = None) -> str:
    """
    Return all digits, without an exponent: rounded to ``places``, or without zeros at the end if none are declared.

    Rounds half to even, as Django does where the database has no decimals.
    """
    if max_digits is not None and places is not None:
        value = value.quantize(Decimal(1).scaleb(-places), context=Context(prec=max_digits))
        text = _digits(value)
    else:
        text = _digits(value)
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text


def decimal_from(text: str) -> Decimal:
    """Read what ``decimal_text`` writes with any number of places."""
    return _checked(Decimal(text), text, _digits)


def _digits(value: Decimal) -> str:
    if not value.is_finite() or not -_MOST_PLACES <= value.adjusted() <= _MOST_DIGITS:
        raise ValueError
    return f"{value:f}" if value else f"{abs(value):f}"


def float_text(value: float) -> str:
    """Return the shortest digits that are this number again. Infinities and NaN have none."""
    if not math.isfinite(value):
        raise ValueError
    return repr(value)


def float_from(text: str) -> float:
    """Read what ``float_text`` writes."""
    return _checked(float(text), text, float_text)


def date_text(value: date) -> str:
    """Return ``YYYY-MM-DD``."""
    return value.isoformat()


def date_from(text: str) -> date:
    """Read what ``date_text`` writes."""
    return _checked(date.fromisoformat(text), text, date_text)


def time_text(value: time) -> str:
    """Return ``HH:MM:SS.ffffff``. A time with a zone has none."""
    if value.tzinfo is not None:
        raise ValueError
    return value.isoformat("microseconds")


def time_from(text: str) -> time:
    """Read what ``time_text`` writes."""
    return _checked(time.fromisoformat(text), text, time_text)


def datetime_text(value: datetime) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SS.ffffff``: in UTC, with a ``Z`` behind, or without it for a time without a zone."""
    if value.tzinfo is None:
        return value.isoformat(timespec="microseconds")
    return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def datetime_from(text: str) -> datetime:
    """Read what ``datetime_text`` writes."""
    return _checked(datetime.fromisoformat(text), text, datetime_text)


def duration_text(value: timedelta) -> str:
    """Return the whole number of microseconds."""
    return str(value // _MICROSECOND)


def duration_from(text: str) -> timedelta:
    """Read what ``duration_text`` writes."""
    days, microseconds = divmod(int(text), 86_400_000_000)
    return _checked(timedelta(days=days, microseconds=microseconds), text, duration_text)


def uuid_text(value: UUID) -> str:
    """Return 32 digits in small letters, with hyphens."""
    return str(value)


def uuid_from(text: str) -> UUID:
    """Read what ``uuid_text`` writes."""
    return _checked(UUID(text), text, uuid_text)


def address_text(text: str) -> str:
    """Return an IP address in its shortest spelling: small letters, and IPv4 addresses inside of IPv6 with dots."""
    if ":" not in text:
        return str(IPv4Address(text))
    address = IPv6Address(text)
    if address.scope_id is not None:
        raise ValueError
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)


def address_from(text: str) -> str:
    """Read what ``address_text`` writes, which is a text for users too."""
    return _checked(address_text(text), text, address_text)


def bytes_text(value: bytes | bytearray | memoryview) -> str:
    """Return base64 with padding, in the standard alphabet."""
    return base64.b64encode(value).decode("ascii")


def bytes_from(text: str) -> bytes:
    """Read what ``bytes_text`` writes."""
    return _checked(base64.b64decode(text, validate=True), text, bytes_text)


def _checked(value: T, text: str, write: Callable[[T], str]) -> T:
    """Return a value that was read if this is its text. Parsers read other spellings, and spaces, too."""
    if write(value) != text:
        raise ValueError
    return value
