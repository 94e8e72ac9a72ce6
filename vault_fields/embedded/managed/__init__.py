"""Key-encrypting keys that the Vault manages itself, and the root key that wraps them at rest."""
