"""The encrypted field as the modules below it see it: its options, its names, and the text that it encrypts."""

from abc import abstractmethod
from typing import Any, Literal

from vault_fields.fields.blindindex import BlindIndex
from vault_fields.fields.context import ContextSource, KeyContextDeclaration
from vault_fields.fields.typed import GenericField, GetT_co, SetT_contra

__all__ = ["Encrypted"]


class Encrypted(GenericField[SetT_contra, GetT_co]):
    """An encrypted column of a model. ``EncryptedField`` is the one implementation, and documents the options."""

    is_encrypted = True
    # Whether an index of the values can be made, and should be; if not, why.
    is_indexable = True
    not_indexable = "equal values have different texts"
    # The length up to which spaces follow a text when it is encrypted, so that lengths do not tell values apart.
    padded_to = 0

    key_context: KeyContextDeclaration
    source: ContextSource
    keys_field: str | None
    migrating: bool | Literal["read"]
    former_labels: list[str]
    bind_to: list[str]
    vault: str
    indexes: tuple[BlindIndex, ...]
    # Declared with ``unique=True``. Django's own ``unique`` would compare ciphertext, and stays False.
    is_unique: bool

    def __class_getitem__(cls, types: Any) -> Any:
        return cls  # The types that are assigned and read, in brackets, are for type checkers.

    @property
    def companion_name(self) -> str:
        return self.keys_field or f"{self.name}_keys"

    @property
    def writes_plaintext(self) -> bool:
        """Whether a value is written in the clear if it replaces none, or one in the clear."""
        return self.migrating == "read"

    @property
    def label(self) -> str:
        """``app_label.Model.field``: the label that authenticates values, and that errors name."""
        return f"{self.model._meta.label}.{self.name}"

    # The text that is encrypted. Only here do types differ.

    @abstractmethod
    def to_plaintext(self, value: Any) -> str:
        """
        Return the text to encrypt, one for equal values, of whatever may be assigned.

        Raises any error for a value that cannot be encoded: it is told by its type alone, as its text may hold the
        value.
        """

    @abstractmethod
    def from_plaintext(self, text: str) -> Any:
        """Return the value for the user. Raises ``DecryptionError`` for a text that ``to_plaintext`` does not make."""

    def current_text(self, text: str) -> str:
        """Return the text that would be encrypted today for a value that was encrypted as ``text``."""
        return text

    def padded(self, text: str) -> str:
        """Return the text as it is encrypted: filled with spaces where lengths would tell."""
        return text.ljust(self.padded_to)

    def unpadded(self, text: str) -> str:
        """Return the text that was given to ``padded``."""
        return text.rstrip(" ") if self.padded_to else text

    def stored_text(self, text: str) -> str:
        """
        Return the meaning of a text in the column: an envelope is one in whatever spelling somebody else wrote it.
        """
        return text
