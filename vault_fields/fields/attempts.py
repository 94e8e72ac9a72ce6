"""Reading a value that may not open, while the rest of a page must be right all the same."""

import logging
from collections.abc import Callable
from typing import Any, NoReturn

from django.db.models import Model
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from vault_fields.exceptions import DecryptionError, KeyRevoked, VaultError, VaultRefused, VaultUnavailable
from vault_fields.runtime.frames import forgetful

__all__ = ["Attempt", "attempt", "reason_of", "try_open"]

logger = logging.getLogger("vault_fields.fields")

# The reasons for users: the first that fits counts. None names a row, a key or a host, as the errors do.
_REASONS: tuple[tuple[type[Exception], Promise], ...] = (
    (VaultUnavailable, gettext_lazy("The keys for this cannot be reached at the moment. Try again in a minute.")),
    (KeyRevoked, gettext_lazy("The key for this was withdrawn by its owner.")),
    (VaultError, gettext_lazy("The keys for this are not available.")),
    (DecryptionError, gettext_lazy("This value cannot be read.")),
)


class Attempt:
    """
    The result of opening one value. True if it opened, whatever the value is.

    ``error`` is the exception, and None if it opened; ``reason`` says it in a sentence for users. As text it is the
    value or the reason, which a page can show.
    """

    __slots__ = ("_value", "error")

    def __init__(self, value: Any = None, error: DecryptionError | VaultError | None = None) -> None:
        self._value = value
        self.error = error

    @property
    def value(self) -> Any:
        """The value. Raises ``error`` if it did not open: nothing stands in its place."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self._value

    @property
    def reason(self) -> Promise | None:
        return None if self.error is None else reason_of(self.error)

    def __bool__(self) -> bool:
        return self.error is None

    def __str__(self) -> str:
        return str(self._value if self.error is None else self.reason)

    def __repr__(self) -> str:
        return "<Attempt: opened>" if self.error is None else f"<Attempt: {type(self.error).__name__}>"

    @forgetful
    def __reduce__(self) -> NoReturn:
        raise TypeError("What came of opening a value is not pickled: its plaintext would be.")


@forgetful
def try_open(instance: Model, name: str) -> Attempt:
    """
    Read an attribute of ``instance`` whose value may not open: an encrypted field, or one computed from some.

    Costs as much as reading it. Any other error is raised, as if the attribute had been read.
    """
    return attempt(lambda: getattr(instance, name))


@forgetful
def attempt(read: Callable[[], Any]) -> Attempt:
    """Call ``read``, and return its result or its error in the same way."""
    try:
        return Attempt(read())
    except (DecryptionError, VaultError) as error:
        logger.log(_level(error), "%s", error)
        return Attempt(error=error.with_traceback(None))


def reason_of(error: DecryptionError | VaultError) -> Promise:
    """Return a sentence for users that tells the kind of error, and nothing about the value."""
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))


def _level(error: DecryptionError | VaultError) -> int:
    # Damage has to be investigated, and nothing else reports it. A refusal was somebody's decision.
    if isinstance(error, DecryptionError):
        return logging.ERROR
    return logging.INFO if isinstance(error, VaultRefused) else logging.WARNING
