"""Upgrading a keystore of an earlier release to the tables of this one. It never happens unasked."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vault_fields.embedded.database import failures
from vault_fields.embedded.database.files import publish
from vault_fields.embedded.database.schema import SCHEMA_VERSION, require_not_newer, version_of
from vault_fields.embedded.database.steps import climb, has_tags, require_steps
from vault_fields.embedded.maintenance.snapshot import Snapshot, copied, opened
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.tags import TaggedRows, count_tagged_rows, tagged_rows
from vault_fields.exceptions import VaultRefused
from vault_fields.runtime.progress import Progress, silent

__all__ = ["Upgrade", "UpgradeRefused", "schema_version", "upgrade", "upgrade_draft"]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """
    The former and the new schema version. They are equal if there was nothing to do; then there is no backup.

    ``trusted`` counts the rows that got their first tags as they stood.
    """

    before: int
    after: int
    backup: Path | None = None
    snapshot: Snapshot | None = None
    trusted: int = 0


class UpgradeRefused(VaultRefused):
    """The keystore is in use, or its rows would have to be trusted unseen. Nothing was changed."""


def schema_version(ring: KeyRing) -> int:
    """Return the schema version of a keystore, which may be of an earlier release."""
    if not ring.store.connections.lasting:
        return SCHEMA_VERSION
    path = Path(ring.store.location)
    with opened(path, path) as connection:
        require_not_newer(connection, path)
        return version_of(connection)


def upgrade(
    ring: KeyRing, backup: Path | None = None, *, trust_rows: bool = False, progress: Progress = silent
) -> Upgrade:
    """
    Upgrade the keystore to this release, after writing a verified copy of it to the new file ``backup``.

    All or nothing, in one transaction that has the keystore for itself: raises ``UpgradeRefused`` while another
    process has it open. Without a ``backup`` it is written beside the keystore, under a name that is not taken.

    Where the rows of that schema version have no tags they get them as they stand, and only with ``trust_rows``:
    anyone who could write to the file may have edited them, or made the file one of that version for this very moment.
    """
    before = schema_version(ring)
    if before == SCHEMA_VERSION:
        return Upgrade(before, before)
    path = Path(ring.store.location)
    require_steps(before, path)
    if not has_tags(before) and not trust_rows:
        raise UpgradeRefused(
            f"The rows of the keystore {path}, which has schema version {before}, have no tags under the root key: "
            "anyone who could write to the file may have edited the state of a key, or the version. Compare the file "
            "with what you know of it; then add --trust-rows."
        )
    ring.close()
    backup = backup or path.with_name(f"{path.name}.schema-{before}.{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    with _alone(path) as connection:
        if version_of(connection) != before:
            # Another process has just upgraded it.
            return Upgrade(SCHEMA_VERSION, SCHEMA_VERSION)
        snapshot = _backed_up(ring, connection, backup, progress)
        trusted = _raised(ring, connection, path, before, progress)
    return Upgrade(before, SCHEMA_VERSION, backup, snapshot, trusted)


def upgrade_draft(draft: Path, backup: Path) -> None:
    """Upgrade the verified copy of a backup, which nobody else has, to this release. Its rows must have tags."""
    with opened(draft, backup) as connection:
        before = version_of(connection)
        if before == SCHEMA_VERSION:
            return
        require_steps(before, backup)
        if not has_tags(before):
            raise UpgradeRefused(
                f"The rows of {backup}, which has schema version {before}, have no tags under the root key. Put a copy "
                "of it in the place of the keystore, and run `manage.py vault_keystore upgrade`."
            )
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute("BEGIN IMMEDIATE")
        climb(connection, backup)
        connection.execute("COMMIT")


@contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """
    Yield a connection to a keystore that no other process has open, nor can open before it is closed.

    A process of an earlier release that stayed connected would write rows in its own format.
    """
    with opened(path, path) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            # The lock that this takes is held until the end of the connection.
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise UpgradeRefused(
                f"The keystore {path} is in use by another process, and nothing was changed. Stop those that use it, "
                "and run this again."
            ) from error
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA secure_delete = ON")
        yield connection


def _backed_up(ring: KeyRing, source: sqlite3.Connection, backup: Path, progress: Progress) -> Snapshot:
    snapshots: list[Snapshot] = []

    def write(draft: Path) -> None:
        snapshots.append(copied(source, draft, ring.configured, Path(ring.store.location), progress))

    try:
        made = publish(backup, write)
    except OSError as error:
        raise failures.from_os(error, backup) from error
    if not made:
        raise FileExistsError(f"{backup} exists already. A backup does not replace another one: name another file.")
    return snapshots[0]


def _raised(ring: KeyRing, connection: sqlite3.Connection, path: Path, before: int, progress: Progress) -> int:
    """Upgrade the tables, and return how many rows were trusted."""
    trusted = 0
    connection.execute("PRAGMA legacy_alter_table = ON")
    connection.execute("BEGIN IMMEDIATE")
    climb(connection, path)
    if not has_tags(before):
        known = [root_key_id for (root_key_id,) in connection.execute("SELECT id FROM root_key ORDER BY number")]
        rows = TaggedRows(connection, ring.configured.of(known, str(path)), str(path))
        with progress("Tagging rows", lambda: count_tagged_rows(connection)) as advance:
            for table, row in list(tagged_rows(connection)):
                rows.tag(table, row[0])
                trusted += 1
                advance(1)
    connection.execute("COMMIT")
    return trusted
