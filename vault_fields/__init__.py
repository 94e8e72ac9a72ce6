"""Encrypted Django model fields: envelope encryption with a key context per row, and a Vault to hold the keys."""
