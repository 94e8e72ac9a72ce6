"""The keys that a keystore holds wrapped under its root key: versions of KEKs, and inner keys of customer keys."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from sqlite3 import Connection

from vault_fields.embedded.customer.store import CustomerKeyRecord
from vault_fields.embedded.database.columns import typed
from vault_fields.embedded.managed.rootkeys import RootKeys
from vault_fields.embedded.managed.store import KekRecord

__all__ = ["WrappedKey", "count_wrapped_keys", "wrapped_keys"]

# An empty id marks an erased key.
_KEKS = (
    "SELECT id, kek_version.version, environment, item_name, item_value, state, root_key_id, wrapped"
    " FROM kek JOIN kek_version ON kek_id = id WHERE root_key_id NOT IN ('', ?)"
)
_CUSTOMER_KEYS = (
    "SELECT id, environment, item_name, item_value, provider, settings, state, root_key_id, wrapped"
    " FROM byok_key WHERE root_key_id NOT IN ('', ?)"
)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key wrapped under a root key, and the statement that stores it wrapped under another one."""

    description: str
    root_key_id: str
    associated_data: bytes
    wrapped: bytes = field(repr=False)
    statement: str
    identity: tuple[bytes | int, ...]

    def unwrap(self, root_keys: RootKeys, location: str) -> bytes:
        """Unwrap the key. Raises ``VaultUnavailable`` if it does not open."""
        return root_keys.unwrap(self, self.associated_data, location)

    def rewrap(self, connection: Connection, root_keys: RootKeys, location: str) -> None:
        """Wrap the key under the current one of ``root_keys``, in the transaction that is open."""
        root_key = root_keys.current
        wrapped = root_key.wrapping.wrap(self.unwrap(root_keys, location), self.associated_data)
        connection.execute(self.statement, [root_key.id, wrapped, *self.identity])


def count_wrapped_keys(connection: Connection, *, except_under: str = "") -> int:
    """Return the number of keys that ``wrapped_keys`` yields."""
    return sum(
        int(number)
        for table in ("kek_version", "byok_key")
        for (number,) in connection.execute(
            f"SELECT count(*) FROM {table} WHERE root_key_id NOT IN ('', ?)",  # noqa: S608 - two names.
            [except_under],
        )
    )


def wrapped_keys(connection: Connection, *, except_under: str = "") -> Iterator[WrappedKey]:
    """Yield all wrapped keys as they are read, except those under the root key of that id."""
    (vault_id,) = typed(connection.execute("SELECT id FROM vault").fetchone(), str)
    statement = "UPDATE kek_version SET root_key_id = ?, wrapped = ? WHERE kek_id = ? AND version = ?"
    for row in connection.execute(_KEKS, [except_under]):
        kek = KekRecord(*typed(row, bytes, int, str, str, str, str, str, bytes))
        bound = kek.associated_data(vault_id)
        yield WrappedKey(kek.description, kek.root_key_id, bound, kek.wrapped, statement, (kek.id, kek.version))
    statement = "UPDATE byok_key SET root_key_id = ?, wrapped = ? WHERE id = ?"
    for row in connection.execute(_CUSTOMER_KEYS, [except_under]):
        key = CustomerKeyRecord(*typed(row, bytes, str, str, str, str, str, str, str, bytes))
        bound = key.associated_data(vault_id)
        yield WrappedKey(key.description, key.root_key_id, bound, key.wrapped, statement, (key.id,))
