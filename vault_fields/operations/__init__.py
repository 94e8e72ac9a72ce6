"""Migration operations that encrypt, decrypt and import columns, and change how encrypted fields are declared."""

from vault_fields.operations.conversions import JSONToText, TextToJSON
from vault_fields.operations.encrypting import DecryptField, EncryptField
from vault_fields.operations.importing import ImportField
from vault_fields.operations.rekeying import MoveToCompanion, RekeyField

__all__ = ["DecryptField", "EncryptField", "ImportField", "JSONToText", "MoveToCompanion", "RekeyField", "TextToJSON"]
