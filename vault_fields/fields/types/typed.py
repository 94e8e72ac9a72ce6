"""The base of encrypted fields whose value is no text: each value has one canonical text, and no other is read."""

from abc import abstractmethod
from contextlib import suppress
from typing import Any

from vault_fields.exceptions import DecryptionError
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.encoding import Unencodable, encode
from vault_fields.fields.typed import GetT_co, SetT_contra

__all__ = ["CanonicalField"]


class CanonicalField(EncryptedField[SetT_contra, GetT_co]):
    """
    Mix in before a Django field that has a canonical text for each of its values.

    A subclass tells with ``write`` the text of a value of its type, and with ``read`` the value of a text. What is
    assigned is made one of its type by Django's ``to_python``.
    """

    @abstractmethod
    def write(self, value: Any) -> str:
        """Return the canonical text of a value of this type. Raises any error for a value that has none."""

    @abstractmethod
    def read(self, text: str) -> Any:
        """
        Return the value of a canonical text.

        Raises ``ArithmeticError``, ``TypeError`` or ``ValueError`` for any other text.
        """

    def to_plaintext(self, value: Any) -> str:
        value = self.to_python(value)
        if value is None:
            raise ValueError
        return self.write(value)

    def from_plaintext(self, text: str) -> Any:
        # The errors of parsers hold the text: none of them stays in the context of ours.
        with suppress(ArithmeticError, TypeError, ValueError):
            return self.read(text)
        raise DecryptionError(f"the value is no text of a value of {type(self).__name__}.")

    def current_text(self, text: str) -> str:
        # The places of decimals, or ``USE_TZ``, may have been others. What has no text today keeps the one it has.
        try:
            return encode(self, self.from_plaintext(text))
        except (DecryptionError, Unencodable):
            return text
