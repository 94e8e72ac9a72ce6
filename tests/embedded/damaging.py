"""Keystores whose rows, or bits, are not what they were, and all that is read of one."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from vault_fields.embedded.objects import StoredObjects
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.keys import DataKey, KeyContext

__all__ = ["VALUES", "columns", "damage", "filled", "flipped", "reads"]

ACME = KeyContext({"organization_id": "acme"})

# What may stand in any column, whatever its declared type: as SQL.
VALUES = {
    "null": "NULL",
    "largest": "9223372036854775807",
    "real": "1.5",
    "text": "'damaged'",
    "not UTF-8": "CAST(x'ff00fe' AS TEXT)",
    "deep json": "replace(hex(zeroblob(5000)), '00', '[')",
    "json of another kind": "'[1]'",
    "blob": "x'00ff'",
}


def filled(vault: EmbeddedVault, key_file: Path) -> dict[str, Any]:
    """Put something into every table; return what reads it again."""
    keys = [vault.create(KeyContext({"organization_id": name})) for name in ("acme", "other")]
    vault.keks.rotate("organization_id", "acme")
    keys.append(vault.create(ACME))
    vault.byok.configure("organization_id", "customers", provider="file", settings={"path": str(key_file)})
    vault.byok.verify("organization_id", "customers")
    vault.byok.activate("organization_id", "customers")
    keys.append(vault.create(KeyContext({"organization_id": "customers"})))
    objects = StoredObjects(vault)
    stored = objects.create("name", "value", ACME)
    objects.update(stored.id, "another value")
    return {"keys": keys, "object": stored.id}


def columns(path: Path) -> Iterator[tuple[str, str]]:
    """Every column of every table."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        for (table,) in connection.execute(query).fetchall():
            for _, name, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                yield table, name


def damage(path: Path, table: str, column: str, value: str) -> None:
    """Write a value into all rows, past constraints and triggers, as damage does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        # Triggers and unique indexes would stand in the way; what reads a keystore needs neither.
        connection.execute("DELETE FROM sqlite_schema WHERE type = 'trigger'")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
        connection.execute("PRAGMA writable_schema = RESET")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        key = "kek_id" if table == "kek_version" else "rowid"
        try:
            connection.execute(
                f"UPDATE OR REPLACE {table} SET {column} = {value} WHERE {key} = (SELECT max({key}) FROM {table})"
            )
        except sqlite3.IntegrityError:
            # The number of a row is an integer, and a primary key without such numbers is not NULL.
            assert column in {"number", "sequence", "kek_id", "version"}


def flipped(sound: bytes, chance: random.Random) -> bytes:
    """The bytes with a few bits turned over, anywhere."""
    content = bytearray(sound)
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def reads(vault: EmbeddedVault, held: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """All that is read of a keystore, by name."""
    objects = StoredObjects(vault)
    keys: list[DataKey] = held["keys"]
    yield "unlock", vault.unlock
    yield "environments", vault.store.environments
    yield "root keys", vault.store.root_key_ids
    yield "vault id", vault.store.mark
    yield "create", lambda: vault.create(ACME)
    yield "create for a customer's key", lambda: vault.create(KeyContext({"organization_id": "customers"}))
    for number, key in enumerate(keys):
        yield f"decrypt {number}", lambda key=key: vault.decrypt(key.encrypted_keys)
        yield f"rekey {number}", lambda key=key: vault.rekey(key.encrypted_keys, ACME)
        yield f"is current {number}", lambda key=key: vault.is_current(key.encrypted_keys, ACME)
        yield f"is gone {number}", lambda key=key: vault.is_gone(key.encrypted_keys)
    yield "keks", lambda: list(vault.keks)
    yield "number of keks", lambda: len(vault.keks)
    yield "names of keks", vault.keks.names
    yield "kek", lambda: vault.keks.get("organization_id", "acme")
    yield "customers' keys", vault.byok.all
    yield "customer's key", lambda: vault.byok.get("organization_id", "customers")
    yield "events", lambda: [event.as_json() for event in vault.store.events.page("default").items]
    yield "events of names", lambda: vault.store.events.page("default", names=["vault.kek.created"])
    yield "objects", objects.page
    yield "object", lambda: objects.read(held["object"])
    yield "object by name", lambda: objects.read_by_name("name")
    yield "description", lambda: objects.describe(held["object"])
    yield "versions", lambda: objects.versions(held["object"])
    yield "page of versions", lambda: objects.version_page(held["object"], limit=1)
    yield "claims", lambda: [claim and claim.is_proven(keys[0]) for claim in objects.claims()]
    yield "update", lambda: objects.update(held["object"], "value")
    yield "rewrap", objects.rewrap
    yield "prune", lambda: objects.prune(keep=1)
    yield "rotate", lambda: vault.keks.rotate("organization_id", "acme")
    yield "erase due", vault.keks.erase_due
    yield "rotate root key", vault.rotate_root_key
    yield "delete", lambda: objects.delete(held["object"])
