"""
The values that may be encrypted: one rule for saves, forms, serializers and everything that runs a field's validators.
"""

from typing import Any

from django.core.exceptions import ValidationError

from vault_fields.fields.interface import Encrypted
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import envelope as envelope_format

__all__ = ["EncodableValidator", "Unencodable", "encode"]


class Unencodable(ValueError):
    """A value that cannot be encrypted. The text is for developers; ``message`` and ``code`` are for forms."""

    def __init__(self, reason: str, message: str, code: str) -> None:
        super().__init__(reason)
        self.message = message
        self.code = code


@forgetful
def encode(field: Encrypted, value: Any) -> str:
    """Return the text to encrypt for a value. Raises ``Unencodable``, which holds nothing of the value."""
    try:
        text = field.to_plaintext(value)
        size = len(text.encode())
    except UnicodeEncodeError:
        reason = "it holds a lone surrogate, which UTF-8 cannot encode"
        refused = Unencodable(reason, "This value holds a character that cannot be stored.", "surrogate")
    except Exception as error:  # noqa: BLE001 - an encoder is the project's own code, and its frames hold the value.
        reason = f"it cannot be encoded ({type(error).__name__})"
        refused = Unencodable(reason, "This value cannot be stored.", "invalid")
    else:
        if field.padded_to and text.endswith(" "):
            reason = "its text ends with a space, and the field fills texts with spaces"
            refused = Unencodable(reason, "This value cannot be stored.", "invalid")
        elif envelope_format.is_envelope(field.stored_text(text)):
            reason = "it begins like an encrypted value, and encrypting it twice would lose it"
            refused = Unencodable(reason, "This value begins like an encrypted one.", "envelope")
        elif size > envelope_format.MAX_PLAINTEXT_BYTES:
            reason = f"it has {size} bytes, and at most {envelope_format.MAX_PLAINTEXT_BYTES} are encrypted"
            refused = Unencodable(reason, "This value is too large.", "too_large")
        else:
            return text
    # Raised outside of the handler: the error would keep the encoder's, and with it the value.
    raise refused


class EncodableValidator:
    """
    A validator that refuses in a form what ``save()`` would refuse. Every encrypted field has it, and no migration.

    What another validator of the field refuses is left to that one, whose words say more.
    """

    def __init__(self, field: Encrypted) -> None:
        self.field = field

    @forgetful
    def __call__(self, value: Any) -> None:
        try:
            encode(self.field, value)
        except Unencodable as refused:
            if refused.code == "invalid" and self._is_refused_by_others(value):
                return
            raise ValidationError(refused.message, code=refused.code) from None

    def _is_refused_by_others(self, value: Any) -> bool:
        for validator in self.field.validators:
            if not isinstance(validator, EncodableValidator):
                try:
                    validator(value)
                except ValidationError:
                    return True
        return False
