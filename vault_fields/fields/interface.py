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
    # Whether equal values have one text, so that an index of them can be made.
    is_indexable = True

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

    # The text that is encrypted. Only here do JSON and text differ.

    @abstractmethod
    def to_plaintext(self, value: Any) -> str:
        """Return the text to encrypt. Raises ``TypeError`` or ``ValueError`` for a value that cannot be encoded."""

    @abstractmethod
    def from_plaintext(self, text: str) -> Any:
        """Return the value for the user. Raises ``DecryptionError``."""

    def stored_text(self, text: str) -> str:
        """
        Return the meaning of a text in the column: an envelope is one in whatever spelling somebody else wrote it.
        """
        return text
