"""Reasons that a page of the admin shows in place of a value that does not open."""

from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from vault_fields.exceptions import (
    DecryptionError,
    EnvelopeError,
    KeyContextError,
    KeyContextMismatch,
    KeyRevoked,
    PlaintextFound,
    UnknownVault,
    VaultError,
    VaultUnavailable,
)

__all__ = ["ERRORS", "Failure", "is_passing", "reason_of", "shown"]

Failure = DecryptionError | VaultError

# The errors that reading a value raises if it does not open.
ERRORS = (DecryptionError, VaultError)

# The first that fits counts. The log names the key's owner, the vault and the host. A companion may be forged in what
# it says of its tenant, and staff need not see more of other tenants than the page shows them.
_REASONS: tuple[tuple[type[Exception], Promise], ...] = (
    (VaultUnavailable, gettext_lazy("Cannot be opened now: the Vault does not answer. Try again later.")),
    (KeyRevoked, gettext_lazy("Cannot be opened: its key was withdrawn.")),
    (VaultError, gettext_lazy("Cannot be opened: its key is not available.")),
    (KeyContextMismatch, gettext_lazy("Cannot be opened: it was encrypted for another key context than this row's.")),
    (PlaintextFound, gettext_lazy("Not shown: the column holds a value that is not encrypted.")),
    (UnknownVault, gettext_lazy("Cannot be opened: the vault that has its key is not configured.")),
    (EnvelopeError, gettext_lazy("Cannot be opened: it is damaged.")),
    (DecryptionError, gettext_lazy("Cannot be opened: the log says why.")),
    (KeyContextError, gettext_lazy("Cannot be encrypted: the row lacks what its key context needs.")),
)


def reason_of(error: Failure | KeyContextError) -> Promise:
    """Return a sentence for staff that tells the kind of error, and nothing about the value or its tenant."""
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))


def is_passing(error: Failure) -> bool:
    """Whether the value may open again by itself. If so, the user must not be offered to replace it."""
    return isinstance(error, VaultUnavailable)


def shown(error: Failure) -> SafeString:
    """Return the reason as a list or a read-only field shows it: marked, so that nobody takes it for a value."""
    return format_html('<em class="vault-reason">{}</em>', reason_of(error))
