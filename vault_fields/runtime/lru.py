"""Caches that are bounded in number: the least recently used entry goes first."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from vault_fields.runtime.forks import follow_forks, leave_to_parent

__all__ = ["LRU", "SharedLRU"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRU(OrderedDict[K, V]):
    """A cache of at most ``max_entries`` values. Code that shares it between threads must hold a lock of its own."""

    def __init__(self, *, max_entries: int) -> None:
        super().__init__()
        self.max_entries = max_entries

    def used(self, key: K) -> V | None:
        """Return the value of ``key``, which is the most recently used one now, or None."""
        value = super().get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self.max_entries:
            self.popitem(last=False)


class SharedLRU(Generic[K, V]):
    """An ``LRU`` for threads, which is empty in a forked child."""

    def __init__(self, *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._begin()
        follow_forks(self)

    def get(self, key: K) -> V | None:
        with self._lock:
            return self._entries.used(key)

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._entries[key] = value

    def add(self, key: K, value: V) -> V:
        """Put ``value``, unless another thread was faster; return the value that is held from now on."""
        with self._lock:
            held = self._entries.get(key, value)
            self._entries[key] = held
        return held

    def clear(self) -> list[V]:
        """Forget all values and return them."""
        with self._lock:
            values = list(self._entries.values())
            self._entries.clear()
        return values

    def reset_in_child(self) -> None:
        """Begin anew. Values may be connections, which the parent goes on using."""
        leave_to_parent(self._entries)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._entries: LRU[K, V] = LRU(max_entries=self._max_entries)
