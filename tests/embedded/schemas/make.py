"""
Print a keystore of the schema that stands in this checkout, as SQL, with what opens in it.

    python -m tests.embedded.schemas.make > tests/embedded/schemas/<SCHEMA_VERSION>.sql

Run it once, when a schema version is new; what it has printed stays as it is. To make one of an earlier state, run this
file there. Its root key is the one of ``tests/embedded/conftest.py``.
"""

import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import django
from django.conf import settings

from vault_fields.embedded.customer.store import CONFIGURED
from vault_fields.embedded.customer.usable import CustomerKeys
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.objects import StoredObjects
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.keys import KeyContext


def main() -> None:
    settings.configure()
    django.setup()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "vault.sqlite3"
        ring = KeyRing(KeyStore.at(path), RootKey(bytes(range(32))))
        with closing(EmbeddedVault(ring)) as vault:
            fill(vault, CustomerKeys(ring))
        with closing(sqlite3.connect(path)) as connection:
            for pragma in ("application_id", "user_version"):
                (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
                sys.stdout.write(f"PRAGMA {pragma} = {value};\n")
            for line in connection.iterdump():
                sys.stdout.write(line + "\n")


def fill(vault: EmbeddedVault, customer_keys: CustomerKeys) -> None:
    """A KEK in each state, one with two versions, a customer's key, an object with two versions, and their events."""
    for value in ("rotated", "disabled", "pending", "destroyed", "pair"):
        items = {"organization_id": value}
        key = vault.create(KeyContext({**items, "kind": "two items"} if value == "pair" else items))
        tell("key", value, key.encrypted_keys, key.plaintext.hex())
    staging = vault.for_environment("staging")
    key = staging.create(KeyContext({"organization_id": "rotated"}))
    tell("key", "staging", key.encrypted_keys, key.plaintext.hex())
    vault.keks.rotate("organization_id", "rotated")
    vault.keks.rotate("organization_id", "rotated")
    vault.keks.retire("organization_id", "rotated", before=1)
    key = vault.create(KeyContext({"organization_id": "rotated"}))
    tell("key", "new version", key.encrypted_keys, key.plaintext.hex())
    vault.keks.disable("organization_id", "disabled")
    vault.keks.destroy("organization_id", "pending", after=timedelta(days=36500))
    vault.keks.destroy("organization_id", "destroyed", after=timedelta())
    record = customer_keys.new_record("default", "organization_id", "customer", "file", '{"path":"/key"}', CONFIGURED)
    customer_keys.store.add(record)
    objects = StoredObjects(vault)
    made = objects.create("secret", "first", {"organization_id": "object"})
    objects.update(made.id, "second")


def tell(*words: str) -> None:
    sys.stdout.write(f"-- {'|'.join(words)}\n")


if __name__ == "__main__":
    main()
