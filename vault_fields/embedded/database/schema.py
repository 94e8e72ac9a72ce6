"""The tables of a keystore, and the marks that tell a keystore from any other SQLite file."""

import functools
import secrets
import sqlite3

from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.database.tables import BYOK, EVENTS, OBJECTS
from vault_fields.exceptions import VaultUnavailable

__all__ = ["SCHEMA_VERSION", "create_schema", "has_own_tables", "require_not_newer", "verify_schema", "version_of"]

# A change of a table, an index or a trigger needs a higher number here, a step in ``steps``, and a keystore of the new
# schema in tests/embedded/schemas.
SCHEMA_VERSION = 4
# "VFks", in the header field that SQLite keeps for the owner of a file format.
APPLICATION_ID = 0x56466B73

# A KEK keeps its id through all of its versions. New data keys are wrapped under the highest version, which its row
# names, and no version below the minimum opens. State is open-ended text: a state that a release does not know counts
# as not enabled. See ``managed.tags`` for the tag. The versions of a destroyed KEK are left without root key and
# material, so that data keys under it are told from those of an unknown key.
#
# "mark" changes with every change that makes a KEK differ from the copy that a process may hold, whoever writes it and
# with whatever program. A new KEK is no such change, and neither is another root key around the same KEK.
_SCHEMA = """
BEGIN IMMEDIATE;

CREATE TABLE vault (
    id TEXT NOT NULL,
    mark TEXT NOT NULL
);

CREATE TABLE root_key (
    number INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE TABLE kek (
    id BLOB NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    item_name TEXT NOT NULL,
    item_value TEXT NOT NULL,
    state TEXT NOT NULL,
    minimum_version INTEGER NOT NULL DEFAULT 1,
    current_version INTEGER NOT NULL DEFAULT 1,
    destroy_at TEXT,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    tagged_by TEXT NOT NULL DEFAULT '',
    tag BLOB NOT NULL DEFAULT x'',
    UNIQUE (environment, item_name, item_value)
);

CREATE TABLE kek_version (
    kek_id BLOB NOT NULL REFERENCES kek (id),
    version INTEGER NOT NULL,
    root_key_id TEXT NOT NULL,
    wrapped BLOB NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (kek_id, version)
) WITHOUT ROWID;

CREATE TRIGGER kek_updated AFTER UPDATE OF
id, environment, item_name, item_value, state, minimum_version, current_version ON kek BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END;
CREATE TRIGGER kek_deleted AFTER DELETE ON kek BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END;
CREATE TRIGGER kek_rotated AFTER INSERT ON kek_version WHEN new.version > 1 BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END;
CREATE TRIGGER root_key_added AFTER INSERT ON root_key BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END;
CREATE TRIGGER root_key_removed AFTER DELETE ON root_key BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END;
"""


def create_schema(connection: sqlite3.Connection) -> None:
    """Turn an empty database into a keystore with an id of its own."""
    connection.executescript(_SCHEMA + EVENTS + OBJECTS + BYOK)
    connection.execute("INSERT INTO vault (id, mark) VALUES (?, '')", [secrets.token_hex(16)])
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema version of a keystore."""
    return _pragma(connection, "user_version")


def require_not_newer(connection: sqlite3.Connection, path: object) -> None:
    """Refuse a file that is no keystore, or that a newer release has changed. Reads only."""
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise ImproperlyConfigured(f"{path} is not a keystore. Correct the path, or move that file away.")
    if (version := version_of(connection)) > SCHEMA_VERSION:
        raise VaultUnavailable(f"{_differs(path, version)} Install the release that made it, or a later one.")


def verify_schema(connection: sqlite3.Connection, path: object) -> None:
    """
    Refuse what ``require_not_newer`` refuses, and a keystore that was not upgraded or has other tables. Reads only.
    """
    require_not_newer(connection, path)
    if (version := version_of(connection)) < SCHEMA_VERSION:
        raise VaultUnavailable(
            f"{_differs(path, version)} Stop the processes that use it, and run `manage.py vault_keystore upgrade`."
        )
    if not has_own_tables(connection):
        # A foreign trigger would change rows as they are written, and have the change authenticated.
        raise VaultUnavailable(
            f"The keystore {path} has other tables, indexes or triggers than a release makes: somebody has changed "
            "them. Nothing was written. Find out who, and restore the keystore from a backup."
        )


def has_own_tables(connection: sqlite3.Connection) -> bool:
    """Whether the tables, indexes and triggers are those that ``create_schema`` makes, text for text."""
    return _tables(connection) == _tables_of_this_release()


@functools.cache
def _tables_of_this_release() -> set[tuple[str, ...]]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        create_schema(connection)
        return _tables(connection)
    finally:
        connection.close()


def _tables(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    # SQLite's own objects, such as statistics, need not exist or have a text.
    return set(
        connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
    )


def _differs(path: object, version: int) -> str:
    return (
        f"The keystore {path} has schema version {version}; this release of django-vault-fields works with "
        f"{SCHEMA_VERSION}. Nothing was written."
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
