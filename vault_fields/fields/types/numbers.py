"""Encrypted numbers and truth values. All values of a field have one length where they are encrypted."""

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

from django.core.validators import BaseValidator, MaxValueValidator, MinValueValidator
from django.utils.translation import gettext_lazy

from vault_fields.fields.canonical import (
    boolean_from,
    boolean_text,
    decimal_from,
    decimal_text,
    float_from,
    float_text,
    whole_number_from,
    whole_number_text,
)
from vault_fields.fields.context import KeyContextDeclaration
from vault_fields.fields.encoding import EncodableValidator
from vault_fields.fields.typed import (
    GenericBigIntegerField,
    GenericBooleanField,
    GenericDecimalField,
    GenericFloatField,
    GenericIntegerField,
    GenericPositiveBigIntegerField,
    GenericPositiveIntegerField,
    GenericPositiveSmallIntegerField,
    GenericSmallIntegerField,
    GetT_co,
    SetT_contra,
)
from vault_fields.fields.types.typed import CanonicalField

__all__ = [
    "EncryptedBigIntegerField",
    "EncryptedBooleanField",
    "EncryptedDecimalField",
    "EncryptedFloatField",
    "EncryptedIntegerField",
    "EncryptedPositiveBigIntegerField",
    "EncryptedPositiveIntegerField",
    "EncryptedPositiveSmallIntegerField",
    "EncryptedSmallIntegerField",
]

_FEW_VALUES = "it has two values, and how often each occurs tells which is which"


class WholeNumber(CanonicalField[SetT_contra, GetT_co]):
    """The part that encrypted fields of whole numbers share: the range of the plain column is theirs."""

    lowest: int
    highest: int

    default_error_messages = {"invalid": gettext_lazy("Enter a whole number.")}

    @property
    def padded_to(self) -> int:  # type: ignore[override]
        return max(len(str(self.lowest)), len(str(self.highest)))

    def write(self, value: int) -> str:
        if not self.lowest <= value <= self.highest:
            raise OverflowError
        return whole_number_text(value)

    def read(self, text: str) -> int:
        return whole_number_from(text)

    @cached_property
    def validators(self) -> list[Any]:
        # Django's would ask the connection for the range of a column of numbers.
        declared = [*self.default_validators, *self._validators]  # type: ignore[attr-defined]
        return [*declared, *self._missing_limits(declared), EncodableValidator(self)]

    def _missing_limits(self, declared: list[Any]) -> list[BaseValidator]:
        """Return the limits of the type, where none that is declared is closer."""
        lower = [_limit(each) for each in declared if isinstance(each, MinValueValidator)]
        upper = [_limit(each) for each in declared if isinstance(each, MaxValueValidator)]
        limits: list[BaseValidator] = []
        if not any(limit >= self.lowest for limit in lower):
            limits.append(MinValueValidator(self.lowest))
        if not any(limit <= self.highest for limit in upper):
            limits.append(MaxValueValidator(self.highest))
        return limits


def _limit(validator: BaseValidator) -> Any:
    limit: Any = validator.limit_value
    return limit() if isinstance(limit, Callable) else limit  # type: ignore[arg-type]


class EncryptedIntegerField(WholeNumber[SetT_contra, GetT_co], GenericIntegerField[SetT_contra, GetT_co]):
    """An ``IntegerField`` whose value is encrypted for the row's key context; see ``EncryptedField``."""

    description = "Encrypted integer"

    if TYPE_CHECKING:
        _pyi_private_set_type: int | str
        _pyi_private_get_type: int

        @overload
        def __init__(
            self: "EncryptedIntegerField[int | str, int]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedIntegerField[int | str | None, int | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    lowest, highest = -(2**31), 2**31 - 1


class EncryptedSmallIntegerField(WholeNumber[SetT_contra, GetT_co], GenericSmallIntegerField[SetT_contra, GetT_co]):
    """A ``SmallIntegerField`` whose value is encrypted for the row's key context; see ``EncryptedField``."""

    description = "Encrypted small integer"

    if TYPE_CHECKING:
        _pyi_private_set_type: int | str
        _pyi_private_get_type: int

        @overload
        def __init__(
            self: "EncryptedSmallIntegerField[int | str, int]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedSmallIntegerField[int | str | None, int | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    lowest, highest = -(2**15), 2**15 - 1


class EncryptedBigIntegerField(WholeNumber[SetT_contra, GetT_co], GenericBigIntegerField[SetT_contra, GetT_co]):
    """A ``BigIntegerField`` whose value is encrypted for the row's key context; see ``EncryptedField``."""

    description = "Encrypted big integer"

    if TYPE_CHECKING:
        _pyi_private_set_type: int | str
        _pyi_private_get_type: int

        @overload
        def __init__(
            self: "EncryptedBigIntegerField[int | str, int]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedBigIntegerField[int | str | None, int | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    lowest, highest = -(2**63), 2**63 - 1


class EncryptedPositiveIntegerField(
    WholeNumber[SetT_contra, GetT_co], GenericPositiveIntegerField[SetT_contra, GetT_co]
):
    """A ``PositiveIntegerField`` whose value is encrypted for the row's key context; see ``EncryptedField``."""

    description = "Encrypted positive integer"

    if TYPE_CHECKING:
        _pyi_private_set_type: int | str
        _pyi_private_get_type: int

        @overload
        def __init__(
            self: "EncryptedPositiveIntegerField[int | str, int]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedPositiveIntegerField[int | str | None, int | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    lowest, highest = 0, 2**31 - 1


class EncryptedPositiveSmallIntegerField(
    WholeNumber[SetT_contra, GetT_co], GenericPositiveSmallIntegerField[SetT_contra, GetT_co]
):
    """A ``PositiveSmallIntegerField`` whose value is encrypted for the row's key context; see ``EncryptedField``."""

    description = "Encrypted positive small integer"

    if TYPE_CHECKING:
        _pyi_private_set_type: int | str
        _pyi_private_get_type: int

        @overload
        def __init__(
            self: "EncryptedPositiveSmallIntegerField[int | str, int]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedPositiveSmallIntegerField[int | str | None, int | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    lowest, highest = 0, 2**15 - 1


class EncryptedPositiveBigIntegerField(
    WholeNumber[SetT_contra, GetT_co], GenericPositiveBigIntegerField[SetT_contra, GetT_co]
):
    """A ``PositiveBigIntegerField`` whose value is encrypted for the row's key context; see ``EncryptedField``."""

    description = "Encrypted positive big integer"

    if TYPE_CHECKING:
        _pyi_private_set_type: int | str
        _pyi_private_get_type: int

        @overload
        def __init__(
            self: "EncryptedPositiveBigIntegerField[int | str, int]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedPositiveBigIntegerField[int | str | None, int | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    lowest, highest = 0, 2**63 - 1


class EncryptedDecimalField(CanonicalField[SetT_contra, GetT_co], GenericDecimalField[SetT_contra, GetT_co]):
    """
    A ``DecimalField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    Rounded to ``decimal_places`` as the plain one is; a value that needs more than ``max_digits`` is refused.
    """

    description = "Encrypted decimal number"

    if TYPE_CHECKING:
        _pyi_private_set_type: Decimal | float | str
        _pyi_private_get_type: Decimal

        @overload
        def __init__(
            self: "EncryptedDecimalField[Decimal | float | str, Decimal]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedDecimalField[Decimal | float | str | None, Decimal | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": gettext_lazy("Enter a number.")}

    @property
    def padded_to(self) -> int:  # type: ignore[override]
        if None in {self.max_digits, self.decimal_places}:
            return 0
        # A sign, a point, and a nought before it where all digits are behind it.
        return int(self.max_digits) + 3

    def write(self, value: Decimal) -> str:
        return decimal_text(value, self.max_digits, self.decimal_places)

    def read(self, text: str) -> Decimal:
        value = decimal_from(text)
        # A value from before ``decimal_places`` was changed; one that does not fit is given as it is.
        with suppress(ArithmeticError, ValueError):
            if (fitted := decimal_from(self.write(value))) == value:
                return fitted
        return value


class EncryptedFloatField(CanonicalField[SetT_contra, GetT_co], GenericFloatField[SetT_contra, GetT_co]):
    """
    A ``FloatField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    Infinities and NaN are refused. It has no index: whether two are equal depends on how they were computed.
    """

    description = "Encrypted floating point number"

    if TYPE_CHECKING:
        _pyi_private_set_type: float | str
        _pyi_private_get_type: float

        @overload
        def __init__(
            self: "EncryptedFloatField[float | str, float]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedFloatField[float | str | None, float | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": gettext_lazy("Enter a number.")}
    is_indexable = False
    not_indexable = "whether two floating point numbers are equal depends on how they were computed"
    padded_to = len("-2.2250738585072014e-308")

    def write(self, value: float) -> str:
        return float_text(value)

    def read(self, text: str) -> float:
        return float_from(text)


class EncryptedBooleanField(CanonicalField[SetT_contra, GetT_co], GenericBooleanField[SetT_contra, GetT_co]):
    """
    A ``BooleanField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    It has no index: an index of two values tells them apart by how often each occurs.
    """

    description = "Encrypted boolean"

    if TYPE_CHECKING:
        _pyi_private_set_type: bool
        _pyi_private_get_type: bool

        @overload
        def __init__(
            self: "EncryptedBooleanField[bool, bool]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedBooleanField[bool | None, bool | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": gettext_lazy("Enter a valid value.")}
    is_indexable = False
    not_indexable = _FEW_VALUES
    padded_to = len("false")

    def write(self, value: bool) -> str:
        return boolean_text(value)

    def read(self, text: str) -> bool:
        return boolean_from(text)
