"""The objects that an instance's ``__dict__`` holds for an encrypted field: sealed values, and assigned ones."""

import copy
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID

from vault_fields.fields.batch import Batch
from vault_fields.runtime.frames import forgetful

__all__ = ["Brought", "Handover", "Opened", "Pending", "Sealed"]

# When a value was read that comes out of a pickle: nobody knows.
_LONG_AGO = float("-inf")
_IMMUTABLE = (str, bytes, int, float, Decimal, date, time, timedelta, UUID)


class Opened:
    """The plaintext of a sealed value: as the user sees it, and as the text that was encrypted."""

    __slots__ = ("encode", "text", "value")

    def __init__(self, value: Any, text: str, encode: Callable[[Any], str]) -> None:
        self.value = value
        self.text = text
        self.encode = encode

    @property
    def is_changed(self) -> bool:
        """Whether a mutable value was changed in place since it was opened."""
        # A value that cannot change in place may have another text all the same, under another declaration of its
        # field.
        return not isinstance(self.value, _IMMUTABLE) and not self.is_text_of(self.value)

    def is_text_of(self, value: Any) -> bool:
        """
        Whether this is the text that would be encrypted for a value. False for one that cannot be: sealing says why.
        """
        try:
            return self.encode(value) == self.text
        except Exception:  # noqa: BLE001 - an encoder is the project's own code, and sealing tells that it failed.
            return False

    def __repr__(self) -> str:
        return "<opened>"


class Sealed:
    """
    A value as the database holds it, opened on first touch.

    ``text`` is the value column; ``keys`` the companion, and ``values`` the row's own columns that the value is bound
    to, both as they were read together with it - None where the query did not tell, and the instance has to.
    ``loaded`` is when it came from the database, by the monotonic clock; 0 for one that did not: nobody knows whether
    it got there, since a transaction may be rolled back at any later time. ``failure`` is why it did not open when it
    was last tried, for coroutines, which cannot try again. ``outside`` is what surrounded the row when it was read, by
    items, if its context starts from that. Pickles carry neither that nor plaintext.
    """

    __slots__ = ("batch", "failure", "keys", "loaded", "opened", "outside", "text", "values")

    def __init__(
        self,
        text: str,
        keys: str | None = None,
        values: tuple[Any, ...] | None = None,
        batch: Batch | None = None,
        opened: Opened | None = None,
        loaded: float = 0.0,
        outside: Mapping[str, str | None] | None = None,
    ) -> None:
        self.text = text
        self.loaded = loaded
        self.outside = outside
        self.keys = keys
        self.values = values
        self.batch = batch
        self.opened = opened
        self.failure: Exception | None = None

    @property
    def is_changed(self) -> bool:
        """Whether its value was changed in place since it was opened."""
        return self.opened is not None and self.opened.is_changed

    @forgetful
    def __reduce__(self) -> tuple[Any, ...]:
        if self.is_changed:
            raise TypeError("A value that was changed in place cannot be pickled before it is saved: it would be lost.")
        return _restore, (type(self), self.text, self.keys, self.values, bool(self.loaded))

    def __copy__(self) -> "Sealed":
        return self.with_opened(self.opened)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Sealed":
        opened = self.opened
        if opened is not None:
            opened = Opened(copy.deepcopy(opened.value, memo), opened.text, opened.encode)
        return self.with_opened(opened)

    def with_opened(self, opened: Opened | None) -> "Sealed":
        return type(self)(
            self.text, self.keys, self.values, self.batch, opened, loaded=self.loaded, outside=self.outside
        )

    def __eq__(self, other: object) -> bool:
        """Whether it is the same ciphertext. Needs no key, for code that compares what instances hold."""
        if not isinstance(other, Sealed):
            return NotImplemented
        return self is other or (self.text == other.text and not self.is_changed and not other.is_changed)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return "<encrypted value: read it as the instance's attribute>"


# The name that json.dumps(instance.__dict__) and the like use in their errors.
Sealed.__name__ = "EncryptedValue"


def _restore(cls: type[Sealed], text: str, keys: str | None, values: tuple[Any, ...] | None, loaded: bool) -> Sealed:
    return cls(text, keys, values, loaded=_LONG_AGO if loaded else 0.0)


class Brought(Sealed):
    """
    A sealed value that was assigned, as it had been stored somewhere; see ``vault_fields.fields.writtenback``.

    It opens for the columns that the row has in memory.
    """

    __slots__ = ()


class Pending:
    """A value that was assigned and not yet saved, and the sealed value that it replaces, if any."""

    __slots__ = ("previous", "value")

    def __init__(self, value: Any, previous: Sealed | None = None) -> None:
        self.value = value
        self.previous = previous

    @forgetful
    def __reduce__(self) -> NoReturn:
        raise TypeError("An encrypted field that was assigned cannot be pickled before it is saved: save it first.")

    @forgetful
    def __eq__(self, other: object) -> bool:
        """Whether it is the same value, or the sealed one that it became. Needs no key, as for sealed values."""
        if isinstance(other, Pending):
            return self is other or bool(self.value == other.value)
        if isinstance(other, Sealed):
            return other.opened is not None and other.opened.is_text_of(self.value)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # Its value may be a list.

    def __copy__(self) -> "Pending":
        return Pending(self.value, self.previous)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pending":
        return Pending(copy.deepcopy(self.value, memo), self.previous)

    def __repr__(self) -> str:
        return "<value that is encrypted when the instance is saved: read it as the instance's attribute>"


Pending.__name__ = "ValueNotEncryptedBeforeSave"


class Handover:
    """
    A stand-in in an instance while Django reads its attributes to write them somewhere else.

    Reading the attribute then gives ``stored`` itself, neither opened nor encrypted again.
    """

    __slots__ = ("stored",)

    def __init__(self, stored: Any) -> None:
        self.stored = stored
