"""
Tags on rows of the keystore that stand there in the clear and decide something: the state of a key above all.

    tag = HMAC-SHA256(key that is derived from the root key,
                      framed("vault_fields row", id of the vault, table, its columns in TAGGED, each with its type))

Whoever can write to the file, and does not have the root key, cannot enable a key that is disabled. A tag tells nothing
of a row that was deleted, and an older row of the same table and id, put back whole, has the tag that it had.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hmac import compare_digest
from sqlite3 import Connection
from typing import Any, Protocol

from vault_fields.embedded.database import failures
from vault_fields.embedded.database.columns import texts, typed
from vault_fields.embedded.database.connections import Connections
from vault_fields.embedded.database.tables import ROOT_KEYS, TAGGED, Row, Table, selected
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.rootkeys import ConfiguredRootKeys, RootKeys
from vault_fields.embedded.xaes import framed
from vault_fields.exceptions import VaultUnavailable

__all__ = ["RowTags", "RowsAltered", "TaggedRows", "VaultReplaced", "count_tagged_rows", "tagged_rows"]


class Unlock(Protocol):
    """A function that returns the root keys of the keystore, as they are known, or read anew."""

    def __call__(self, *, anew: bool = False) -> RootKeys: ...


class RowsAltered(VaultUnavailable):
    """A row of the keystore differs from the one that a holder of the root key wrote."""


class VaultReplaced(VaultUnavailable):
    """A backup was restored into the keystore while something was made that depends on its former content."""


class RowTags:
    """The tags of a keystore. Thread-safe."""

    def __init__(self, connections: Connections, configured: ConfiguredRootKeys, unlock: Unlock) -> None:
        self._connections = connections
        self._configured = configured
        self._unlock = unlock

    def verify(self, table: Table, row: Row) -> None:
        """Raise ``RowsAltered`` unless this is how the row was written. Not to be called in a transaction."""
        _verify(table, row, self._root_keys(row), self._connections.location)

    def is_authentic(self, table: Table, row: Row) -> bool:
        """Whether the row is as it was written, for callers that go on with other rows."""
        return _is_authentic(table, row, self._root_keys(row))

    def _root_keys(self, row: Row) -> RootKeys:
        root_keys = self._unlock()
        # Reading them anew raises if the keystore was moved to a root key that is not configured here.
        return root_keys if row[-3] in root_keys.by_id else self._unlock(anew=True)

    @contextmanager
    def transaction(self) -> Iterator["TaggedRows"]:
        """Yield a transaction that may write tagged rows, under the root key that the keystore has in it."""
        self._unlock()
        with self._connections.transaction() as connection:
            root_keys = self._configured.of(texts(connection, ROOT_KEYS), self._connections.location)
            yield TaggedRows(connection, root_keys, self._connections.location)


@dataclass(frozen=True, slots=True)
class TaggedRows:
    """The tagged rows in a transaction that is open."""

    connection: Connection
    root_keys: RootKeys
    location: str

    def each(self, table: Table) -> Iterator[Row]:
        """Yield all rows of a table, in the form that ``verify`` takes."""
        yield from self.connection.execute(f"SELECT {selected(table)} FROM {table}")  # noqa: S608 - constants.

    def require_vault(self, vault_id: str) -> None:
        """Raise ``VaultReplaced`` unless the keystore is that vault's: data bound to another one open nowhere."""
        if self.connection.execute("SELECT id FROM vault").fetchone() != (vault_id,):
            raise VaultReplaced(f"Another vault was restored into the keystore {self.location}. Try again.")

    def require(self, table: Table, row_id: str | bytes) -> None:
        """Raise ``RowsAltered`` unless the row is as it was written."""
        # A row that is gone since it was read cannot be relied on either.
        self.verify(table, self._row(table, row_id) or (row_id, "", b"", ""))

    def verify(self, table: Table, row: Row) -> None:
        _verify(table, row, self.root_keys, self.location)

    def tag(self, table: Table, row_id: str | bytes) -> None:
        """Tag the row as it stands now."""
        *columns, _, _, vault_id = self._row(table, row_id)
        typed([vault_id], str)
        root_key = self.root_keys.current
        tag = root_key.tag(_message(table, tuple(columns), vault_id))
        self.connection.execute(
            f"UPDATE {table} SET tagged_by = ?, tag = ? WHERE id = ?",  # noqa: S608 - constants.
            [root_key.id, tag, row_id],
        )

    def _row(self, table: Table, row_id: str | bytes) -> Row:
        query = f"SELECT {selected(table)} FROM {table} WHERE id = ?"  # noqa: S608 - constants.
        row: Row | None = self.connection.execute(query, [row_id]).fetchone()
        return row or ()


def tagged_rows(connection: Connection, *, except_by: str | None = None) -> Iterator[tuple[Table, Row]]:
    """Yield all rows, without a tag too, except those that the root key of that id has tagged."""
    for table in TAGGED:
        query = f"SELECT {selected(table)} FROM {table} WHERE tagged_by IS NOT ?"  # noqa: S608 - constants.
        for row in connection.execute(query, [except_by]):
            yield table, row


def count_tagged_rows(connection: Connection, *, except_by: str | None = None) -> int:
    """Return the number of rows that ``tagged_rows`` yields."""
    return sum(
        int(number)
        for table in TAGGED
        for (number,) in connection.execute(
            f"SELECT count(*) FROM {table} WHERE tagged_by IS NOT ?",  # noqa: S608 - constants.
            [except_by],
        )
    )


def _verify(table: Table, row: Row, root_keys: RootKeys, location: str) -> None:
    if not _is_authentic(table, row, root_keys):
        named = row[0].hex() if isinstance(row[0], bytes) else row[0]
        problem = f"the row {named} of the table {table!r} is not as it was written"
        raise failures.damaged(location, problem, RowsAltered)


def _is_authentic(table: Table, row: Row, root_keys: RootKeys) -> bool:
    *columns, tagged_by, tag, vault_id = row
    root_key: RootKey | None = root_keys.by_id.get(tagged_by)
    if root_key is None or not isinstance(tag, bytes) or not isinstance(vault_id, str):
        return False
    return compare_digest(root_key.tag(_message(table, tuple(columns), vault_id)), tag)


def _message(table: Table, columns: Row, vault_id: str) -> bytes:
    return framed(b"vault_fields row", vault_id.encode(), table.encode(), *map(_typed, columns))


def _typed(value: Any) -> bytes:
    # SQLite keeps a value of any type in a column of any other.
    return type(value).__name__.encode() + b" " + (value if isinstance(value, bytes) else str(value).encode())
