"""Caches that are bounded in number."""

import os

import pytest

from vault_fields.runtime.lru import LRU, SharedLRU


def test_least_recently_used_goes_first() -> None:
    entries: LRU[str, int] = LRU(max_entries=2)
    entries["a"], entries["b"] = 1, 2
    assert entries.used("a") == 1
    entries["c"] = 3
    assert list(entries.items()) == [("a", 1), ("c", 3)]
    assert entries.used("b") is None


def test_the_first_of_two_threads_that_add_a_value_wins() -> None:
    entries: SharedLRU[str, int] = SharedLRU(max_entries=2)
    assert [entries.add("a", 1), entries.add("a", 2), entries.get("a")] == [1, 1, 1]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_holds_nothing() -> None:
    """Values may be connections, which a child must not share with its parent."""
    entries: SharedLRU[str, int] = SharedLRU(max_entries=2)
    for number, name in enumerate("abc"):
        entries.put(name, number)
    assert [entries.get(name) for name in "abc"] == [None, 1, 2]
    with entries._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if entries.get("b") is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [entries.get(name) for name in "bc"] == [1, 2]
    entries.reset_in_child()
    assert entries.clear() == []
