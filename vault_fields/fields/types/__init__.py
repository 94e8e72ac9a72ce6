"""The encrypted counterparts of Django's fields, apart from text and JSON."""

import datetime as dt
from decimal import Decimal
from uuid import UUID

__all__ = ["VALUE_TYPES"]

# By internal type, for packages that go by it. Texts have the internal type of Django's ``TextField``.
VALUE_TYPES: dict[str, type] = {
    "EncryptedBigIntegerField": int,
    "EncryptedBinaryField": bytes,
    "EncryptedBooleanField": bool,
    "EncryptedDateField": dt.date,
    "EncryptedDateTimeField": dt.datetime,
    "EncryptedDecimalField": Decimal,
    "EncryptedDurationField": dt.timedelta,
    "EncryptedFloatField": float,
    "EncryptedGenericIPAddressField": str,
    "EncryptedIntegerField": int,
    "EncryptedPositiveBigIntegerField": int,
    "EncryptedPositiveIntegerField": int,
    "EncryptedPositiveSmallIntegerField": int,
    "EncryptedSmallIntegerField": int,
    "EncryptedTimeField": dt.time,
    "EncryptedUUIDField": UUID,
}
