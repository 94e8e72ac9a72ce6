"""Customer keys in the keystore: their settings, their states and their inner keys."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vault_fields.embedded.database.columns import typed
from vault_fields.embedded.database.connections import Connections
from vault_fields.embedded.database.tables import selected
from vault_fields.embedded.events.event import Event, insert
from vault_fields.embedded.managed.erasure import scrub
from vault_fields.embedded.managed.tags import RowTags
from vault_fields.embedded.xaes import framed

__all__ = ["ACTIVE", "CONFIGURED", "DELETED", "DISABLED", "VERIFIED", "CustomerKeyRecord", "CustomerKeyStore"]

# In the order of a key's life. A state that a release does not know counts as not active.
CONFIGURED = "configured"
VERIFIED = "verified"
ACTIVE = "active"
DISABLED = "disabled"
DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class CustomerKeyRecord:
    """
    A customer key as it is stored. ``id`` is a UUID as bytes, ``settings`` JSON without any secret.

    ``wrapped`` is the inner key under the root key; empty for a deleted key.
    """

    id: bytes
    environment: str
    item_name: str
    item_value: str
    provider: str
    settings: str
    state: str
    root_key_id: str
    wrapped: bytes = field(repr=False)

    @property
    def description(self) -> str:
        """The name of the key in messages."""
        return f"the customer key for the context item {self.item_name!r}"

    def parsed_settings(self) -> Mapping[str, str]:
        parsed: Mapping[str, str] = json.loads(self.settings)
        return parsed

    def associated_data(self, vault_id: str) -> bytes:
        """The data to which the inner key is bound: it does not open in a row with another item or other settings."""
        parts = ["vault_fields cmk", vault_id, self.environment, self.item_name, self.item_value]
        return framed(self.id, *[part.encode() for part in [*parts, self.provider, self.settings]])


_COLUMNS = ", ".join(column.name for column in fields(CustomerKeyRecord))
# A deleted key is found too: an edit may have made it look deleted.
_SELECT = f"SELECT root_key_id, wrapped, {selected('byok_key')} FROM byok_key WHERE "  # noqa: S608 - constants.
_OF_ITEM = "environment = ? AND item_name = ? AND item_value = ?"
_INSERT = f"INSERT INTO byok_key ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
_MOVE = "UPDATE byok_key SET state = ? WHERE id = ? AND state IN (SELECT value FROM json_each(?))"
_DELETE = "UPDATE byok_key SET state = 'deleted', root_key_id = '', wrapped = x'' WHERE id = ? AND state <> 'deleted'"


class CustomerKeyStore:
    """
    The customer keys in a keystore. Every change is on the disk on return, together with its events.

    Every row is verified when it is read, also in a search for another row: all calls raise ``VaultUnavailable`` if
    one of them was edited.
    """

    def __init__(self, connections: Connections, tags: RowTags) -> None:
        self._connections = connections
        self._tags = tags

    def of_item(self, environment: str, name: str, value: str) -> CustomerKeyRecord | None:
        """Return the key configured for a context item, in whatever state except deleted."""
        found = self._all(_OF_ITEM, environment, name, value)
        return next((record for record in found if record.state != DELETED), None)

    def items_with_keys(self) -> frozenset[tuple[str, str, str]]:
        """
        Return environment, name and value of the items whose key was activated, whether it may be used now or not.
        """
        return frozenset(
            (record.environment, record.item_name, record.item_value)
            for record in self._all("true")
            if record.state not in {CONFIGURED, VERIFIED, DELETED}
        )

    def find(self, key_id: bytes) -> CustomerKeyRecord | None:
        return next(iter(self._all("id = ?", key_id)), None)

    def of_environment(self, environment: str) -> list[CustomerKeyRecord]:
        """Return all keys, deleted ones too, in the order of their items."""
        return self._all("environment = ? ORDER BY item_name, item_value, created_at, id", environment)

    def add(self, record: CustomerKeyRecord, vault_id: str) -> bool:
        """
        Store a key of that vault. Return False if its item has a key already, or its root key is not the current one.

        Raises ``VaultReplaced`` if the keystore belongs to another vault by now.
        """
        values = [getattr(record, column.name) for column in fields(CustomerKeyRecord)]
        with self._tags.transaction() as rows:
            rows.require_vault(vault_id)
            latest = rows.root_keys.current.id
            added = latest == record.root_key_id and rows.connection.execute(_INSERT, values).rowcount > 0
            if added:
                rows.tag("byok_key", record.id)
        return added

    def move(self, key_id: bytes, states: Collection[str], state: str, *events: Event) -> bool:
        """Move a key from one of ``states`` to another state. Return False if it is in none of them."""
        with self._tags.transaction() as rows:
            rows.require("byok_key", key_id)
            moved = rows.connection.execute(_MOVE, [state, key_id, json.dumps(sorted(states))]).rowcount > 0
            if moved:
                rows.tag("byok_key", key_id)
                insert(rows.connection, events)
        return moved

    def delete(self, key_id: bytes, event: Event) -> bool:
        """Delete a key and erase its inner key. Return False if it is already deleted."""
        with self._tags.transaction() as rows:
            rows.require("byok_key", key_id)
            deleted = rows.connection.execute(_DELETE, [key_id]).rowcount > 0
            if deleted:
                rows.tag("byok_key", key_id)
                insert(rows.connection, [event])
        self.scrub()
        return deleted

    def scrub(self) -> None:
        """Leave nothing of erased keys in the files of the keystore."""
        scrub(self._connections)

    def _all(self, condition: str, *parameters: Any) -> list[CustomerKeyRecord]:
        with self._connections.use() as connection:
            found = [typed(row, str, bytes) for row in connection.execute(_SELECT + condition, parameters)]
        for _, _, *row in found:
            self._tags.verify("byok_key", tuple(row))
        return [_record(*row) for row in found]


def _record(root_key_id: str, wrapped: bytes, *row: Any) -> CustomerKeyRecord:
    key_id, environment, name, value, provider, settings, state, *_ = row
    return CustomerKeyRecord(key_id, environment, name, value, provider, settings, state, root_key_id, wrapped)
