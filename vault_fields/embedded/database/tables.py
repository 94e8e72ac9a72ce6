"""The tables of events and of stored objects, which a keystore has besides those of its keys."""

from typing import Any, Literal

__all__ = ["BYOK", "EVENTS", "OBJECTS", "ROOT_KEYS", "TAGGED", "Row", "Table", "selected"]

# The ids of root keys, the current one last.
ROOT_KEYS = "SELECT id FROM root_key ORDER BY number"

Table = Literal["kek", "byok_key", "object"]
Row = tuple[Any, ...]

# The columns that a row's tag authenticates: all that decide something and are in the clear. Wrapped keys and sealed
# values authenticate themselves, and what they belong to.
TAGGED: dict[Table, tuple[str, ...]] = {
    "kek": (
        *("id", "environment", "item_name", "item_value"),
        *("state", "minimum_version", "current_version", "destroy_at"),
    ),
    "byok_key": ("id", "environment", "item_name", "item_value", "provider", "settings", "state"),
    "object": ("id", "environment", "name", "context", "version_id", "updated_at"),
}


def selected(table: Table) -> str:
    """Return the columns of a SELECT that reads a row as its tag is verified."""
    columns = ", ".join(f"{table}.{column}" for column in TAGGED[table])
    return f"{columns}, {table}.tagged_by, {table}.tag, (SELECT id FROM vault)"  # noqa: S608 - nothing is a caller's.


# The sequence is the order in which events became visible: a reader that continues from one misses none.
EVENTS = """
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    environment TEXT NOT NULL,
    name TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    actor_source TEXT NOT NULL,
    data TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX event_of_environment ON event (environment, sequence);
CREATE INDEX event_of_time ON event (created_at);
CREATE INDEX event_of_name ON event (environment, name, sequence);
"""

# The version that object.version_id names is the current one. Ids of both sort by the time of creation.
OBJECTS = """
CREATE TABLE object (
    id TEXT NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    name TEXT NOT NULL,
    context TEXT NOT NULL,
    version_id TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    tagged_by TEXT NOT NULL DEFAULT '',
    tag BLOB NOT NULL DEFAULT x'',
    UNIQUE (environment, name)
);
CREATE INDEX object_of_environment ON object (environment, id);

CREATE TABLE object_version (
    id TEXT NOT NULL PRIMARY KEY,
    object_id TEXT NOT NULL REFERENCES object (id),
    data_key_id TEXT NOT NULL,
    encrypted_keys TEXT NOT NULL,
    sealed BLOB NOT NULL,
    etag TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX version_of_object ON object_version (object_id, id);
"""

# A customer key. ``wrapped`` is its inner key under the root key, as in kek_version, and moves with those when
# the root key is replaced. A deleted key is left without it, so that data keys under it are told from those of an
# unknown key.
BYOK = """
CREATE TABLE byok_key (
    id BLOB NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    item_name TEXT NOT NULL,
    item_value TEXT NOT NULL,
    provider TEXT NOT NULL,
    settings TEXT NOT NULL,
    state TEXT NOT NULL,
    root_key_id TEXT NOT NULL,
    wrapped BLOB NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    tagged_by TEXT NOT NULL DEFAULT '',
    tag BLOB NOT NULL DEFAULT x''
);
CREATE UNIQUE INDEX byok_key_of_item ON byok_key (environment, item_name, item_value) WHERE state <> 'deleted';
CREATE TRIGGER byok_key_added AFTER INSERT ON byok_key BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END;
CREATE TRIGGER byok_key_updated AFTER UPDATE OF state ON byok_key BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END;
"""
