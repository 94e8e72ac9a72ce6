"""The embedded Vault over HTTP: the three key calls of the WorkOS Vault API, for ``include()`` and ``vault_serve``."""
