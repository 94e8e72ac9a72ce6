"""A small cache: bounded in number, for threads, and empty in a forked child."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from vault_fields.runtime.forks import follow_forks, leave_to_parent

__all__ = ["Held"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Held(Generic[K, V]):
    """At most ``max_entries`` values; the least recently used go first."""

    def __init__(self, *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._begin()
        follow_forks(self)

    def get(self, key: K) -> V | None:
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._entries[key] = value
            self._trim(key)

    def add(self, key: K, value: V) -> V:
        """As ``put``, unless another thread was faster; return what is held from now on."""
        with self._lock:
            held = self._entries.setdefault(key, value)
            self._trim(key)
        return held

    def clear(self) -> list[V]:
        """Forget all values and return them."""
        with self._lock:
            values = list(self._entries.values())
            self._entries.clear()
        return values

    def _trim(self, latest: K) -> None:
        self._entries.move_to_end(latest)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def reset_in_child(self) -> None:
        """What is held may be connections."""
        leave_to_parent(self._entries)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, V] = OrderedDict()
