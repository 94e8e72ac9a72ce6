"""Moving a keystore from one root key to another: everything in it is wrapped again, in batches."""

from dataclasses import dataclass
from itertools import islice
from sqlite3 import Connection

from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.maintenance.wrappedkeys import count_wrapped_keys, wrapped_keys
from vault_fields.embedded.managed.erasure import scrub
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.rootkeys import RootKeys
from vault_fields.embedded.managed.tags import TaggedRows, count_tagged_rows, tagged_rows
from vault_fields.runtime.progress import Progress, silent

__all__ = ["RootKeyRotation", "rotate_root_key"]

BATCH_SIZE = 1000


@dataclass(frozen=True, slots=True)
class RootKeyRotation:
    """
    The result of a rotation: the ids of the removed root keys and of the remaining one, and the number of moved keys.
    """

    former: list[str]
    current: str
    rewrapped: int


def rotate_root_key(ring: KeyRing, *, batch_size: int = BATCH_SIZE, progress: Progress = silent) -> RootKeyRotation:
    """
    Wrap every key of the keystore under the configured root key, and forget the root key that it replaces.

    Each batch is one transaction, during which other processes wait to write and go on reading. An interrupted run
    leaves a keystore that opens where both root keys are configured; the next run does the rest. Raises
    ``ImproperlyConfigured``, and changes nothing, where they are not.
    """
    ring.unlock()
    known, target = ring.store.root_key_ids(), ring.configured.obtain()
    if known[-1] != target.id:
        _announce(ring, target)
    root_keys = ring.configured.of([*known, target.id], ring.store.location)
    rewrapped = 0
    with progress("Wrapping keys", lambda: _left(ring, target)) as advance:
        while count := _rewrap_batch(ring, root_keys, batch_size):
            rewrapped += count
            advance(count)
    with progress("Tagging rows", lambda: _left_to_tag(ring, target)) as advance:
        while count := _retag_batch(ring, root_keys, batch_size):
            advance(count)
    # The copies under the former root key, which others may know, must not stay in the log.
    scrub(ring.store.connections)
    ring.forget()
    return RootKeyRotation([root_key_id for root_key_id in known if root_key_id != target.id], target.id, rewrapped)


def _left(ring: KeyRing, target: RootKey) -> int:
    with ring.store.connections.use() as connection:
        return count_wrapped_keys(connection, except_under=target.id)


def _left_to_tag(ring: KeyRing, target: RootKey) -> int:
    with ring.store.connections.use() as connection:
        return count_tagged_rows(connection, except_by=target.id)


def _announce(ring: KeyRing, target: RootKey) -> None:
    """
    Make every process wrap new keys under the new root key from here on. A process without it gets an error that says
    so.
    """
    with ring.store.connections.transaction() as connection:
        # It may be an earlier root key, to which somebody returns halfway. The highest number is the current one.
        connection.execute("INSERT OR REPLACE INTO root_key (id) VALUES (?)", [target.id])


def _require_current(connection: Connection, ring: KeyRing, target: str) -> None:
    if connection.execute("SELECT id FROM root_key ORDER BY number DESC LIMIT 1").fetchone() != (target,):
        raise ImproperlyConfigured(
            f"the root key of the keystore {ring.store.location} was changed by another process meanwhile."
        )


def _rewrap_batch(ring: KeyRing, root_keys: RootKeys, size: int) -> int:
    """Return the number of keys wrapped again; 0 if none is left."""
    target = root_keys.current.id
    with ring.store.connections.transaction() as connection:
        _require_current(connection, ring, target)
        batch = list(islice(wrapped_keys(connection, except_under=target), size))
        for key in batch:
            key.rewrap(connection, root_keys, ring.store.location)
    return len(batch)


def _retag_batch(ring: KeyRing, root_keys: RootKeys, size: int) -> int:
    """Return the number of rows tagged again; 0 if none is left: then only the current root key is known."""
    target = root_keys.current.id
    with ring.store.connections.transaction() as connection:
        _require_current(connection, ring, target)
        rows = TaggedRows(connection, root_keys, ring.store.location)
        batch = list(islice(tagged_rows(connection, except_by=target), size))
        for table, row in batch:
            rows.verify(table, row)
            rows.tag(table, row[0])
        if not batch:
            connection.execute("DELETE FROM root_key WHERE id <> ?", [target])
    return len(batch)
