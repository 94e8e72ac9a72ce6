"""
Encrypted model fields.

These import paths are in users' migrations and never change.
"""

from vault_fields.fields.asynchronous import aopen
from vault_fields.fields.attempts import Attempt, try_open
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.blindindex import BlindIndex, IndexField
from vault_fields.fields.companion import CompanionField
from vault_fields.fields.context import context_from
from vault_fields.fields.forcontext import ForContext
from vault_fields.fields.indexing import make_index_keys
from vault_fields.fields.json import EncryptedJSONField
from vault_fields.fields.text import EncryptedTextField
from vault_fields.fields.typed import JSONValue
from vault_fields.fields.types.numbers import (
    EncryptedBigIntegerField,
    EncryptedBooleanField,
    EncryptedDecimalField,
    EncryptedFloatField,
    EncryptedIntegerField,
    EncryptedPositiveBigIntegerField,
    EncryptedPositiveIntegerField,
    EncryptedPositiveSmallIntegerField,
    EncryptedSmallIntegerField,
)
from vault_fields.fields.types.others import (
    EncryptedBinaryField,
    EncryptedGenericIPAddressField,
    EncryptedUUIDField,
)
from vault_fields.fields.types.strings import (
    EncryptedCharField,
    EncryptedEmailField,
    EncryptedSlugField,
    EncryptedURLField,
)
from vault_fields.fields.types.times import (
    EncryptedDateField,
    EncryptedDateTimeField,
    EncryptedDurationField,
    EncryptedTimeField,
)
from vault_fields.fields.unique import EncryptedUniqueConstraint, UniqueInContext

__all__ = [
    "Attempt",
    "BlindIndex",
    "CompanionField",
    "EncryptedBigIntegerField",
    "EncryptedBinaryField",
    "EncryptedBooleanField",
    "EncryptedCharField",
    "EncryptedDateField",
    "EncryptedDateTimeField",
    "EncryptedDecimalField",
    "EncryptedDurationField",
    "EncryptedEmailField",
    "EncryptedField",
    "EncryptedFloatField",
    "EncryptedGenericIPAddressField",
    "EncryptedIntegerField",
    "EncryptedJSONField",
    "EncryptedPositiveBigIntegerField",
    "EncryptedPositiveIntegerField",
    "EncryptedPositiveSmallIntegerField",
    "EncryptedSlugField",
    "EncryptedSmallIntegerField",
    "EncryptedTextField",
    "EncryptedTimeField",
    "EncryptedURLField",
    "EncryptedUUIDField",
    "EncryptedUniqueConstraint",
    "ForContext",
    "IndexField",
    "JSONValue",
    "UniqueInContext",
    "aopen",
    "context_from",
    "make_index_keys",
    "try_open",
]
