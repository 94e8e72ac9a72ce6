"""Customer keys: key-encrypting keys that customers hold in KMS of their own."""
