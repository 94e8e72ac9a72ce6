"""Encrypted text."""

from typing import TYPE_CHECKING, Any

from django.db.models import TextField

from vault_fields.fields.base import EncryptedField

__all__ = ["EncryptedTextField"]


if TYPE_CHECKING:
    _TextField = TextField[Any, Any]
else:
    _TextField = TextField  # Generic in the stubs only.


class EncryptedTextField(EncryptedField, _TextField):
    """A ``TextField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options."""

    description = "Encrypted text"

    def to_plaintext(self, value: Any) -> str:
        # As TextField: what is not a string is stored as one, and is one when it is read again.
        return value if isinstance(value, str) else str(value)

    def from_plaintext(self, text: str) -> str:
        return text
