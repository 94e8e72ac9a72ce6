"""The admin: encrypted fields work there as plain ones do, and one that does not open is that field's error alone."""

from vault_fields.admin.lists import NullFieldListFilter
from vault_fields.admin.mixin import EncryptedFieldsMixin

__all__ = ["EncryptedFieldsMixin", "NullFieldListFilter"]
