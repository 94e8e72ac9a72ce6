"""Migration operations that encrypt columns, decrypt them, and change how encrypted fields are declared."""

from vault_fields.operations.conversions import JSONToText, TextToJSON
from vault_fields.operations.encrypting import DecryptField, EncryptField
from vault_fields.operations.rekeying import MoveToCompanion, RekeyField

__all__ = ["DecryptField", "EncryptField", "JSONToText", "MoveToCompanion", "RekeyField", "TextToJSON"]
