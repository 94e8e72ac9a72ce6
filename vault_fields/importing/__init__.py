"""Readers of columns that other libraries encrypted, for ``vault_fields.operations.ImportField``."""

from vault_fields.importing.cryptographyfield import DjangoCryptography
from vault_fields.importing.fernets import EncryptedModelFields, FernetEncryptedFields, FernetFields
from vault_fields.importing.gcm import SearchableEncryptedFields, TinkFields
from vault_fields.importing.payloads import WorkosPayload
from vault_fields.importing.pgcrypto import Pgcrypto
from vault_fields.importing.reader import Reader

__all__ = [
    "DjangoCryptography",
    "EncryptedModelFields",
    "FernetEncryptedFields",
    "FernetFields",
    "Pgcrypto",
    "Reader",
    "SearchableEncryptedFields",
    "TinkFields",
    "WorkosPayload",
]
