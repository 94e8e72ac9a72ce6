"""Erasing KEKs whose waiting period is over, and what is left of them in the files of a keystore."""

import uuid

from vault_fields.embedded.connections import Connections
from vault_fields.embedded.events import Event, insert
from vault_fields.embedded.keystore import DESTROYED, PENDING_DESTRUCTION
from vault_fields.exceptions import VaultUnavailable

__all__ = ["erase_due", "scrub"]

_DUE = "SELECT id, environment, item_name, item_value FROM kek WHERE state = ? AND destroy_at <= ?"


def erase_due(connections: Connections, now: str) -> int:
    """
    Overwrite the KEKs whose time has come, in the file and in its write-ahead log; return how many there were.

    Also where there was none: a run that was interrupted may have left the log to the next one.
    """
    with connections.transaction() as connection:
        due = connection.execute(_DUE, [PENDING_DESTRUCTION, now]).fetchall()
        for kek_id, environment, name, value in due:
            # SQLite overwrites what stood in the row with zeros: see secure_delete in ``connections``.
            connection.execute("UPDATE kek_version SET wrapped = x'', root_key_id = '' WHERE kek_id = ?", [kek_id])
            connection.execute("UPDATE kek SET state = ? WHERE id = ?", [DESTROYED, kek_id])
            insert(connection, [_deleted(kek_id, environment, name, value)])
    scrub(connections)
    return len(due)


def scrub(connections: Connections) -> None:
    """Empty the write-ahead log, which still holds the pages as they were before the last changes."""
    with connections.use() as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise VaultUnavailable(
            f"The keystore {connections.location} was changed, but its write-ahead log is in use by another process "
            f"and could not be emptied of what stood there before. Run this again."
        )


def _deleted(kek_id: bytes, environment: str, name: str, value: str) -> Event:
    return Event.now(environment, "vault.kek.deleted", key_name=f"{name}={value}", key_id=str(uuid.UUID(bytes=kek_id)))
