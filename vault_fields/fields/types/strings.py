"""Encrypted texts of one line."""

from typing import TYPE_CHECKING, Any, Literal, overload

from django.core.checks import CheckMessage

from vault_fields.fields.context import KeyContextDeclaration
from vault_fields.fields.text import Textual
from vault_fields.fields.typed import (
    GenericCharField,
    GenericEmailField,
    GenericSlugField,
    GenericURLField,
    GetT_co,
    SetT_contra,
)

__all__ = ["EncryptedCharField", "EncryptedEmailField", "EncryptedSlugField", "EncryptedURLField"]


class EncryptedCharField(Textual[SetT_contra, GetT_co], GenericCharField[SetT_contra, GetT_co]):
    """
    A ``CharField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    ``max_length`` is that of the value, and may be left out. Forms and ``full_clean()`` enforce it, the column does
    not.
    """

    description = "Encrypted text of one line"

    if TYPE_CHECKING:
        _pyi_private_set_type: str
        _pyi_private_get_type: str

        @overload
        def __init__(
            self: "EncryptedCharField[str, str]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedCharField[str | None, str | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def _check_max_length_attribute(self, **kwargs: Any) -> list[CheckMessage]:
        # The column is text, whatever the database.
        return [] if self.max_length is None else super()._check_max_length_attribute(**kwargs)  # type: ignore[misc]


class EncryptedEmailField(Textual[SetT_contra, GetT_co], GenericEmailField[SetT_contra, GetT_co]):
    """An ``EmailField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options."""

    description = "Encrypted e-mail address"

    if TYPE_CHECKING:
        _pyi_private_set_type: str
        _pyi_private_get_type: str

        @overload
        def __init__(
            self: "EncryptedEmailField[str, str]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedEmailField[str | None, str | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...


class EncryptedURLField(Textual[SetT_contra, GetT_co], GenericURLField[SetT_contra, GetT_co]):
    """A ``URLField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options."""

    description = "Encrypted URL"

    if TYPE_CHECKING:
        _pyi_private_set_type: str
        _pyi_private_get_type: str

        @overload
        def __init__(
            self: "EncryptedURLField[str, str]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedURLField[str | None, str | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...


class EncryptedSlugField(Textual[SetT_contra, GetT_co], GenericSlugField[SetT_contra, GetT_co]):
    """
    A ``SlugField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    Without the index of a plain one, which would be one of ciphertext.
    """

    description = "Encrypted slug"

    if TYPE_CHECKING:
        _pyi_private_set_type: str
        _pyi_private_get_type: str

        @overload
        def __init__(
            self: "EncryptedSlugField[str, str]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedSlugField[str | None, str | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    else:

        def __init__(self, *args: Any, db_index: bool = False, **kwargs: Any) -> None:
            super().__init__(*args, db_index=db_index, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        if kwargs.pop("db_index", True):
            kwargs["db_index"] = True
        return name, path, args, kwargs
