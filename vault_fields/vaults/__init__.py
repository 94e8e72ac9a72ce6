"""``settings.VAULTS``: the configured vaults, and entries of that setting from URLs."""

from vault_fields.vaults.handler import DEFAULT_VAULT_ALIAS, VaultHandler, vaults
from vault_fields.vaults.url import vault_config

__all__ = ["DEFAULT_VAULT_ALIAS", "VaultHandler", "vault_config", "vaults"]
