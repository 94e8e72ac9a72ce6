"""Fresh data keys that are fetched ahead of the saves that use them, several at once. Off by default."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vault_fields.exceptions import VaultError
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline, ask_together
from vault_fields.runtime.forks import follow_forks
from vault_fields.runtime.frames import forget
from vault_fields.runtime.lru import LRU

__all__ = ["KeyReserve", "make_together"]

# The number of contexts that may have keys waiting; the least recently used go first.
MAX_CONTEXTS = 10_000


@dataclass(slots=True)
class _Entry:
    keys: list[DataKey]
    # The number of keys that was fetched last.
    fetched: int
    expires: float


class KeyReserve:
    """
    Data keys of each context that no row has yet, each for one operation within ``max_age`` seconds of its making.

    The first operation of a context fetches one key, the next one two, and so on: twice as many each time, up to
    ``most``. So no more keys are thrown away than were used. At most ``max_keys`` wait in all contexts together. With
    ``most`` at 0 nothing is fetched ahead. Thread-safe; of the threads that find no key, one fetches more than its own.
    """

    def __init__(
        self, *, most: int, max_keys: int, max_age: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = min(most, max_keys) if max_age else 0
        self._max_keys = max_keys
        self._max_age = max_age
        self._clock = clock
        self._purges = 0
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Begin without keys: those of the parent are for its own rows."""
        self._lock = threading.Lock()
        self._entries: LRU[KeyContext, _Entry] = LRU(max_entries=MAX_CONTEXTS)
        # The contexts for which a thread is fetching keys ahead.
        self._fetching: set[KeyContext] = set()
        self._next_sweep = 0.0

    def __len__(self) -> int:
        return sum(len(entry.keys) for entry in self._entries.values())

    def take(self, context: KeyContext, fetch: Callable[[KeyContext, int], list[DataKey]]) -> DataKey:
        """
        Return a key that nobody else gets. Where none waits, ``fetch`` makes at least one, and at most the given
        number.
        """
        if self._most < 2:
            return fetch(context, 1)[0]
        with self._lock:
            now = self._clock()
            self._sweep(now)
            purges = self._purges
            entry = self._entries.used(context)
            if entry is not None and entry.expires > now:
                if entry.keys:
                    return entry.keys.pop()
                wanted = min(entry.fetched * 2, self._most)
            else:
                wanted = 1
            is_ahead = context not in self._fetching
            self._fetching.add(context)
        if not is_ahead:
            return fetch(context, 1)[0]
        try:
            key, *others = fetch(context, wanted)
        finally:
            with self._lock:
                self._fetching.discard(context)
        with self._lock:
            if purges == self._purges:  # Otherwise they may be older than a purge, which must leave nothing behind.
                self._entries[context] = _Entry(others, 1 + len(others), now + self._max_age)
                while len(self) > self._max_keys:
                    self._entries.popitem(last=False)
        return key

    def purge(self, context: Mapping[str, str] | None = None) -> None:
        """Forget the keys whose context has every item of ``context``, or all."""
        wanted = (context or {}).items()
        with self._lock:
            self._purges += 1
            for held in [held for held in self._entries if wanted <= held.items()]:
                del self._entries[held]

    def _sweep(self, now: float) -> None:
        """Forget expired keys, also of contexts that nobody uses any more, at most a tenth of ``max_age`` late."""
        if now >= self._next_sweep:
            self._next_sweep = now + self._max_age / 10
            for held in [held for held, entry in self._entries.items() if entry.expires <= now]:
                del self._entries[held]


def make_together(
    create: Callable[[], DataKey],
    count: int,
    missed: Callable[[], VaultError],
    deadline: Deadline,
    *,
    at_once: int,
    called: str,
) -> list[DataKey]:
    """
    Call ``create`` the given number of times, in threads; return the keys that came before the deadline.

    Raises the ``VaultError`` of one call if none did.
    """
    if count == 1:
        return [create()]

    def attempt(number: int) -> DataKey | VaultError:
        try:
            return create()
        except VaultError as error:
            return forget(error)

    answers = ask_together(range(count), attempt, missed, deadline, at_once=at_once, called=called).values()
    errors = [answer for answer in answers if isinstance(answer, VaultError)]
    if len(errors) == count:
        raise errors[0]
    return [answer for answer in answers if isinstance(answer, DataKey)]
