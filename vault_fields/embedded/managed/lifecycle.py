"""The life of KEKs apart from their use: list, rotate, retire, disable, enable, and destroy after a while."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from vault_fields.embedded.database.columns import moment, texts
from vault_fields.embedded.database.tables import selected
from vault_fields.embedded.events.event import timestamp
from vault_fields.embedded.managed.erasure import erase_due
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.store import DESTROYED, DISABLED, ENABLED, PENDING_DESTRUCTION
from vault_fields.embedded.managed.tags import TaggedRows
from vault_fields.exceptions import VaultRefused
from vault_fields.runtime.progress import Progress, silent

__all__ = ["KekInfo", "Keks"]

_PAGE = 1000

_SELECT = (
    f"SELECT created_at, {selected('kek')}"  # noqa: S608 - nothing in it is a caller's.
    " FROM kek WHERE environment = ? AND "
)
_ITEM = _SELECT + "item_name = ? AND item_value = ?"
_AFTER = _SELECT + f"(item_name, item_value) > (?, ?) ORDER BY item_name, item_value LIMIT {_PAGE}"


@dataclass(frozen=True, slots=True)
class KekInfo:
    """The public facts about a KEK. ``version`` is the one that wraps; those from ``minimum_version`` on open."""

    id: UUID
    environment: str
    item_name: str
    item_value: str
    state: str
    version: int
    minimum_version: int
    created_at: datetime
    destroy_at: datetime | None


class Keks:
    """
    The KEKs of one environment, by context item.

    Every change is one transaction, and other processes follow within a second. Changes raise ``VaultRefused``, and
    change nothing, where the item has no KEK or its KEK is in a state that forbids them. All calls raise
    ``VaultUnavailable`` if the keystore fails, or a row of it was edited.
    """

    def __init__(
        self, ring: KeyRing, environment: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._ring = ring
        self._connections = ring.store.connections
        self._environment = environment
        self._clock = clock

    def __iter__(self) -> Iterator[KekInfo]:
        """Yield all KEKs, by the names and values of their items, with a page in memory at a time."""
        page = self._page(_AFTER, "", "")  # No item has an empty name.
        while page:
            yield from page
            page = self._page(_AFTER, page[-1].item_name, page[-1].item_value)

    def __len__(self) -> int:
        with self._connections.use() as connection:
            (number,) = connection.execute(
                "SELECT count(*) FROM kek WHERE environment = ?", [self._environment]
            ).fetchone()
        return int(number)

    def names(self) -> list[str]:
        """Return the names of the items that have a KEK."""
        with self._connections.use() as connection:
            query = "SELECT DISTINCT item_name FROM kek WHERE environment = ? ORDER BY 1"
            return texts(connection, query, self._environment)

    def get(self, name: str, value: str) -> KekInfo:
        """Return the KEK of an item. Raises ``VaultRefused`` if it has none."""
        found = self.find(name, value)
        if found is None:
            raise VaultRefused(f"The context item {name!r} has no key of this value in {self._environment!r}.")
        return found

    def find(self, name: str, value: str) -> KekInfo | None:
        """Return the KEK of an item; None if it never had one, as where a customer's key was there before."""
        found = self._page(_ITEM, name, value)
        return found[0] if found else None

    def rotate(self, name: str, value: str) -> KekInfo:
        """Wrap new data keys under a new version. Older versions still open what they wrapped."""
        current = self._ring.current(self._environment, name, value)
        if current is None or current.state != ENABLED:
            raise self._refusal(self.get(name, value), "rotated")
        self._ring.rotate(current)
        return self._changed(name, value)

    def retire(self, name: str, value: str, *, before: int) -> KekInfo:
        """
        Refuse copies that versions lower than ``before`` wrapped, with ``KeyRevoked``.

        Nothing is erased: a lower number lets them open again.
        """
        with self._ring.tags.transaction() as rows:
            kek = self._require(rows, name, value, {ENABLED, DISABLED}, "changed")
            if not 1 <= before <= kek.version:
                raise VaultRefused(f"The minimum must be a version of the key, 1 to {kek.version}, and not {before}.")
            rows.connection.execute("UPDATE kek SET minimum_version = ? WHERE id = ?", [before, kek.id.bytes])
            rows.tag("kek", kek.id.bytes)
        return self._changed(name, value)

    def disable(self, name: str, value: str) -> KekInfo:
        """Refuse everything that involves the KEK, until it is enabled. A new item gets a KEK that is disabled."""
        self._ring.record_for(self._environment, name, value)
        return self._set(name, value, {ENABLED, DISABLED}, "disabled", DISABLED)

    def enable(self, name: str, value: str) -> KekInfo:
        return self._set(name, value, {ENABLED, DISABLED}, "enabled", ENABLED)

    def destroy(self, name: str, value: str, *, after: timedelta) -> KekInfo:
        """
        Refuse everything that involves the KEK, now and for ever; erase it when ``after`` has passed.

        Until then ``cancel`` undoes it. Anyone with a copy of the keystore and the root key has the KEK. Without a
        waiting period, an interrupted call may be repeated.
        """
        if after < timedelta(0):
            raise ValueError("A waiting period is not negative.")
        now = self._clock()
        with self._ring.tags.transaction() as rows:
            # The code below finishes what an interrupted call has made due, or erased.
            ended = set() if after else {PENDING_DESTRUCTION, DESTROYED}
            kek = self._require(rows, name, value, {ENABLED, DISABLED} | ended, "destroyed")
            if kek.destroy_at is None:
                self._write(rows, kek, PENDING_DESTRUCTION, timestamp(now + after))
            elif kek.destroy_at > now:
                raise self._refusal(kek, "destroyed")
        if after:
            return self._changed(name, value)
        self.erase_due()
        return self.get(name, value)

    def cancel(self, name: str, value: str) -> KekInfo:
        """Cancel the destruction. The KEK is disabled then, and can be enabled."""
        with self._ring.tags.transaction() as rows:
            kek = self._require(rows, name, value, {PENDING_DESTRUCTION}, "kept")
            if kek.destroy_at is None or kek.destroy_at <= self._clock():
                raise VaultRefused(f"The waiting period of the key for the context item {name!r} is over.")
            self._write(rows, kek, DISABLED, None)
        return self._changed(name, value)

    def erase_due(self, *, progress: Progress = silent) -> int:
        """
        Erase the KEKs, of all environments, whose waiting period is over; return how many there were.

        Raises ``VaultUnavailable``, after all others are erased, if a row was edited: it may be one that is due.
        """
        try:
            return erase_due(self._ring.tags, self._connections, timestamp(self._clock()), progress=progress)
        finally:
            self._ring.forget()

    def _set(
        self, name: str, value: str, allowed: Collection[str], change: str, state: str, moment: str | None = None
    ) -> KekInfo:
        with self._ring.tags.transaction() as rows:
            self._write(rows, self._require(rows, name, value, allowed, change), state, moment)
        return self._changed(name, value)

    def _require(self, rows: TaggedRows, name: str, value: str, allowed: Collection[str], change: str) -> KekInfo:
        found = rows.connection.execute(_ITEM, [self._environment, name, value]).fetchone()
        if found is None:
            raise VaultRefused(f"The context item {name!r} has no key of this value in {self._environment!r}.")
        created_at, *row = found
        rows.verify("kek", tuple(row))
        kek = _info(moment(created_at), *row)
        if kek.state not in allowed:
            raise self._refusal(kek, change)
        return kek

    def _write(self, rows: TaggedRows, kek: KekInfo, state: str, moment: str | None) -> None:
        update = "UPDATE kek SET state = ?, destroy_at = ? WHERE id = ?"
        rows.connection.execute(update, [state, moment, kek.id.bytes])
        rows.tag("kek", kek.id.bytes)

    def _changed(self, name: str, value: str) -> KekInfo:
        self._ring.forget()
        return self.get(name, value)

    def _refusal(self, kek: KekInfo, change: str) -> VaultRefused:
        hint = ""
        if kek.state == PENDING_DESTRUCTION:
            hint = f" until {kek.destroy_at:%Y-%m-%d %H:%M} UTC; cancel that first"
        elif kek.state == DISABLED:
            hint = "; enable it first"
        elif kek.state == DESTROYED:
            hint = ", which cannot be undone"
        return VaultRefused(
            f"The key for the context item {kek.item_name!r} cannot be {change}: it is {kek.state}{hint}."
        )

    def _page(self, query: str, name: str, value: str) -> list[KekInfo]:
        with self._connections.use() as connection:
            rows = connection.execute(query, [self._environment, name, value])
            found = [(moment(created_at), *row) for created_at, *row in rows]
        for _, *row in found:
            self._ring.tags.verify("kek", tuple(row))
        return [_info(*row) for row in found]


def _info(
    created_at: datetime,
    kek_id: bytes,
    environment: str,
    name: str,
    value: str,
    state: str,
    minimum: int,
    version: int,
    destroy_at: str | None,
    *tagged: Any,
) -> KekInfo:
    due = None if destroy_at is None else datetime.fromisoformat(destroy_at)
    return KekInfo(UUID(bytes=kek_id), environment, name, value, state, version, minimum, created_at, due)
