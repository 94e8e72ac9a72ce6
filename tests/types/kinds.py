"""A field of each type, with values for it."""

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import models
from hypothesis import strategies as st

from vault_fields import fields
from vault_fields.fields.canonical import address_text


class Kind(NamedTuple):
    """A field of the model ``Typed``: its classes, values that come back, and texts as a form sends them."""

    encrypted: type[Any]
    plain: type[Any]
    values: list[Any]
    # What may be assigned besides, and which of the values it is.
    assigned: list[tuple[Any, Any]]
    wrong: list[Any]
    random: st.SearchStrategy[Any]


UTC = dt.UTC
DAY = dt.date(2026, 11, 29)
MOMENT = dt.datetime(2026, 11, 29, 9, 30, 15, 123456, UTC)
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
NUMBER = uuid.UUID("0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0$"), max_size=20)


def whole(least: int, most: int) -> dict[str, Any]:
    return {
        "values": [least, 0, 7, most],
        "assigned": [("5", 5), (True, 1)],
        "wrong": [least - 1, most + 1, "five", [1]],
        "random": st.integers(least, most),
    }


KINDS = {
    "char": Kind(
        fields.EncryptedCharField, models.CharField, ["", "Ada", "é組🔑", " a "], [(7, "7")], ["x" * 21], TEXT
    ),
    "email": Kind(fields.EncryptedEmailField, models.EmailField, ["ada@example.org"], [], ["ada"], TEXT),
    "url": Kind(fields.EncryptedURLField, models.URLField, ["https://example.org/a?b=c"], [], ["example"], TEXT),
    "slug": Kind(fields.EncryptedSlugField, models.SlugField, ["a-slug_1"], [], ["no slug"], TEXT),
    "integer": Kind(fields.EncryptedIntegerField, models.IntegerField, **whole(-(2**31), 2**31 - 1)),
    "small": Kind(fields.EncryptedSmallIntegerField, models.SmallIntegerField, **whole(-(2**15), 2**15 - 1)),
    "big": Kind(fields.EncryptedBigIntegerField, models.BigIntegerField, **whole(-(2**63), 2**63 - 1)),
    "positive": Kind(fields.EncryptedPositiveIntegerField, models.PositiveIntegerField, **whole(0, 2**31 - 1)),
    "positive_small": Kind(
        fields.EncryptedPositiveSmallIntegerField, models.PositiveSmallIntegerField, **whole(0, 2**15 - 1)
    ),
    "positive_big": Kind(
        fields.EncryptedPositiveBigIntegerField, models.PositiveBigIntegerField, **whole(0, 2**63 - 1)
    ),
    "decimal": Kind(
        fields.EncryptedDecimalField,
        models.DecimalField,
        [Decimal("0.00"), Decimal("1.50"), Decimal("-999999.99"), Decimal("999999.99")],
        [("1.5", Decimal("1.50")), (2, Decimal("2.00")), (0.1, Decimal("0.10")), (Decimal("-0"), Decimal("0.00"))],
        [Decimal(1000000), Decimal("NaN"), Decimal("Infinity"), "x"],
        st.decimals(-999999, 999999, places=2),
    ),
    "float": Kind(
        fields.EncryptedFloatField,
        models.FloatField,
        [0.0, 0.1, -2.2250738585072014e-308, 1.7976931348623157e308],
        [("1.5", 1.5), (2, 2.0)],
        [float("nan"), float("inf"), "x"],
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    "boolean": Kind(
        fields.EncryptedBooleanField, models.BooleanField, [True, False], [(1, True), ("f", False)], [7], st.booleans()
    ),
    "date": Kind(
        fields.EncryptedDateField,
        models.DateField,
        [DAY, dt.date.min, dt.date.max],
        [("2026-11-29", DAY), (MOMENT, DAY)],
        ["29.11.2026", "2026-02-30", 7],
        st.dates(),
    ),
    "datetime": Kind(
        fields.EncryptedDateTimeField,
        models.DateTimeField,
        [MOMENT, MOMENT.replace(microsecond=0), dt.datetime(1, 1, 1, tzinfo=UTC)],
        [("2026-11-29T09:30:15.123456Z", MOMENT), (MOMENT.astimezone(EAST), MOMENT)],
        ["noon", "2026-02-30 12:00", "2026-02-30", 7],
        st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    ),
    "time": Kind(
        fields.EncryptedTimeField,
        models.TimeField,
        [dt.time(9, 30), dt.time(23, 59, 59, 999999), dt.time.min],
        [("09:30", dt.time(9, 30)), (MOMENT, MOMENT.time())],
        ["noon", "25:00", dt.time(9, 30, tzinfo=UTC)],
        st.times(),
    ),
    "duration": Kind(
        fields.EncryptedDurationField,
        models.DurationField,
        [dt.timedelta(), dt.timedelta(days=1, seconds=2, microseconds=3), dt.timedelta.min, dt.timedelta.max],
        [("1 00:00:02", dt.timedelta(days=1, seconds=2))],
        ["soon"],
        st.timedeltas(),
    ),
    "uuid": Kind(
        fields.EncryptedUUIDField,
        models.UUIDField,
        [NUMBER],
        [(NUMBER.hex, NUMBER), (str(NUMBER).upper(), NUMBER), (NUMBER.int, NUMBER)],
        ["x", 1.5],
        st.uuids(),
    ),
    "address": Kind(
        fields.EncryptedGenericIPAddressField,
        models.GenericIPAddressField,
        ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"],
        [("2001:DB8:0:0:0:0:0:1", "2001:db8::1"), ("", None)],
        ["192.0.2.256", "2001:db8::g", "x"],
        st.ip_addresses().map(str).map(address_text),
    ),
    "binary": Kind(
        fields.EncryptedBinaryField,
        models.BinaryField,
        [b"", b"\0\xff", b"abc"],
        [(bytearray(b"abc"), b"abc"), (memoryview(b"abc"), b"abc")],
        ["text", 7],
        st.binary(max_size=20),
    ),
}

VALUES = [(name, value) for name, kind in KINDS.items() for value in kind.values]
ASSIGNED = [(name, *each) for name, kind in KINDS.items() for each in kind.assigned]
WRONG = [(name, value) for name, kind in KINDS.items() for value in kind.wrong]
# The texts of these have one length each, whatever the value.
OF_ONE_LENGTH = KINDS.keys() - {"char", "email", "url", "slug", "binary"}
