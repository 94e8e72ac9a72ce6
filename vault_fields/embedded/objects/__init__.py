"""Stored objects: named values that a Vault keeps, encrypted by the key context of each."""

from vault_fields.embedded.objects.collection import StoredObjects

__all__ = ["StoredObjects"]
