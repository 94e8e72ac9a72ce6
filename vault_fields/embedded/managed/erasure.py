"""Erasing KEKs whose waiting period is over, and their remains in the files of a keystore."""

import uuid
from sqlite3 import Connection

from vault_fields.embedded.database.connections import Connections
from vault_fields.embedded.events.event import Event, insert
from vault_fields.embedded.managed.store import DESTROYED, PENDING_DESTRUCTION
from vault_fields.embedded.managed.tags import RowsAltered, RowTags
from vault_fields.exceptions import VaultUnavailable
from vault_fields.runtime.progress import Progress, silent

__all__ = ["erase_due", "scrub"]


def erase_due(tags: RowTags, connections: Connections, now: str, *, progress: Progress = silent) -> int:
    """
    Overwrite the KEKs that are due, in the file and in its write-ahead log; return how many there were.

    The log is emptied even if there was none: an interrupted run may have left it to the next one. Every row is
    verified: an edit may have made one due, or hidden one that is. Raises ``RowsAltered`` after all others are erased.
    """
    due, altered = [], None
    with (
        tags.transaction() as rows,
        progress("Looking at keys", lambda: _number_of_keks(rows.connection)) as advance,
    ):
        for row in rows.each("kek"):
            advance(1)
            kek_id, environment, name, value, state, _, _, destroy_at, *_ = row
            try:
                rows.verify("kek", row)
            except RowsAltered as error:
                altered = altered or error
                continue
            if state == PENDING_DESTRUCTION and destroy_at <= now:
                due.append((kek_id, environment, name, value))
        for kek_id, environment, name, value in due:
            # SQLite overwrites the former content of the row with zeros: see secure_delete in ``connections``.
            update = "UPDATE kek_version SET wrapped = x'', root_key_id = '' WHERE kek_id = ?"
            rows.connection.execute(update, [kek_id])
            rows.connection.execute("UPDATE kek SET state = ? WHERE id = ?", [DESTROYED, kek_id])
            rows.tag("kek", kek_id)
            insert(rows.connection, [_deleted(kek_id, environment, name, value)])
    scrub(connections)
    if altered is not None:
        raise altered
    return len(due)


def scrub(connections: Connections) -> None:
    """Empty the write-ahead log, which still holds the pages as they were before the last changes."""
    with connections.use() as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise VaultUnavailable(
            f"The keystore {connections.location} was changed, but its write-ahead log is in use by another process "
            f"and could not be emptied of its former content. Run this again."
        )


def _number_of_keks(connection: Connection) -> int:
    (number,) = connection.execute("SELECT count(*) FROM kek").fetchone()
    return int(number)


def _deleted(kek_id: bytes, environment: str, name: str, value: str) -> Event:
    return Event.now(environment, "vault.kek.deleted", key_name=f"{name}={value}", key_id=str(uuid.UUID(bytes=kek_id)))
