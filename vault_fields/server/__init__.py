"""The embedded Vault over HTTP, as the WorkOS Vault's API: for ``include()``, WSGI or ASGI servers, ``vault_serve``."""
