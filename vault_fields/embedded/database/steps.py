"""The upgrade steps that give a keystore of an earlier release the tables of this one, one version at a time."""

import sqlite3
from collections.abc import Mapping, Sequence

from vault_fields.embedded.database.schema import SCHEMA_VERSION, has_own_tables, version_of
from vault_fields.exceptions import VaultUnavailable

__all__ = ["climb", "has_tags", "require_steps"]

# In versions before this one, the rows that decide something were not authenticated.
_FIRST_WITH_TAGS = 3

# Steps that were released do not change any more. A step leaves the tables exactly as ``create_schema`` makes them, in
# text and in the order of their columns, in which restore copies rows. So a changed table is made anew beside the
# former one: with "ADD COLUMN", or renamed to its name, it would have another text.
_TO_3 = (
    "ALTER TABLE kek RENAME TO former_kek",
    """\
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
)""",
    """\
INSERT INTO kek (
    id, environment, item_name, item_value, state, minimum_version, current_version, destroy_at, created_at
) SELECT
    id, environment, item_name, item_value, state, minimum_version,
    ifnull((SELECT max(version) FROM kek_version WHERE kek_id = id), 1), destroy_at, created_at
FROM former_kek""",
    "DROP TABLE former_kek",
    """\
CREATE TRIGGER kek_updated AFTER UPDATE OF
id, environment, item_name, item_value, state, minimum_version, current_version ON kek BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END""",
    """\
CREATE TRIGGER kek_deleted AFTER DELETE ON kek BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END""",
    "ALTER TABLE object RENAME TO former_object",
    """\
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
)""",
    """\
INSERT INTO object (id, environment, name, context, version_id, updated_at)
SELECT id, environment, name, context, version_id, updated_at FROM former_object""",
    "DROP TABLE former_object",
    "CREATE INDEX object_of_environment ON object (environment, id)",
    "ALTER TABLE byok_key RENAME TO former_byok_key",
    """\
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
)""",
    """\
INSERT INTO byok_key (
    id, environment, item_name, item_value, provider, settings, state, root_key_id, wrapped, created_at
) SELECT
    id, environment, item_name, item_value, provider, settings, state, root_key_id, wrapped, created_at
FROM former_byok_key""",
    "DROP TABLE former_byok_key",
    """\
CREATE UNIQUE INDEX byok_key_of_item ON byok_key (environment, item_name, item_value) WHERE state <> 'deleted'""",
    """\
CREATE TRIGGER byok_key_added AFTER INSERT ON byok_key BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END""",
    """\
CREATE TRIGGER byok_key_updated AFTER UPDATE OF state ON byok_key BEGIN
    UPDATE vault SET mark = hex(randomblob(16));
END""",
)

_TO_4 = ("CREATE INDEX event_of_name ON event (environment, name, sequence)",)

# By the version that they start from.
_STEPS: Mapping[int, Sequence[str]] = {2: _TO_3, 3: _TO_4}


def has_tags(version: int) -> bool:
    """Whether keystores of this schema version have tags on the rows that decide something."""
    return version >= _FIRST_WITH_TAGS


def require_steps(version: int, location: object) -> None:
    """Raise ``VaultUnavailable`` for a keystore that is too old for this release to upgrade."""
    if version < min(_STEPS):
        raise VaultUnavailable(
            f"The keystore {location} has schema version {version}, from which no step leads to another: it was made "
            f"before there were releases. Nothing was changed. The oldest that can be upgraded is {min(_STEPS)}."
        )


def climb(connection: sqlite3.Connection, location: object) -> None:
    """
    Bring the tables up to this release's, in the transaction that is open. The caller that commits it answers for the
    tags.

    ``connection`` must have ``PRAGMA legacy_alter_table = ON``, or the tables that refer to a renamed one follow it.
    Raises ``VaultUnavailable`` if the tables were not those of their version.
    """
    for version in range(version_of(connection), SCHEMA_VERSION):
        for statement in _STEPS[version]:
            connection.execute(statement)
    if not has_own_tables(connection):
        raise VaultUnavailable(
            f"The keystore {location} cannot be upgraded: its tables, indexes or triggers are not those that a release "
            "has made. Nothing was changed. Drop the additions, or restore it from a backup."
        )
    connection.execute("UPDATE vault SET mark = hex(randomblob(16))")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
