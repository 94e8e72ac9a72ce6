"""Encrypted UUIDs, IP addresses and bytes."""

from typing import TYPE_CHECKING, Any, Literal, overload
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils.translation import gettext_lazy

from vault_fields.fields.base import EncryptedField
from vault_fields.fields.canonical import address_from, address_text, bytes_from, bytes_text, uuid_from, uuid_text
from vault_fields.fields.context import KeyContextDeclaration
from vault_fields.fields.descriptor import EncryptedAttribute
from vault_fields.fields.typed import (
    GenericBinaryField,
    GenericGenericIPAddressField,
    GenericUUIDField,
    GetT_co,
    SetT_contra,
)
from vault_fields.fields.types.typed import CanonicalField
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import envelope as envelope_format

__all__ = ["EncryptedBinaryField", "EncryptedGenericIPAddressField", "EncryptedUUIDField"]


class EncryptedUUIDField(CanonicalField[SetT_contra, GetT_co], GenericUUIDField[SetT_contra, GetT_co]):
    """A ``UUIDField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options."""

    description = "Encrypted UUID"

    if TYPE_CHECKING:
        _pyi_private_set_type: UUID | str
        _pyi_private_get_type: UUID

        @overload
        def __init__(
            self: "EncryptedUUIDField[UUID | str, UUID]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedUUIDField[UUID | str | None, UUID | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": gettext_lazy("Enter a valid UUID.")}

    def write(self, value: UUID) -> str:
        return uuid_text(value)

    def read(self, text: str) -> UUID:
        return uuid_from(text)


class AddressAttribute(EncryptedAttribute):
    """A descriptor that takes an empty text for None: a plain field stores NULL for it, on every database."""

    def __set__(self, instance: Model, value: Any) -> None:
        super().__set__(instance, None if value == "" else value)


class EncryptedGenericIPAddressField(
    CanonicalField[SetT_contra, GetT_co], GenericGenericIPAddressField[SetT_contra, GetT_co]
):
    """
    A ``GenericIPAddressField`` whose value is encrypted for the row's key context; see ``EncryptedField``.

    An address has one spelling, and all have one length where they are encrypted.
    """

    description = "Encrypted IP address"

    if TYPE_CHECKING:
        _pyi_private_set_type: str
        _pyi_private_get_type: str

        @overload
        def __init__(
            self: "EncryptedGenericIPAddressField[str, str]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedGenericIPAddressField[str | None, str | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": gettext_lazy("Enter a valid IPv4 or IPv6 address.")}
    descriptor_class = AddressAttribute
    padded_to = len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")

    def write(self, value: str) -> str:
        return address_text(value)

    def read(self, text: str) -> str:
        return address_from(text)


class EncryptedBinaryField(CanonicalField[SetT_contra, GetT_co], GenericBinaryField[SetT_contra, GetT_co]):
    """
    A ``BinaryField`` whose value is encrypted for the row's key context; see ``EncryptedField`` for its options.

    Read as ``bytes`` on every database.
    """

    description = "Encrypted bytes"

    if TYPE_CHECKING:
        _pyi_private_set_type: bytes | bytearray | memoryview
        _pyi_private_get_type: bytes

        @overload
        def __init__(
            self: "EncryptedBinaryField[bytes | bytearray | memoryview, bytes]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: Literal[False] = ...,
            **kwargs: Any,
        ) -> None: ...
        @overload
        def __init__(
            self: "EncryptedBinaryField[bytes | bytearray | memoryview | None, bytes | None]",
            *args: Any,
            key_context: KeyContextDeclaration,
            null: bool,
            **kwargs: Any,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    default_error_messages = {"invalid": gettext_lazy("Enter a valid value.")}

    def get_default(self) -> Any:
        default = super().get_default()
        return b"" if default == "" else default

    def formfield(self, *args: Any, **kwargs: Any) -> Any:
        # Django's form field gives base64, of which ``full_clean()`` makes the value that is validated.
        kwargs["validators"] = [*kwargs.get("validators", ()), _refuse_envelope]
        return super(EncryptedField, self).formfield(*args, **kwargs)

    def to_plaintext(self, value: Any) -> str:
        # Not ``to_python``, which takes text for base64: that is how fixtures write bytes.
        return self.write(value)

    def write(self, value: bytes | bytearray | memoryview) -> str:
        return bytes_text(value)

    def read(self, text: str) -> bytes:
        return bytes_from(text)


@forgetful
def _refuse_envelope(value: Any) -> None:
    """Refuse in a form the text of an encrypted value, which would be recognised where it is assigned."""
    if isinstance(value, str) and envelope_format.is_envelope(value):
        raise ValidationError("This value begins like an encrypted one.", code="envelope")
