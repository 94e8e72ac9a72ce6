"""Migration operations that encrypt columns, decrypt them, and change how encrypted fields are declared."""

from vault_fields.operations.declarations import JSONToText, MoveToCompanion, RekeyField, TextToJSON
from vault_fields.operations.encrypting import DecryptField, EncryptField

__all__ = ["DecryptField", "EncryptField", "JSONToText", "MoveToCompanion", "RekeyField", "TextToJSON"]
