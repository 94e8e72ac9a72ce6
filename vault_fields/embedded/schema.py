"""The tables of a keystore, and how one is told from any other SQLite file."""

import secrets
import sqlite3

from django.core.exceptions import ImproperlyConfigured

from vault_fields.exceptions import VaultUnavailable

__all__ = ["create_schema", "verify_schema"]

SCHEMA_VERSION = 1
# "VFks", in the header field that SQLite keeps for the owner of a file format.
APPLICATION_ID = 0x56466B73

# A KEK keeps its id through all of its versions; new data keys are wrapped under the highest one. State is open-ended
# text: a state that a release does not know counts as not enabled.
_SCHEMA = """
BEGIN IMMEDIATE;

CREATE TABLE vault (
    id TEXT NOT NULL
);

CREATE TABLE root_key (
    id TEXT NOT NULL PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE TABLE kek (
    id BLOB NOT NULL,
    version INTEGER NOT NULL,
    environment TEXT NOT NULL,
    item_name TEXT NOT NULL,
    item_value TEXT NOT NULL,
    state TEXT NOT NULL,
    root_key_id TEXT NOT NULL REFERENCES root_key (id),
    wrapped BLOB NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (id, version),
    UNIQUE (environment, item_name, item_value, version)
);
"""


def create_schema(connection: sqlite3.Connection) -> None:
    """Turn an empty database into a keystore with an id of its own."""
    connection.executescript(_SCHEMA)
    connection.execute("INSERT INTO vault (id) VALUES (?)", [secrets.token_hex(16)])
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def verify_schema(connection: sqlite3.Connection, path: object) -> None:
    """Refuse a file that is no keystore, or one that a newer release has changed. Reads only."""
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise ImproperlyConfigured(f"{path} is not a keystore. Correct the path, or move that file away.")
    version = _pragma(connection, "user_version")
    if version != SCHEMA_VERSION:
        raise VaultUnavailable(
            f"The keystore {path} has schema version {version}; this release of django-vault-fields works with "
            f"{SCHEMA_VERSION}. Nothing was written. Install the release that made it, or a later one."
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
