"""The fresh data keys of one operation."""

import pytest

from vault_fields.fields import newkeys
from vault_fields.fields.newkeys import NewKeys
from vault_fields.keys import KeyContext
from vault_fields.vaults import vaults


def context(name):
    return KeyContext({"tenant": name})


def test_a_context_has_one_key_until_it_served_as_many_rows_as_it_may(monkeypatch) -> None:
    monkeypatch.setattr(vaults["default"], "max_rows_per_key", 2)
    keys = NewKeys()
    taken = [keys.take("default", context(name)).id for name in ("a", "b", "a", "a", "b", "a", "a")]
    a, b = [taken[index] for index in (0, 2, 3, 5, 6)], [taken[index] for index in (1, 4)]
    assert (a[0], a[2]) == (a[1], a[3])
    assert b[0] == b[1]
    assert len({*a, *b}) == 4


@pytest.mark.parametrize("end", ["age", "purge"])
def test_nothing_is_sealed_with_a_key_for_longer_than_the_cache_would_keep_it(monkeypatch, end) -> None:
    cache, keys = vaults["default"].cache, NewKeys()
    first = keys.take("default", context("a")).id
    if end == "age":
        later = cache.now() + cache.max_age
        monkeypatch.setattr(cache, "_clock", lambda: later)
    else:
        vaults["default"].purge({"tenant": "a"})
    second = keys.take("default", context("a")).id
    assert second != first
    assert keys.take("default", context("a")).id == second


def test_the_context_that_was_not_met_for_longest_is_forgotten_first(monkeypatch) -> None:
    monkeypatch.setattr(newkeys, "MAX_CONTEXTS", 2)
    keys = NewKeys()
    first = {name: keys.take("default", context(name)).id for name in ("a", "b")}
    assert keys.take("default", context("a")).id == first["a"]
    keys.take("default", context("c"))
    assert keys.take("default", context("a")).id == first["a"]
    assert keys.take("default", context("b")).id != first["b"]


def test_vaults_are_told_of_the_contexts_that_have_no_key_yet(monkeypatch) -> None:
    told = []
    monkeypatch.setattr(vaults["default"], "prepare", told.append)
    keys = NewKeys()
    keys.take("default", context("a"))

    keys.prepare([("default", context(name)) for name in ("a", "b", "c", "b")])
    keys.prepare([("default", context(name)) for name in ("a", "d")])

    assert told == [[context("b"), context("c")]], "a single one is made as it is asked for"
