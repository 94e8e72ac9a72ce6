"""
Every exception this package raises at run time, in one tree.

    VaultFieldsError
    ├── KeyContextError         a key context that cannot be: fix the row or the declaration
    ├── ValueRefused            a value that must not be encrypted as it is: fix the value
    ├── DecryptionError         the stored value does not open: retrying is useless
    │   ├── EnvelopeError           it is malformed, truncated or altered
    │   ├── KeyContextMismatch      it belongs to another key context than its row
    │   ├── PlaintextFound          it was never encrypted, and plaintext is not allowed
    │   └── UnknownVault            its keys are in a vault that is not configured
    ├── TenantUnknown           a search does not say whose rows it is about: add the tenant to the query
    ├── DatabaseBusy            the database gave way to other writers: running it again may help
    ├── MigrationRefused        a migration would leave values closed for good, or rows without: nothing was changed
    ├── RowsLeftAlone           a migration did not rewrite, or import, some rows: fix each and run it again
    └── VaultError              the Vault gave no key
        ├── VaultUnavailable        it did not answer in time: retrying may help
        │   ├── KeyUnavailable      only a customer's key does not answer: others' values open
        │   └── VaultThrottled      it asked for fewer calls
        └── VaultRefused            it answered no: somebody has to act
            ├── KeyRevoked          the customer's key was withdrawn
            ├── ObjectConflict      another object has the name, or the object another version
            └── ObjectMissing       it holds no such object

Wrong settings are Django's ``ImproperlyConfigured``; what an encrypted column cannot do is Django's ``FieldError``.
No message holds plaintext, a key, a token or ciphertext.
"""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import FieldError, ImproperlyConfigured
from django.core.management.base import CommandError

__all__ = [
    "DatabaseBusy",
    "DecryptionError",
    "EnvelopeError",
    "IndexKeyMissing",
    "KeyContextError",
    "KeyContextMismatch",
    "KeyRevoked",
    "KeyUnavailable",
    "MigrationRefused",
    "ObjectConflict",
    "ObjectMissing",
    "PlaintextFound",
    "RowsLeftAlone",
    "TenantUnknown",
    "UnknownVault",
    "ValueRefused",
    "VaultError",
    "VaultFieldsError",
    "VaultRefused",
    "VaultThrottled",
    "VaultUnavailable",
]


class VaultFieldsError(Exception):
    """The base of every error of this package."""


class KeyContextError(VaultFieldsError, ValueError):
    """A key context breaks a limit, or cannot be derived from the row."""


class ValueRefused(VaultFieldsError, ValueError):
    """A value cannot be encrypted as it is; nothing was written."""


class DecryptionError(VaultFieldsError):
    """A stored value does not open."""


class EnvelopeError(DecryptionError):
    """A stored value or its companion is malformed, truncated, altered or not paired with the other."""


class KeyContextMismatch(DecryptionError):
    """A stored value was encrypted for another key context than that of the row it stands in."""


class PlaintextFound(DecryptionError):
    """A column that must hold only ciphertext holds plaintext."""


class IndexKeyMissing(DecryptionError):
    """Rows have hashes that were made with an index key which is not in its table any more."""


class UnknownVault(DecryptionError, ImproperlyConfigured):
    """A companion names a vault that ``VAULTS`` does not have, or that was left. The error concerns that row only."""


class TenantUnknown(VaultFieldsError, FieldError):
    """
    A value is looked up by an index that is each tenant's own, and the query does not tell the tenant, or too many.

    ``missing`` has the names for people of the columns that the query leaves open.
    """

    def __init__(self, message: str, missing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class DatabaseBusy(VaultFieldsError, CommandError):
    """A batch of rows was not written, because of other writers. ``manage.py`` shows the message alone."""


class MigrationRefused(VaultFieldsError, CommandError):
    """
    A migration would leave encrypted values without what opens them, or rows without a value that they need.

    ``manage.py`` shows the message alone.
    """


class RowsLeftAlone(VaultFieldsError, CommandError):
    """An operation could not rewrite or import some rows. It tried all others. ``manage.py`` shows the message."""


class VaultError(VaultFieldsError):
    """
    The Vault gave no key.

    ``alias`` names the entry of ``VAULTS``; ``status`` is the HTTP status and ``request_id`` the Vault's own name
    for the request, where there was one; ``retry_after`` are the seconds that it asked to be left alone for.
    """

    def __init__(
        self,
        message: str,
        *,
        alias: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.alias = alias
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after

    def details(self) -> dict[str, Any]:
        """The known facts beside the message: the keywords for an error that says the same in other words."""
        return {
            "alias": self.alias,
            "status": self.status,
            "request_id": self.request_id,
            "retry_after": self.retry_after,
        }

    def __str__(self) -> str:
        text = super().__str__()
        if self.alias is not None:
            text = f"VAULTS[{self.alias!r}]: {text}"
        if self.request_id is not None:
            text = f"{text} (request {self.request_id})"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        # Task queues pickle exceptions; the default would lose the keyword arguments.
        return _restore, (type(self), self.args[0], self.details())


class VaultUnavailable(VaultError):
    """The Vault could not be reached or did not answer before the deadline; trying again may help."""


class KeyUnavailable(VaultUnavailable):
    """
    A key that its owner keeps elsewhere does not answer. The Vault does, and the keys of others open.

    Operations over rows treat it as the error of that row.
    """


class VaultThrottled(VaultUnavailable):
    """The Vault asked for fewer calls, for longer than the deadline allows."""


class VaultRefused(VaultError):
    """The Vault answered no: the request, the credentials or the stored keys are not acceptable to it."""


class KeyRevoked(VaultRefused):
    """A key that the data key is wrapped under was disabled, destroyed or withdrawn by its owner."""


class ObjectConflict(VaultRefused):
    """The name of a stored object is taken, or its version is not the one that was to be replaced."""


class ObjectMissing(VaultRefused):
    """There is no such stored object, or no such version of it."""


def _restore(cls: type[VaultError], message: str, details: dict[str, Any]) -> VaultError:
    return cls(message, **details)
