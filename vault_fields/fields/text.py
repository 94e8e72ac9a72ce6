"""Encrypted text."""

from typing import TYPE_CHECKING, Any, Literal, overload

from vault_fields.fields.base import EncryptedField
from vault_fields.fields.context import KeyContextDeclaration
from vault_fields.fields.typed import GenericTextField, GetT_co, SetT_contra
from vault_fields.fields.unique import is_constrained

__all__ = ["EncryptedTextField", "Textual"]


class Textual(EncryptedField[SetT_contra, GetT_co]):
    """The part of an encrypted field whose value is a text, which is encrypted as it is."""

    def to_plaintext(self, value: Any) -> str:
        # As in TextField, a value that is not a string is stored as one, and is one when it is read again.
        return value if isinstance(value, str) else str(value)

    def from_plaintext(self, text: str) -> str:
        return text


class EncryptedTextField(Textual[SetT_contra, GetT_co], GenericTextField[SetT_contra, GetT_co]):
    """A ``TextField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options."""

    description = "Encrypted text"

    if TYPE_CHECKING:
        _pyi_private_set_type: str
        _pyi_private_get_type: str

        @overload
        def __init__(
            self: "EncryptedTextField[str, str]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedTextField[str | None, str | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def formfield(self, *args: Any, **kwargs: Any) -> Any:
        # As CharField does it: an empty text occurs once, and forms of optional fields are often left empty.
        if self.null and is_constrained(self):
            kwargs.setdefault("empty_value", None)
        return super().formfield(*args, **kwargs)
