"""The cache of data keys: bounded in time and number, and one question per key, for threads and coroutines."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from vault_fields.datakeys.cache import KeyCache, Outcome, Term
from vault_fields.exceptions import VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline

A, B, BOTH = KeyContext({"org": "a"}), KeyContext({"org": "b"}), KeyContext({"org": "a", "purpose": "care"})


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Vault:
    """Answers with a key for every name, counts, and waits for ``go`` if it is told to."""

    def __init__(self, go: threading.Event | None = None) -> None:
        self.asked: list[list[str]] = []
        self.started = threading.Event()
        self.go = go

    def __call__(self, names: list[str]) -> dict[str, Outcome]:
        self.asked.append(names)
        self.started.set()
        if self.go is not None:
            assert self.go.wait(60)
        return {name: key(name) for name in names}

    async def later(self, names: list[str]) -> dict[str, Outcome]:
        self.asked.append(names)
        self.started.set()
        if self.go is not None:
            assert await asyncio.to_thread(self.go.wait, 60)
        return {name: key(name) for name in names}


def key(name: str) -> DataKey:
    return DataKey(f"id-{name}", name, bytes(32))


def wait_until(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(5000):
        if condition():
            return
        tick.wait(0.001)
    raise AssertionError("it never came true")


def test_a_key_is_held_until_its_age_and_no_longer() -> None:
    clock = Clock()
    cache = KeyCache(max_age=60, clock=clock)
    cache.put(key("k"), A)
    clock.time = 59.9
    assert cache.get("k") is not None
    clock.time = 60
    assert cache.get("k") is None
    assert len(cache) == 0


def test_use_does_not_prolong_the_age() -> None:
    """Otherwise a key that was revoked would be served for as long as it is in use."""
    clock = Clock()
    cache = KeyCache(max_age=60, clock=clock)
    cache.put(key("k"), A)
    for clock.time in (20, 40, 59):
        assert cache.get("k") is not None
    clock.time = 61
    assert cache.get("k") is None


def test_the_least_recently_used_goes_first() -> None:
    cache = KeyCache(max_keys=2)
    cache.put(key("old"), A)
    cache.put(key("new"), A)
    cache.get("old")
    cache.put(key("newer"), A)
    assert [cache.get(name) is not None for name in ("old", "new", "newer")] == [True, False, True]


@pytest.mark.parametrize("limits", [{"max_keys": 0}, {"max_age": 0}])
def test_with_a_limit_of_0_nothing_is_kept(limits) -> None:
    cache = KeyCache(**limits)
    assert not cache.keeps_keys
    cache.put(key("k"), A)
    assert cache.get("k") is None
    vault = Vault()
    for _ in range(2):
        assert cache.resolve({"k": A}, vault)["k"].id == "id-k"
    assert vault.asked == [["k"], ["k"]]


def test_purge_drops_the_keys_whose_context_has_every_item() -> None:
    cache = KeyCache()
    cache.put(key("a"), A)
    cache.put(key("b"), B)
    cache.put(key("both"), BOTH)
    assert cache.purge({"org": "a", "purpose": "care"}) == 1
    assert cache.get("both") is None
    assert cache.purge({"org": "a"}) == 1
    assert cache.get("b") is not None
    assert cache.purge() == 1
    assert len(cache) == 0


def test_purge_drops_a_key_whose_context_is_unknown() -> None:
    cache = KeyCache()
    cache.put(key("k"), None)
    assert cache.purge({"org": "a"}) == 1


def test_only_what_is_missing_is_asked_for_and_all_of_it_at_once() -> None:
    cache, vault = KeyCache(), Vault()
    cache.put(key("held"), A)
    found = cache.resolve({"held": A, "one": A, "two": B}, vault)
    assert vault.asked == [["one", "two"]]
    assert {name: outcome.encrypted_keys for name, outcome in found.items()} == {n: n for n in ("held", "one", "two")}
    cache.resolve(dict.fromkeys(found), vault)
    assert len(vault.asked) == 1


def test_nothing_wanted_is_nothing_asked() -> None:
    vault = Vault()
    assert KeyCache().resolve({}, vault) == {}
    assert asyncio.run(KeyCache().aresolve({}, vault.later)) == {}
    assert vault.asked == []


def test_errors_are_returned_and_not_held() -> None:
    cache, vault = KeyCache(), Vault()
    error = VaultUnavailable("away")
    assert cache.resolve({"k": A}, lambda names: {"k": error}) == {"k": error}
    assert isinstance(cache.resolve({"k": A}, vault)["k"], DataKey)


def test_50_threads_that_want_one_key_ask_once() -> None:
    vault = Vault(go=threading.Event())
    cache = KeyCache()
    with ThreadPoolExecutor(50) as pool:
        futures = [pool.submit(cache.resolve, {"k": A}, vault) for _ in range(50)]
        assert vault.started.wait(60)
        vault.go.set()
        assert {future.result()["k"].id for future in futures} == {"id-k"}
    assert vault.asked == [["k"]]


def test_two_batches_that_overlap_ask_for_the_overlap_once() -> None:
    go = threading.Event()
    vault = Vault(go)
    cache = KeyCache()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.resolve, {"a": A, "b": A}, vault)
        assert vault.started.wait(60)
        second = pool.submit(cache.resolve, {"b": A, "c": A}, vault)
        wait_until(lambda: len(vault.asked) == 2)
        go.set()
        assert (set(first.result()), set(second.result())) == ({"a", "b"}, {"b", "c"})
    assert vault.asked == [["a", "b"], ["c"]]


def test_whoever_waited_for_an_interrupted_thread_asks_again() -> None:
    cache, vault = KeyCache(), Vault()
    started, go = threading.Event(), threading.Event()

    def interrupted(names: list[str]) -> dict[str, Outcome]:
        started.set()
        go.wait(60)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.resolve, {"k": A}, interrupted)
        assert started.wait(60)
        second = pool.submit(cache.resolve, {"k": A}, vault)
        wait_until(lambda: bool(cache._in_flight))
        threading.Event().wait(0.02)
        go.set()
        with pytest.raises(KeyboardInterrupt):
            first.result()
        assert second.result()["k"].id == "id-k"
    assert vault.asked == [["k"]]


@pytest.mark.parametrize("how", ["threads", "coroutines"])
def test_an_answer_that_was_under_way_during_a_purge_is_not_held(how) -> None:
    """It may have been opened before the customer's key was revoked, for which the purge is."""
    go = threading.Event()
    cache, vault = KeyCache(), Vault(go)

    def ask() -> dict[str, Outcome]:
        if how == "threads":
            return cache.resolve({"k": A}, vault)
        return asyncio.run(cache.aresolve({"k": A}, vault.later))

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        assert vault.started.wait(60)
        assert cache.purge({"org": "other"}) == 0
        go.set()
        assert answer.result()["k"].id == "id-k"
    assert cache.get("k") is None


def test_50_coroutines_that_want_one_key_ask_once() -> None:
    cache, vault = KeyCache(), Vault()

    async def ask() -> list[dict[str, Outcome]]:
        return await asyncio.gather(*(cache.aresolve({"k": A}, vault.later) for _ in range(50)))

    assert {found["k"].id for found in asyncio.run(ask())} == {"id-k"}
    assert vault.asked == [["k"]]


@pytest.mark.parametrize("first", ["thread", "coroutine"])
def test_threads_and_coroutines_ask_once_between_them(first) -> None:
    go = threading.Event()
    cache, vault = KeyCache(), Vault(go)
    ways = {
        "thread": lambda: cache.resolve({"k": A}, vault),
        "coroutine": lambda: asyncio.run(cache.aresolve({"k": A}, vault.later)),
    }
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(ways.pop(first))
        assert vault.started.wait(60)
        other = pool.submit(next(iter(ways.values())))
        threading.Event().wait(0.02)
        go.set()
        assert one.result()["k"] is other.result()["k"]
    assert vault.asked == [["k"]]


def test_a_cancelled_coroutine_leaves_its_question_to_those_who_waited() -> None:
    cache, vault = KeyCache(), Vault()

    async def never(names: list[str]) -> dict[str, Outcome]:
        await asyncio.Event().wait()
        raise AssertionError

    async def scene() -> dict[str, Outcome]:
        asking = asyncio.create_task(cache.aresolve({"k": A}, never))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(cache.aresolve({"k": A}, vault.later))
        await asyncio.sleep(0)
        asking.cancel()
        return await waiting

    assert asyncio.run(scene())["k"].id == "id-k"
    assert vault.asked == [["k"]]


def test_a_cancelled_waiter_does_not_disturb_the_question() -> None:
    go = threading.Event()
    cache, vault = KeyCache(), Vault(go)

    async def scene() -> dict[str, Outcome]:
        asking = asyncio.create_task(cache.aresolve({"k": A}, vault.later))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(cache.aresolve({"k": A}, vault.later))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go.set()
        return await asking

    assert asyncio.run(scene())["k"].id == "id-k"
    assert cache.get("k") is not None


def test_a_loop_that_ends_while_it_waits_for_a_thread_does_not_disturb_it(caplog) -> None:
    go = threading.Event()
    cache, vault = KeyCache(), Vault(go)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await cache.aresolve({"k": A}, vault.later)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(cache.resolve, {"k": A}, vault)
        assert vault.started.wait(60)
        asyncio.run(give_up())
        go.set()
        assert asking.result()["k"].id == "id-k"
    assert caplog.records == []


def test_a_key_that_was_being_made_while_the_cache_was_purged_is_not_held() -> None:
    cache = KeyCache()
    generation = cache.generation
    cache.purge()
    cache.put(key("k"), A, generation)
    assert cache.get("k") is None
    cache.put(key("k"), A, cache.generation)
    assert cache.get("k") is not None


def test_keys_that_are_too_old_are_forgotten_though_nobody_asks_for_them() -> None:
    clock = Clock()
    cache = KeyCache(max_age=60, clock=clock)
    for number in range(100):
        cache.put(key(f"old {number}"), A)
    clock.time = 61
    cache.get("another")
    assert len(cache) == 0
    cache.put(key("old"), A)
    clock.time = 122
    cache.put(key("new"), A)
    assert [cache.get("old"), len(cache)] == [None, 1]


def test_what_is_too_old_is_in_memory_for_a_tenth_of_the_age_at_most_once_the_cache_is_used() -> None:
    clock = Clock()
    cache = KeyCache(max_age=60, clock=clock)
    cache.put(key("old"), A)
    clock.time = 59.9
    cache.get("another")
    clock.time = 65.8
    cache.get("another")
    assert (len(cache), cache._entries["old"].expires) == (1, 60)
    clock.time = 65.9
    cache.get("another")
    assert len(cache) == 0


@pytest.mark.parametrize(("max_age", "bound"), [(60, 60), (0, 5)])
def test_a_term_is_over_when_the_cache_would_have_forgotten_the_key(max_age: float, bound: float) -> None:
    clock = Clock()
    cache = KeyCache(max_age=max_age, clock=clock)
    term = Term(cache)
    clock.time = bound - 0.1
    assert not term.is_over
    clock.time = bound
    assert term.is_over


def test_a_term_is_over_when_the_cache_is_purged() -> None:
    cache = KeyCache()
    term, other = Term(cache), Term(KeyCache())
    cache.purge({"org": "a"})
    assert term.is_over
    assert not other.is_over


@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_nobody_waits_for_another_ones_answer_beyond_their_own_deadline(kind) -> None:
    cache, stuck, asked = KeyCache(), threading.Event(), threading.Event()

    def fetch(names):
        asked.set()
        stuck.wait(60)
        return {name: VaultUnavailable("late") for name in names}

    asking = threading.Thread(target=cache.resolve, args=[{"k": A}, fetch])
    asking.start()
    assert asked.wait(30)
    try:
        if kind == "thread":
            found = cache.resolve({"k": A}, Vault(), Deadline(0.01))
        else:
            found = asyncio.run(cache.aresolve({"k": A}, Vault().later, Deadline(0.01)))
    finally:
        stuck.set()
        asking.join(60)
    assert "asked for elsewhere in this process" in str(found["k"])
    assert isinstance(found["k"], VaultUnavailable)


def test_what_was_purged_and_put_again_is_as_young_as_what_was_put_then() -> None:
    cache = KeyCache(max_keys=3)
    for name in "abcd":
        cache.put(key(name), A)
    cache.purge()
    for name in "bcde":
        cache.put(key(name), A)
    assert [name for name in "abcde" if cache.get(name)] == ["c", "d", "e"]


def test_a_key_that_the_cache_let_go_of_is_gone_from_what_was_had_from_it() -> None:
    cache = KeyCache(max_keys=2)
    cache.put(key("a"), A)
    held = cache.held("a")
    assert held is not None
    assert cache.is_fresh(held)
    cache.put(key("a"), A)
    assert [held.key, cache.is_fresh(held)] == [None, False]
    again = cache.held("a")
    assert again is not None
    assert cache.purge({"org": "a"}) == 1
    assert [again.key, cache.is_fresh(again)] == [None, False]


def test_a_new_key_stays_though_all_others_are_in_use() -> None:
    cache = KeyCache(max_keys=3)
    for name in "abcd":
        cache.put(key(name), None)
        for each in "abc":
            cache.get(each)
    assert cache.get("d") is not None
