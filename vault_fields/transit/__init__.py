"""Data keys that are wrapped by the keys of a transit engine, of OpenBao or HashiCorp Vault."""
