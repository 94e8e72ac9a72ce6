"""The keystore: every key-encrypting key (KEK), wrapped at rest, in one SQLite file of its own."""

import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import Self

from vault_fields.embedded.database.columns import texts, typed
from vault_fields.embedded.database.connections import Connections, FileConnections, MemoryConnections
from vault_fields.embedded.database.tables import ROOT_KEYS, Row, selected
from vault_fields.embedded.events.event import Event, insert
from vault_fields.embedded.events.log import EventLog
from vault_fields.embedded.xaes import framed

__all__ = ["DESTROYED", "DISABLED", "ENABLED", "PENDING_DESTRUCTION", "KekRecord", "KeyStore"]

ENABLED = "enabled"
DISABLED = "disabled"
PENDING_DESTRUCTION = "pending destruction"
DESTROYED = "destroyed"

_SELECT = (
    f"SELECT kek_version.version, root_key_id, wrapped, {selected('kek')}"  # noqa: S608 - nothing in it is a caller's.
    " FROM kek JOIN kek_version ON kek_id = id WHERE "
)
_BY_ID = _SELECT + "id = ? AND kek_version.version = ?"
_BY_ITEM = _SELECT + "environment = ? AND item_name = ? AND item_value = ? AND kek_version.version = ?"
# A version that the row names and that does not exist is damage, and no reason to go on with an older one.
_CURRENT = (
    f"SELECT current_version, ifnull(root_key_id, ''), ifnull(wrapped, x''), {selected('kek')} FROM kek"  # noqa: S608
    " LEFT JOIN kek_version ON kek_id = id AND version = current_version"
    " WHERE environment = ? AND item_name = ? AND item_value = ?"
)
_ENVIRONMENTS = (
    "SELECT environment FROM kek UNION SELECT environment FROM byok_key UNION SELECT environment FROM object ORDER BY 1"
)
_HAS_KEK = "SELECT 1 FROM kek WHERE environment = ? AND item_name = ? AND item_value = ?"
# Not for a KEK of the same item but another id, which another process was faster to add.
_INSERT_KEK = (
    "INSERT INTO kek (id, environment, item_name, item_value, state) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (environment, item_name, item_value) DO NOTHING"
)
# Nor for one that has changed since this version of it was made.
_NEXT_VERSION = "UPDATE kek SET current_version = ? WHERE id = ? AND current_version = ? - 1 AND state = ? AND tag = ?"
_INSERT_VERSION = "INSERT INTO kek_version (kek_id, version, root_key_id, wrapped) VALUES (?, ?, ?, ?)"


def _untagged(connection: Connection, kek_id: bytes) -> None:
    """The tag function of callers that need no usable KEK."""


@dataclass(frozen=True, slots=True)
class KekRecord:
    """
    One version of a KEK as it is stored. ``id`` is a UUID as bytes, the same for all versions.

    State and minimum version are the KEK's and not the version's. ``wrapped`` is empty once it is destroyed. ``row`` is
    the KEK's, as its tag is verified; nothing else here may be acted on before that.
    """

    id: bytes
    version: int
    environment: str
    item_name: str
    item_value: str
    state: str
    root_key_id: str
    wrapped: bytes = field(repr=False)
    minimum_version: int = 1
    row: Row = field(default=(), repr=False, compare=False)

    @property
    def tag(self) -> bytes:
        tag: bytes = self.row[-2] if self.row else b""
        return tag

    @property
    def description(self) -> str:
        """The name of the key in messages."""
        return f"the key for the context item {self.item_name!r}"

    def associated_data(self, vault_id: str) -> bytes:
        """The data to which ``wrapped`` is bound, so that rows cannot be swapped or edited."""
        parts = ["vault_fields kek", vault_id, self.environment, self.item_name, self.item_value, str(self.version)]
        return framed(self.id, *[part.encode() for part in parts])


class KeyStore:
    """
    KEKs by context item and by id. Thread-safe, and safe for any number of processes on one machine.

    It keeps connections of its own, so that a transaction of Django, rolled back or not, has no part in it: a KEK that
    ``add`` returned is on the disk.
    """

    def __init__(self, connections: Connections, *, event_retention: timedelta | None = None) -> None:
        self.connections = connections
        self.events = EventLog(connections, retention=event_retention)

    @classmethod
    def at(
        cls, path: Path, *, timeout: float = 5.0, must_exist: bool = False, event_retention: timedelta | None = None
    ) -> Self:
        """Return the keystore in a file. Nothing is opened, or created where it need not exist, before it is used."""
        return cls(FileConnections(path, timeout=timeout, must_exist=must_exist), event_retention=event_retention)

    @classmethod
    def in_memory(cls) -> Self:
        """Return a keystore that ends with its process."""
        return cls(MemoryConnections())

    @property
    def location(self) -> str:
        """The path of the file, for messages."""
        return self.connections.location

    def vault_id(self) -> str:
        """A random name for this keystore, made with it; everything wrapped is bound to it. Read each time."""
        return self.mark()[0]

    def mark(self) -> tuple[str, str]:
        """Return the id of the vault, and a text that changes as soon as a KEK that somebody holds is out of date."""
        with self.connections.use() as connection:
            vault_id, mark = typed(connection.execute("SELECT id, mark FROM vault").fetchone(), str, str)
        return vault_id, mark

    def root_key_ids(self) -> list[str]:
        """Return the ids of the root keys that wrap KEKs, the current one last; none for a new keystore."""
        with self.connections.use() as connection:
            return texts(connection, ROOT_KEYS)

    def environments(self) -> list[str]:
        """Return the environments that have a KEK, a customer key or an object."""
        with self.connections.use() as connection:
            return texts(connection, _ENVIRONMENTS)

    def adopt_root_key(self, root_key_id: str) -> list[str]:
        """Give a keystore without a root key this one; return the ids that the keystore has now."""
        with self.connections.transaction() as connection:
            connection.execute(
                "INSERT INTO root_key (id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM root_key)", [root_key_id]
            )
        return self.root_key_ids()

    def current(self, environment: str, item_name: str, item_value: str) -> KekRecord | None:
        """Return the highest version of an item's KEK."""
        return self._one(_CURRENT, environment, item_name, item_value)

    def find(self, kek_id: bytes, version: int) -> KekRecord | None:
        return self._one(_BY_ID, kek_id, version)

    def add(self, record: KekRecord, tag: Callable[[Connection, bytes], object] = _untagged) -> KekRecord | None:
        """
        Store a new KEK, or a new version of an enabled one; return the record stored under its item and version.

        Of any number of racing processes one stores its own, and all of them get that one. Return None if nothing is
        there and nothing was stored: the record's root key is not the current one any more, or the KEK is not enabled,
        or not as its ``row`` says any more. ``tag`` is called in the transaction, with the id of the KEK that was
        written.
        """
        item = record.environment, record.item_name, record.item_value
        with self.connections.transaction() as connection:
            self._add(connection, [record], tag)
            row = connection.execute(_BY_ITEM, [*item, record.version]).fetchone()
            return None if row is None else _record(row)

    def add_all(
        self, records: Collection[KekRecord], tag: Callable[[Connection, bytes], object] = _untagged
    ) -> frozenset[bytes]:
        """
        Store new KEKs of one root key as ``add`` does, in one transaction, which waits for the disk; return their ids.

        KEKs are left out if their item has got one in the meantime, and all of them if their root key is not the
        current one.
        """
        with self.connections.transaction() as connection:
            return frozenset(self._add(connection, records, tag))

    def without_kek(self, environment: str, items: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the items, by name and value, that have no KEK in whatever state."""
        with self.connections.use() as connection:
            return [item for item in items if connection.execute(_HAS_KEK, [environment, *item]).fetchone() is None]

    def _add(
        self, connection: Connection, records: Iterable[KekRecord], tag: Callable[[Connection, bytes], object]
    ) -> list[bytes]:
        stored = []
        latest = connection.execute("SELECT id FROM root_key ORDER BY number DESC LIMIT 1").fetchone()
        for record in records:
            if latest == (record.root_key_id,) and self._added(connection, record):
                version = record.id, record.version, record.root_key_id, record.wrapped
                connection.execute(_INSERT_VERSION, version)
                tag(connection, record.id)
                stored.append(record.id)
        return stored

    def _added(self, connection: Connection, record: KekRecord) -> bool:
        if record.version > 1:
            named = record.version, record.id, record.version, record.state, record.tag
            return connection.execute(_NEXT_VERSION, named).rowcount > 0
        item = record.environment, record.item_name, record.item_value
        if not connection.execute(_INSERT_KEK, [record.id, *item, record.state]).rowcount:
            return False
        insert(connection, [_created(record)])
        return True

    def close(self) -> None:
        """Close idle connections. Later use opens new ones."""
        self.events.close()
        self.connections.close()

    def _one(self, query: str, *parameters: str | bytes | int) -> KekRecord | None:
        with self.connections.use() as connection:
            row = connection.execute(query, parameters).fetchone()
            return None if row is None else _record(row)


def _record(found: Row) -> KekRecord:
    version, root_key_id, wrapped, *row = typed(found, int, str, bytes)
    kek_id, environment, item_name, item_value, state, minimum_version, *_ = row
    return KekRecord(
        kek_id, version, environment, item_name, item_value, state, root_key_id, wrapped, minimum_version, tuple(row)
    )


def _created(record: KekRecord) -> Event:
    return Event.now(
        record.environment,
        "vault.kek.created",
        key_name=f"{record.item_name}={record.item_value}",
        key_id=str(uuid.UUID(bytes=record.id)),
    )
