"""The keystore: every key-encrypting key (KEK), wrapped at rest, in one SQLite file of its own."""

from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Self

from vault_fields.embedded.connections import Connections, FileConnections, MemoryConnections

__all__ = ["DISABLED", "ENABLED", "KekRecord", "KeyStore"]

ENABLED = "enabled"
DISABLED = "disabled"

_SELECT = "SELECT id, version, environment, item_name, item_value, state, root_key_id, wrapped FROM kek WHERE "
_BY_ID = _SELECT + "id = ? AND version = ?"
_BY_ITEM = _SELECT + "environment = ? AND item_name = ? AND item_value = ? AND version = ?"
_CURRENT = _SELECT + "environment = ? AND item_name = ? AND item_value = ? ORDER BY version DESC LIMIT 1"
_INSERT = (
    "INSERT INTO kek (id, version, environment, item_name, item_value, state, root_key_id, wrapped)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (environment, item_name, item_value, version) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class KekRecord:
    """One version of a KEK as it is stored. ``id`` is a UUID as bytes, the same for all versions."""

    id: bytes
    version: int
    environment: str
    item_name: str
    item_value: str
    state: str
    root_key_id: str
    wrapped: bytes = field(repr=False)


class KeyStore:
    """
    KEKs by context item and by id. Thread-safe, and safe for any number of processes on one machine.

    It keeps connections of its own, so that a transaction of Django, rolled back or not, has no part in it: a KEK
    that ``add`` returned is on the disk.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._vault_id: str | None = None

    @classmethod
    def at(cls, path: Path, *, timeout: float = 5.0) -> Self:
        """The keystore in a file. Nothing is opened or created before it is used."""
        return cls(FileConnections(path, timeout=timeout))

    @classmethod
    def in_memory(cls) -> Self:
        """A keystore that ends with its process."""
        return cls(MemoryConnections())

    @property
    def location(self) -> str:
        """The path of the file, for messages."""
        return self._connections.location

    def vault_id(self) -> str:
        """A random name for this keystore, made with it; everything wrapped is bound to it."""
        if self._vault_id is None:
            with self._connections.use() as connection:
                (self._vault_id,) = connection.execute("SELECT id FROM vault").fetchone()
        return self._vault_id

    def root_key_ids(self) -> set[str]:
        """The ids of the root keys that KEKs are wrapped under; empty for a new keystore."""
        with self._connections.use() as connection:
            return {root_key_id for (root_key_id,) in connection.execute("SELECT id FROM root_key")}

    def adopt_root_key(self, root_key_id: str) -> set[str]:
        """Make it the root key of a keystore that has none yet; return the ids that the keystore has now."""
        with self._connections.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO root_key (id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM root_key)", [root_key_id]
            )
            connection.execute("COMMIT")
        return self.root_key_ids()

    def current(self, environment: str, item_name: str, item_value: str) -> KekRecord | None:
        """The highest version of an item's KEK."""
        return self._one(_CURRENT, environment, item_name, item_value)

    def find(self, kek_id: bytes, version: int) -> KekRecord | None:
        return self._one(_BY_ID, kek_id, version)

    def add(self, record: KekRecord) -> KekRecord:
        """
        Store a KEK; return the stored one, which is another if somebody was faster with the same item and version.

        One of any number of racing processes creates the KEK, and all of them get that one.
        """
        with self._connections.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT, astuple(record))
            item = record.environment, record.item_name, record.item_value, record.version
            row = connection.execute(_BY_ITEM, item).fetchone()
            connection.execute("COMMIT")
        return KekRecord(*row)

    def set_state(self, environment: str, item_name: str, item_value: str, state: str) -> None:
        """Set the state of every version of an item's KEK."""
        with self._connections.use() as connection:
            connection.execute(
                "UPDATE kek SET state = ? WHERE environment = ? AND item_name = ? AND item_value = ?",
                [state, environment, item_name, item_value],
            )

    def close(self) -> None:
        """Close the connections that are not in use; later use opens new ones."""
        self._connections.close()
        self._vault_id = None

    def _one(self, query: str, *parameters: str | bytes | int) -> KekRecord | None:
        with self._connections.use() as connection:
            row = connection.execute(query, parameters).fetchone()
        return None if row is None else KekRecord(*row)
