"""The event log of a keystore: events of changes stored with the change, events of use in batches."""

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.database.columns import json_object, typed
from vault_fields.embedded.database.connections import Connections
from vault_fields.embedded.database.paging import Page, Window, fetch_page
from vault_fields.embedded.events.event import PAYLOADS, Actor, Event, insert, timestamp
from vault_fields.exceptions import VaultError
from vault_fields.runtime.forks import follow_forks

__all__ = ["EventLog", "UnknownCursor", "flush_all"]

logger = logging.getLogger("vault_fields.events")

# The caller that fills a batch writes it, so that no more than this waits however fast events come.
BATCH = 1000
# The number kept while the keystore cannot be written.
MAX_PENDING = 20_000

# The number deleted in one transaction of ``prune``, and the seconds left to other writers after each: SQLite tries
# every tenth of a second to get its turn.
PRUNED_AT_ONCE = 5000
PAUSE = 0.12

_BEFORE = "FROM event WHERE created_at < ?"
_DELETE = f"DELETE FROM event WHERE sequence IN (SELECT sequence {_BEFORE} ORDER BY created_at LIMIT ?)"  # noqa: S608
_SELECT = "SELECT sequence, id, environment, name, actor_id, actor_name, actor_source, data, created_at FROM event"


class UnknownCursor(ValueError):
    """There is no event with that id in the environment; it may have been pruned."""


class EventLog:
    """
    The events in a keystore. Thread-safe; each process that uses the keystore has its own.

    A noted event is on the disk ``flush_after`` seconds later: a crash can lose that much. Nothing is lost when a
    process ends in the ordinary way, and a forked child leaves to its parent what the parent noted.

    With a ``retention``, each write of noted events also deletes up to twice as many events that are older.
    """

    def __init__(
        self, connections: Connections, *, flush_after: float = 1.0, retention: timedelta | None = None
    ) -> None:
        self.retention = retention
        self._connections = connections
        self._flush_after = flush_after
        self.reset_in_child()
        _instances.add(self)
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Forget the pending events: the parent stores them."""
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._pending: list[Event] = []
        self._lost = 0
        self._flusher: threading.Thread | None = None

    def add(self, event: Event) -> None:
        """Store an event now. It is on the disk on return."""
        self._write([event])

    def note(self, event: Event) -> None:
        """Store an event soon. Costs only memory, and does not fail if the keystore cannot be written."""
        with self._lock:
            if len(self._pending) >= MAX_PENDING:
                self._lost += 1
                return
            self._pending.append(event)
            full = len(self._pending) % BATCH == 0
            if self._flusher is None:
                flusher = threading.Thread(target=self._flush_until_empty, name="vault-events", daemon=True)
                # A process that can start no more threads can do so another time.
                with suppress(RuntimeError):
                    flusher.start()
                    self._flusher = flusher
        if full:
            self._try_to_flush()

    def flush(self) -> None:
        """
        Store the noted events. Raises ``VaultUnavailable`` if that is impossible, and keeps them for the next time.
        """
        # One at a time, so that the events of this process stay in order.
        with self._flush_lock:
            with self._lock:
                batch, self._pending = self._pending, []
                lost, self._lost = self._lost, 0
            if lost:
                logger.error("%d events were lost while the keystore could not be written.", lost)
            if not batch:
                return
            try:
                self._write(batch)
            except BaseException:
                with self._lock:
                    self._pending[:0] = batch
                raise

    def page(
        self,
        environment: str,
        *,
        names: Collection[str] = (),
        after: str | None = None,
        before: str | None = None,
        limit: int = 100,
        descending: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page[Event]:
        """
        Return events of an environment, the oldest first, with cursors for more; with ``names``, only events of these.

        They are in the order in which they were stored: a reader that continues after the last one misses none. Raises
        ``UnknownCursor``.
        """
        self.flush()
        conditions: list[tuple[str, str]] = [("environment = ?", environment)]
        # There are no events of other names, and a caller may send any number of names.
        wanted = [("name = ?", name) for name in sorted({*names} & PAYLOADS.keys())]
        if names and not wanted:
            return Page([], None, None)
        if since is not None:
            conditions.append(("created_at > ?", timestamp(since)))
        if until is not None:
            conditions.append(("created_at < ?", timestamp(until)))
        window = Window(limit, self._place(environment, after), self._place(environment, before), descending)
        with self._connections.use() as connection:
            return fetch_page(
                connection, _SELECT, conditions, "sequence", window, _event, lambda event: event.id, wanted
            )

    def count(self, until: datetime) -> int:
        """Return the number of events of all environments before a moment."""
        with self._connections.use() as connection:
            (number,) = connection.execute(f"SELECT count(*) {_BEFORE}", [timestamp(until)]).fetchone()
        return int(number)

    def prune(self, until: datetime, *, advance: Callable[[int], object] = int) -> int:
        """
        Delete the events of all environments before a moment; return how many there were.

        It uses many transactions, with a pause after each in which others write. ``advance`` is called with the number
        of events deleted for good. An interrupted run leaves the newest of them.
        """
        deleted, moment = 0, timestamp(until)
        while True:
            with self._connections.transaction() as connection:
                number = connection.execute(_DELETE, [moment, PRUNED_AT_ONCE]).rowcount
            deleted += number
            advance(number)
            if number < PRUNED_AT_ONCE:
                return deleted
            time.sleep(PAUSE)

    def close(self) -> None:
        """Store the noted events, as far as that is possible."""
        self._try_to_flush()

    def _place(self, environment: str, event_id: str | None) -> int | None:
        if event_id is None:
            return None
        with self._connections.use() as connection:
            row = connection.execute(
                "SELECT sequence FROM event WHERE id = ? AND environment = ?", [event_id, environment]
            ).fetchone()
        if row is None:
            raise UnknownCursor("There is no such event.")
        return int(row[0])

    def _write(self, events: list[Event]) -> None:
        with self._connections.transaction() as connection:
            insert(connection, events)
            if self.retention is not None:
                over = timestamp(datetime.now(UTC) - self.retention)
                connection.execute(_DELETE, [over, 2 * len(events)])

    def _try_to_flush(self) -> None:
        try:
            self.flush()
        except (VaultError, ImproperlyConfigured) as error:
            logger.error("Events could not be stored yet: %s", error)  # noqa: TRY400 - it says it all.

    def _flush_until_empty(self) -> None:
        while True:
            time.sleep(self._flush_after)
            self._try_to_flush()
            with self._lock:
                if not self._pending:
                    self._flusher = None
                    return


def _event(*row: Any) -> Event:
    _, event_id, environment, name, actor_id, actor_name, source, data, created_at = typed(row, int, *[str] * 8)
    actor = Actor(actor_id, actor_name, "dashboard" if source == "dashboard" else "api")
    return Event(environment, name, json_object(data), actor, event_id, created_at)


_instances: weakref.WeakSet[EventLog] = weakref.WeakSet()


@atexit.register
def flush_all() -> None:
    """Store the noted events of all logs in this process, which is about to end."""
    for log in list(_instances):
        if log._connections.lasting:
            log.close()
