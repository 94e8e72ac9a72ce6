"""Fresh data keys that separate saves share, where a project trades isolation for fewer calls. Off by default."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.forks import follow_forks
from vault_fields.runtime.lru import LRU

__all__ = ["KeyShare"]

# The number of contexts with a key waiting; the least recently used go first.
MAX_CONTEXTS = 10_000


@dataclass(slots=True)
class _Entry:
    key: DataKey
    uses: int
    expires: float


class KeyShare:
    """
    The latest data key of each context, for ``max_uses`` operations within ``max_age`` seconds of its making.

    With ``max_uses`` at 1 nothing is shared. Thread-safe; two threads that find no key each make one.
    """

    def __init__(self, *, max_uses: int, max_age: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_uses = max_uses
        self._max_age = max_age
        self._clock = clock
        self._purges = 0
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Forget the keys: a key that parent and child shared would be used twice as often as allowed."""
        self._lock = threading.Lock()
        self._entries: LRU[KeyContext, _Entry] = LRU(max_entries=MAX_CONTEXTS)

    def take(self, context: KeyContext, create: Callable[[KeyContext], DataKey]) -> DataKey:
        """Return a data key for one operation: one that may be used once more, or a new one."""
        if self._max_uses == 1:
            return create(context)
        with self._lock:
            purges = self._purges
            entry = self._entries.get(context)
            if entry is not None and entry.uses < self._max_uses and self._clock() < entry.expires:
                entry.uses += 1
                self._entries.move_to_end(context)
                return entry.key
        key = create(context)
        with self._lock:
            if purges != self._purges:
                return key  # The key is older than a purge, which must leave nothing behind.
            self._entries[context] = _Entry(key, 1, self._clock() + self._max_age)
        return key

    def purge(self, context: Mapping[str, str] | None = None) -> None:
        """Forget the keys whose context has every item of ``context``, or all."""
        wanted = (context or {}).items()
        with self._lock:
            self._purges += 1
            for held in [held for held in self._entries if wanted <= held.items()]:
                del self._entries[held]
