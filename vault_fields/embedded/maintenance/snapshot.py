"""Snapshots: a keystore in one file that nobody uses, copied from one in use, and verified key by key."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vault_fields.embedded.database import failures
from vault_fields.embedded.database.columns import texts, typed
from vault_fields.embedded.database.files import publish
from vault_fields.embedded.database.schema import require_not_newer, version_of
from vault_fields.embedded.database.steps import has_tags
from vault_fields.embedded.database.tables import ROOT_KEYS
from vault_fields.embedded.maintenance.wrappedkeys import count_wrapped_keys, wrapped_keys
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkeys import ConfiguredRootKeys
from vault_fields.embedded.managed.tags import TaggedRows, count_tagged_rows, tagged_rows
from vault_fields.exceptions import VaultUnavailable
from vault_fields.runtime.progress import Progress, silent
from vault_fields.text.counting import counted

__all__ = ["Snapshot", "back_up", "copied", "opened"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of a verified file: KEKs, and keys (versions of KEKs, keys of customers) that open."""

    vault_id: str
    keks: int
    keys: int

    def __str__(self) -> str:
        return (
            f"vault {self.vault_id} with {counted(self.keks, 'KEK', 'KEKs')}; "
            f"{counted(self.keys, 'key was', 'keys were')} opened "
            "with the root key, all well."
        )


def back_up(ring: KeyRing, target: Path, *, progress: Progress = silent) -> Snapshot:
    """
    Copy the keystore into a new file, of mode 0600, as it is at one moment; others go on using it.

    The file appears when it is whole and verified. Raises ``FileExistsError`` if a file of that name exists.
    """
    ring.unlock()
    snapshots: list[Snapshot] = []

    def write(draft: Path) -> None:
        with ring.store.connections.use() as source:
            snapshots.append(copied(source, draft, ring.configured, Path(ring.store.location), progress))

    try:
        made = publish(target, write)
    except OSError as error:
        raise failures.from_os(error, target) from error
    if not made:
        raise FileExistsError(f"{target} exists already. A backup does not replace another one.")
    return snapshots[0]


def copied(
    source: sqlite3.Connection, target: Path, configured: ConfiguredRootKeys, name: Path, progress: Progress
) -> Snapshot:
    """
    Copy a whole database into an empty file, and verify that it is a sound keystore which the root keys open.

    It may be of an earlier schema version. Errors call it ``name``: the copy may be a draft that is gone when somebody
    reads them.
    """
    with opened(target, name) as copy:
        source.backup(copy)
        # One file, with nothing left in a write-ahead log beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
        require_not_newer(copy, name)
        if (found := copy.execute("PRAGMA integrity_check").fetchone()) != ("ok",):
            raise VaultUnavailable(f"The keystore {name} is damaged: {found[0]}")
        known = texts(copy, ROOT_KEYS)
        root_keys = configured.of(known, str(name))
        keys = 0
        with progress("Opening keys", lambda: count_wrapped_keys(copy)) as advance:
            for key in wrapped_keys(copy):
                key.unwrap(root_keys, str(name))
                keys += 1
                advance(1)
        if has_tags(version_of(copy)):
            rows = TaggedRows(copy, root_keys, str(name))
            with progress("Verifying rows", lambda: count_tagged_rows(copy)) as advance:
                for table, row in tagged_rows(copy):
                    rows.verify(table, row)
                    advance(1)
        vault_id, keks = typed(copy.execute("SELECT id, (SELECT count(*) FROM kek) FROM vault").fetchone(), str, int)
        return Snapshot(vault_id, keks, keys)


@contextmanager
def opened(path: Path, name: Path, *, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    """Yield a connection in autocommit mode to a file that is no keystore in use. Errors of SQLite call it ``name``."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)) as connection:
            yield connection
    except Exception as error:
        failures.raise_as_ours(error, name)
        raise
