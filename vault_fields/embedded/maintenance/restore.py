"""Restoring a keystore from a backup, in one transaction, while the processes that use it keep running."""

import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile

from vault_fields.embedded.database import failures
from vault_fields.embedded.database.connections import require_no_log
from vault_fields.embedded.database.files import drafted, publish
from vault_fields.embedded.maintenance.snapshot import Snapshot, copied, opened
from vault_fields.embedded.maintenance.upgrading import upgrade_draft
from vault_fields.embedded.managed.erasure import scrub
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.exceptions import VaultRefused
from vault_fields.runtime.progress import Progress, silent
from vault_fields.text.counting import counted

__all__ = ["Losses", "RestoreRefused", "restore"]

# A restore does not undo what happened: the events stay.
_KEPT = "event"

_TABLES = """
    SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> ?
"""
_LOST_KEYS = """
    SELECT count(*) FROM main.kek_version AS now WHERE wrapped <> x'' AND NOT EXISTS (
        SELECT 1 FROM draft.kek_version AS past
        WHERE past.kek_id = now.kek_id AND past.version = now.version AND past.wrapped <> x''
    )
"""
_LOST_CUSTOMER_KEYS = """
    SELECT count(*) FROM main.byok_key AS now WHERE wrapped <> x'' AND NOT EXISTS (
        SELECT 1 FROM draft.byok_key AS past WHERE past.id = now.id AND past.wrapped <> x''
    )
"""
_LOST_OBJECTS = """
    SELECT count(*) FROM main.object_version AS now WHERE NOT EXISTS (
        SELECT 1 FROM draft.object_version AS past WHERE past.id = now.id
    )
"""
_REVIVED_KEYS = """
    SELECT count(*) FROM main.kek AS now JOIN draft.kek AS past USING (id)
    WHERE (past.state = 'enabled' AND now.state <> 'enabled')
        OR (past.state <> 'destroyed' AND now.state = 'destroyed')
        OR past.minimum_version < now.minimum_version
"""
_REVIVED_CUSTOMER_KEYS = """
    SELECT count(*) FROM main.byok_key AS now JOIN draft.byok_key AS past USING (id)
    WHERE (past.state = 'active' AND now.state <> 'active')
        OR (past.state = 'verified' AND now.state = 'disabled')
        OR (past.wrapped <> x'' AND now.wrapped = x'')
"""


@dataclass(frozen=True, slots=True)
class Losses:
    """
    The differences of the keystore to a backup that is older.

    ``lost`` counts keys that only the keystore has: values encrypted with them will not open. ``revived`` counts keys
    that were disabled, retired or destroyed since, and will open things again. ``objects`` counts versions of stored
    objects that only the keystore has.
    """

    lost: int = 0
    revived: int = 0
    objects: int = 0
    other_vault: bool = False

    def __bool__(self) -> bool:
        return bool(self.lost or self.revived or self.objects or self.other_vault)

    def __str__(self) -> str:
        whose = "It is a backup of another vault. " if self.other_vault else ""
        return (
            f"{whose}{counted(self.lost, 'key was', 'keys were')} made since, and what was encrypted with them would "
            f"not open; "
            f"{counted(self.revived, 'key was', 'keys were')} disabled, retired or destroyed since, and would open "
            f"values again; "
            f"{counted(self.objects, 'version of a stored object', 'versions of stored objects')} would be lost."
        )


class RestoreRefused(VaultRefused):
    """The existing keystore is newer than the backup, or belongs to another vault."""


def restore(
    ring: KeyRing, backup: Path, *, force: bool = False, progress: Progress = silent
) -> tuple[Snapshot, Losses]:
    """
    Replace the content of the keystore by a backup's, except for the events, once every key of the backup has opened.

    All or nothing, and in one transaction with the comparison: raises ``RestoreRefused``, and changes nothing, if
    anything would be lost or revived; ``force`` accepts that. Processes that use the keystore hand out no more data
    keys that depend on the former content, and open with it for a second at most. If the keystore is missing
    altogether, they have to be restarted.
    """
    path = Path(ring.store.location)
    try:
        with drafted(path) as draft:
            with opened(backup, backup, mode="ro") as source:
                snapshot = copied(source, draft, ring.configured, backup, progress)
            upgrade_draft(draft, backup)
            ring.close()
            if not path.exists():
                require_no_log(path)
                if publish(path, partial(copyfile, draft)):
                    return snapshot, Losses()
            losses = _replace(ring, draft, backup, force)
    except OSError as error:
        raise failures.from_os(error, path) from error
    # The former content must not stay in the log either.
    scrub(ring.store.connections)
    ring.forget()
    return snapshot, losses


def _replace(ring: KeyRing, draft: Path, backup: Path, force: bool) -> Losses:
    with ring.store.connections.use() as connection:
        connection.execute("ATTACH ? AS draft", [str(draft)])
        connection.execute("BEGIN IMMEDIATE")
        losses = _losses(connection)
        if losses and not force:
            raise RestoreRefused(f"The keystore {ring.store.location} is newer than {backup}. {losses}")
        names = [name for (name,) in connection.execute(_TABLES, [_KEPT])]
        for name in names:
            connection.execute(f'DELETE FROM main."{name}"')  # noqa: S608 - from the schema, which is ours.
            connection.execute(f'INSERT INTO main."{name}" SELECT * FROM draft."{name}"')  # noqa: S608
        connection.execute("UPDATE vault SET mark = hex(randomblob(16))")
        connection.execute("COMMIT")
        connection.execute("DETACH draft")
    return losses


def _losses(connection: sqlite3.Connection) -> Losses:
    def number(query: str) -> int:
        (count,) = connection.execute(query).fetchone()
        return int(count)

    other = number("SELECT count(*) FROM main.vault AS now, draft.vault AS past WHERE now.id <> past.id")
    return Losses(
        number(_LOST_KEYS) + number(_LOST_CUSTOMER_KEYS),
        number(_REVIVED_KEYS) + number(_REVIVED_CUSTOMER_KEYS),
        number(_LOST_OBJECTS),
        bool(other),
    )
