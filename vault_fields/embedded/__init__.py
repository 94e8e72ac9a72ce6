"""The embedded Vault: key-encrypting keys in one SQLite file, created just in time, and the data keys they wrap."""
