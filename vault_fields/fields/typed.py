"""
Django's field classes as type checkers see them: generic in what may be assigned and in what is read.

At run time they are not generic, and the parts in brackets are left out.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db.models import (
    BigIntegerField,
    BinaryField,
    BooleanField,
    CharField,
    DateField,
    DateTimeField,
    DecimalField,
    DurationField,
    EmailField,
    Field,
    FloatField,
    GenericIPAddressField,
    IntegerField,
    JSONField,
    PositiveBigIntegerField,
    PositiveIntegerField,
    PositiveSmallIntegerField,
    SlugField,
    SmallIntegerField,
    TextField,
    TimeField,
    URLField,
    UUIDField,
)

__all__ = ["GetT_co", "JSONInput", "JSONValue", "SetT_contra"]
__all__ += [
    "GenericBigIntegerField",
    "GenericBinaryField",
    "GenericBooleanField",
    "GenericCharField",
    "GenericDateField",
    "GenericDateTimeField",
    "GenericDecimalField",
    "GenericDurationField",
    "GenericEmailField",
    "GenericField",
    "GenericFloatField",
    "GenericGenericIPAddressField",
    "GenericIntegerField",
    "GenericJSONField",
    "GenericPositiveBigIntegerField",
    "GenericPositiveIntegerField",
    "GenericPositiveSmallIntegerField",
    "GenericSlugField",
    "GenericSmallIntegerField",
    "GenericTextField",
    "GenericTimeField",
    "GenericURLField",
    "GenericUUIDField",
]

# The type read from an encrypted JSON field, and the one that may be assigned: tuples and other mappings are JSON too.
JSONValue: TypeAlias = dict[str, "JSONValue"] | list["JSONValue"] | str | int | float | bool | None
JSONInput: TypeAlias = Mapping[str, "JSONInput"] | Sequence["JSONInput"] | str | int | float | bool | None

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    SetT_contra = TypeVar("SetT_contra", contravariant=True, default=Any)
    GetT_co = TypeVar("GetT_co", covariant=True, default=Any)
    GenericBigIntegerField = BigIntegerField
    GenericBinaryField = BinaryField
    GenericBooleanField = BooleanField
    GenericCharField = CharField
    GenericDateField = DateField
    GenericDateTimeField = DateTimeField
    GenericDecimalField = DecimalField
    GenericDurationField = DurationField
    GenericEmailField = EmailField
    GenericField = Field
    GenericFloatField = FloatField
    GenericGenericIPAddressField = GenericIPAddressField
    GenericIntegerField = IntegerField
    GenericJSONField = JSONField
    GenericPositiveBigIntegerField = PositiveBigIntegerField
    GenericPositiveIntegerField = PositiveIntegerField
    GenericPositiveSmallIntegerField = PositiveSmallIntegerField
    GenericSlugField = SlugField
    GenericSmallIntegerField = SmallIntegerField
    GenericTextField = TextField
    GenericTimeField = TimeField
    GenericURLField = URLField
    GenericUUIDField = UUIDField
else:
    SetT_contra = GetT_co = Any
    GenericBigIntegerField = {(Any, Any): BigIntegerField}
    GenericBinaryField = {(Any, Any): BinaryField}
    GenericBooleanField = {(Any, Any): BooleanField}
    GenericCharField = {(Any, Any): CharField}
    GenericDateField = {(Any, Any): DateField}
    GenericDateTimeField = {(Any, Any): DateTimeField}
    GenericDecimalField = {(Any, Any): DecimalField}
    GenericDurationField = {(Any, Any): DurationField}
    GenericEmailField = {(Any, Any): EmailField}
    GenericField = {(Any, Any): Field}
    GenericFloatField = {(Any, Any): FloatField}
    GenericGenericIPAddressField = {(Any, Any): GenericIPAddressField}
    GenericIntegerField = {(Any, Any): IntegerField}
    GenericJSONField = {(Any, Any): JSONField}
    GenericPositiveBigIntegerField = {(Any, Any): PositiveBigIntegerField}
    GenericPositiveIntegerField = {(Any, Any): PositiveIntegerField}
    GenericPositiveSmallIntegerField = {(Any, Any): PositiveSmallIntegerField}
    GenericSlugField = {(Any, Any): SlugField}
    GenericSmallIntegerField = {(Any, Any): SmallIntegerField}
    GenericTextField = {(Any, Any): TextField}
    GenericTimeField = {(Any, Any): TimeField}
    GenericURLField = {(Any, Any): URLField}
    GenericUUIDField = {(Any, Any): UUIDField}
