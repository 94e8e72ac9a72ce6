"""Encrypted dates, times and durations. All values of a field have one length where they are encrypted."""

import datetime as dt
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, overload

from django.conf import settings
from django.db.models import DateField, DateTimeField, Model, TimeField
from django.utils import timezone
from django.utils.translation import gettext_lazy

from vault_fields.exceptions import DecryptionError
from vault_fields.fields.canonical import (
    date_from,
    date_text,
    datetime_from,
    datetime_text,
    duration_from,
    duration_text,
    time_from,
    time_text,
)
from vault_fields.fields.context import KeyContextDeclaration
from vault_fields.fields.typed import (
    GenericDateField,
    GenericDateTimeField,
    GenericDurationField,
    GenericTimeField,
    GetT_co,
    SetT_contra,
)
from vault_fields.fields.types.typed import CanonicalField
from vault_fields.runtime.frames import forgetful

__all__ = ["EncryptedDateField", "EncryptedDateTimeField", "EncryptedDurationField", "EncryptedTimeField"]

_DATE = gettext_lazy("Enter a valid date.")
_TIME = gettext_lazy("Enter a valid time.")
_DATETIME = gettext_lazy("Enter a valid date/time.")


class Clocked(CanonicalField[SetT_contra, GetT_co]):
    """The part that encrypted fields with ``auto_now`` and ``auto_now_add`` share."""

    auto_now: bool
    auto_now_add: bool

    def chooses(self, add: bool) -> bool:
        return self.auto_now or (self.auto_now_add and add)

    def contribute_to_class(self, cls: type[Model], name: str, *args: Any, **kwargs: Any) -> None:
        names = [f"get_next_by_{name}", f"get_previous_by_{name}"]
        own = {each: vars(cls)[each] for each in names if each in vars(cls)}
        super().contribute_to_class(cls, name, *args, **kwargs)
        # Django's would go by the order of ciphertext.
        for each in names:
            if each in own:
                setattr(cls, each, own[each])
            elif each in vars(cls):
                delattr(cls, each)


class EncryptedDateField(Clocked[SetT_contra, GetT_co], GenericDateField[SetT_contra, GetT_co]):
    """A ``DateField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options."""

    description = "Encrypted date"

    if TYPE_CHECKING:
        _pyi_private_set_type: dt.date | str
        _pyi_private_get_type: dt.date

        @overload
        def __init__(
            self: "EncryptedDateField[dt.date | str, dt.date]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedDateField[dt.date | str | None, dt.date | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": _DATE, "invalid_date": _DATE}

    def write(self, value: dt.date) -> str:
        return date_text(value)

    def read(self, text: str) -> dt.date:
        return date_from(text)

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        return DateField.pre_save(self, model_instance, add)


class EncryptedTimeField(Clocked[SetT_contra, GetT_co], GenericTimeField[SetT_contra, GetT_co]):
    """A ``TimeField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options."""

    description = "Encrypted time"

    if TYPE_CHECKING:
        _pyi_private_set_type: dt.time | dt.datetime | str
        _pyi_private_get_type: dt.time

        @overload
        def __init__(
            self: "EncryptedTimeField[dt.time | dt.datetime | str, dt.time]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedTimeField[dt.time | dt.datetime | str | None, dt.time | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": _TIME, "invalid_time": _TIME}

    def write(self, value: dt.time) -> str:
        return time_text(value)

    def read(self, text: str) -> dt.time:
        return time_from(text)

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        return TimeField.pre_save(self, model_instance, add)


class EncryptedDateTimeField(Clocked[SetT_contra, GetT_co], GenericDateTimeField[SetT_contra, GetT_co]):
    """
    A ``DateTimeField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    With ``USE_TZ`` values are aware, and read in UTC; without it they are naive, and aware ones are refused.
    """

    description = "Encrypted date and time"

    if TYPE_CHECKING:
        _pyi_private_set_type: dt.date | str
        _pyi_private_get_type: dt.datetime

        @overload
        def __init__(
            self: "EncryptedDateTimeField[dt.date | str, dt.datetime]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedDateTimeField[dt.date | str | None, dt.datetime | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": _DATETIME, "invalid_date": _DATETIME, "invalid_datetime": _DATETIME}

    @forgetful
    def to_python(self, value: Any) -> Any:
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return self._aware(dt.datetime.combine(value, dt.time()))
        return super().to_python(value)

    def to_plaintext(self, value: Any) -> str:
        value = self.to_python(value)
        if isinstance(value, dt.datetime):
            value = self._aware(value)
            if not settings.USE_TZ and timezone.is_aware(value):
                raise ValueError
        return super().to_plaintext(value)

    def from_plaintext(self, text: str) -> Any:
        value = super().from_plaintext(text)
        if settings.USE_TZ is timezone.is_aware(value):
            return value
        # USE_TZ was another when it was written. The default time zone is the one that was meant.
        zone = timezone.get_default_timezone()
        with suppress(OverflowError):
            return timezone.make_aware(value, zone) if settings.USE_TZ else timezone.make_naive(value, zone)
        # The first or the last hours of all, which stand for "never" or "always".
        raise DecryptionError(f"the value is no text of a value of {type(self).__name__}.")

    def write(self, value: dt.datetime) -> str:
        return datetime_text(value)

    def read(self, text: str) -> dt.datetime:
        return datetime_from(text)

    def _aware(self, value: dt.datetime) -> dt.datetime:
        """Return a naive time in the default time zone, as Django does, with a warning that does not repeat it."""
        if not settings.USE_TZ or timezone.is_aware(value):
            return value
        name = self.label if hasattr(self, "model") else "(unbound)"
        warnings.warn(
            f"{name} received a naive datetime while time zone support is active.", RuntimeWarning, stacklevel=2
        )
        return timezone.make_aware(value, timezone.get_default_timezone())

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        return DateTimeField.pre_save(self, model_instance, add)


class EncryptedDurationField(CanonicalField[SetT_contra, GetT_co], GenericDurationField[SetT_contra, GetT_co]):
    """A ``DurationField`` whose value is encrypted for the row's key context; see ``EncryptedField``."""

    description = "Encrypted duration"

    if TYPE_CHECKING:
        _pyi_private_set_type: dt.timedelta | str
        _pyi_private_get_type: dt.timedelta

        @overload
        def __init__(
            self: "EncryptedDurationField[dt.timedelta | str, dt.timedelta]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedDurationField[dt.timedelta | str | None, dt.timedelta | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": gettext_lazy("Enter a valid duration.")}
    padded_to = len(duration_text(dt.timedelta.min))

    def write(self, value: dt.timedelta) -> str:
        return duration_text(value)

    def read(self, text: str) -> dt.timedelta:
        return duration_from(text)
