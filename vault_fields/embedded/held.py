"""A small cache: bounded in number and time, for threads, and empty in a forked child."""

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

__all__ = ["Held"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Held(Generic[K, V]):
    """At most ``max_entries`` values, each for at most ``max_age`` seconds; the least recently used go first."""

    def __init__(
        self, *, max_entries: int, max_age: float = float("inf"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_entries = max_entries
        self._max_age = max_age
        self._clock = clock
        self._reset()
        _instances.add(self)

    def get(self, key: K) -> V | None:
        with self._lock:
            if (entry := self._entries.get(key)) is None:
                return None
            value, expires = entry
            if expires <= self._clock():
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> list[V]:
        """Hold a value; return those that had to go for it."""
        gone = []
        with self._lock:
            self._entries[key] = value, self._clock() + self._max_age
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                gone.append(self._entries.popitem(last=False)[1][0])
        return gone

    def clear(self) -> list[V]:
        """Forget all values and return them."""
        with self._lock:
            gone = [value for value, _ in self._entries.values()]
            self._entries.clear()
        return gone

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()


_instances: weakref.WeakSet[Held[Any, Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The lock may have been held by a thread that does not exist here, and what is held may be a connection.
    for held in list(_instances):
        held._reset()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork.
    os.register_at_fork(after_in_child=_after_fork_in_child)
