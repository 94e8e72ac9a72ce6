"""
The transit engine of OpenBao or HashiCorp Vault: credentials, requests, failures, and one engine that asks.

``backends.openbao`` wraps the data keys of a vault with it, and ``byok.openbao`` is one customer key.
"""
