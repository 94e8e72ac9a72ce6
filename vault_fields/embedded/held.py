"""A small cache: bounded in number, for threads, and empty in a forked child."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

__all__ = ["Held"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Held(Generic[K, V]):
    """At most ``max_entries`` values; the least recently used go first."""

    def __init__(self, *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._reset()
        _instances.add(self)

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

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, V] = OrderedDict()


_instances: weakref.WeakSet[Held[Any, Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The lock may have been held by a thread that does not exist here, and what is held may be a connection.
    for held in list(_instances):
        held._reset()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork.
    os.register_at_fork(after_in_child=_after_fork_in_child)
