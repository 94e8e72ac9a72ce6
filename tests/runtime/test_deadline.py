"""One deadline over many questions: what is not asked any more, who does not wait, and what is raised."""

import asyncio
import threading
from contextvars import ContextVar
from typing import Never

import pytest

from vault_fields.exceptions import VaultThrottled, VaultUnavailable
from vault_fields.runtime.deadline import Deadline, ask_together, in_own_thread, in_time


def missed() -> str:
    return "missed"


def test_a_deadline_tells_what_is_left() -> None:
    assert 50 < Deadline(60).left <= 60
    assert not Deadline(60).has_passed
    assert Deadline(0).has_passed
    assert Deadline(-1).timeout == 0.001


def test_each_name_gets_its_outcome_in_the_order_of_the_names() -> None:
    found = ask_together(range(20), str, missed, Deadline(60), at_once=4)
    assert list(found.items()) == [(number, str(number)) for number in range(20)]
    assert ask_together([], str, missed, Deadline(60), at_once=4) == {}


def test_after_the_deadline_nothing_more_is_asked() -> None:
    asked, all_are_asked = [], threading.Barrier(3)

    class Passing(Deadline):
        has_passed = False

    deadline = Passing(60)

    def ask(name: int) -> str:
        asked.append(name)
        all_are_asked.wait(60)
        deadline.has_passed = True
        return "answered"

    found = ask_together(range(100), ask, missed, deadline, at_once=3)
    assert sorted(asked) == [0, 1, 2]
    assert sorted(found.values()) == ["answered"] * 3 + ["missed"] * 97


def test_nobody_waits_for_who_overstays() -> None:
    stuck = threading.Event()
    try:
        found = ask_together("ab", lambda name: stuck.wait(60) and name, missed, Deadline(0.05), at_once=2)
    finally:
        stuck.set()
    assert found == {"a": "missed", "b": "missed"}


def test_what_comes_too_late_changes_nothing_any_more() -> None:
    stuck, told = threading.Event(), threading.Event()

    def ask(name: str) -> str:
        stuck.wait(60)
        threading.Timer(0, told.set).start()
        return name

    found = ask_together("a", ask, missed, Deadline(0), at_once=1)
    stuck.set()
    assert found == {"a": "missed"}


def test_who_is_slow_takes_no_place_of_another_lane() -> None:
    stuck, answered = threading.Event(), threading.Event()

    def ask(name: tuple[str, int]) -> str:
        if name[0] == "slow":
            stuck.wait(60)
        elif name[1] == 9:
            answered.set()
        return name[0]

    names = [(lane, number) for lane in ("slow", "quick") for number in range(10)]
    threading.Thread(target=lambda: answered.wait(30) and stuck.set(), daemon=True).start()
    found = ask_together(names, ask, missed, Deadline(20), at_once=4, lane=lambda name: name[0], lane_width=2)
    assert answered.is_set()
    assert [found[name] for name in names] == [name[0] for name in names]


def test_where_fewer_calls_are_asked_for_the_rest_of_the_lane_is_left() -> None:
    asked = []

    def ask(name: tuple[str, int]) -> object:
        asked.append(name)
        return VaultThrottled("fewer") if name == ("busy", 1) else "answered"

    names = [(lane, number) for number in range(5) for lane in ("busy", "other")]
    found = ask_together(names, ask, missed, Deadline(60), at_once=1, lane=lambda name: name[0])
    assert [name for name in asked if name[0] == "busy"] == [("busy", 0), ("busy", 1)]
    assert [type(found["busy", number]) for number in range(5)] == [str, *[VaultThrottled] * 4]
    assert [found["other", number] for number in range(5)] == ["answered"] * 5


def test_a_fault_is_raised_and_ends_it() -> None:
    asked = []

    def ask(name: int) -> str:
        asked.append(name)
        raise LookupError("a setting")

    with pytest.raises(LookupError, match="a setting"):
        ask_together(range(100), ask, missed, Deadline(60), at_once=1)
    assert asked == [0]


def test_who_asks_alone_does_not_wait_for_who_overstays_either() -> None:
    stuck = threading.Event()
    try:
        assert in_time(lambda: str(stuck.wait(60)), missed, Deadline(0)) == "missed"
        assert in_time(lambda: str(stuck.wait(60)), missed, Deadline(0.01)) == "missed"
    finally:
        stuck.set()


def test_who_asks_alone_has_a_thread_with_the_same_context_for_it() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="")
    variable.set("set by who asks")
    thread, value = in_time(lambda: (threading.current_thread(), variable.get()), fail, Deadline(60), called="x")
    assert (thread.name, value) == ("x-0", "set by who asks")
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 / 0, fail, Deadline(60))
    with pytest.raises(AssertionError, match="missed"):
        in_time(lambda: None, fail, Deadline(-1))


def fail() -> Never:
    raise AssertionError("missed")


def test_a_thread_that_nobody_waits_for_needs_no_other() -> None:
    def ask(name):
        return threading.current_thread() is in_time(threading.current_thread, fail, Deadline(60))

    assert ask_together(range(2), ask, fail, Deadline(60), at_once=2) == {0: True, 1: True}
    assert not ask(None)


def test_a_coroutine_has_a_thread_of_its_own() -> None:
    async def scene() -> None:
        assert await in_own_thread(threading.get_ident) != threading.get_ident()
        with pytest.raises(LookupError):
            await in_own_thread({}.__getitem__, "missing")

    asyncio.run(scene())


def test_a_coroutine_that_is_cancelled_leaves_its_thread_to_end_by_itself() -> None:
    stuck, ended = threading.Event(), threading.Event()

    def work() -> None:
        stuck.wait(60)
        ended.set()

    async def scene() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_own_thread(work), 0.05)

    asyncio.run(scene())
    stuck.set()
    assert ended.wait(30)


def no_more_than(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started, start = [], threading.Thread.start

    def starting(thread: threading.Thread) -> None:
        if len(started) == threads:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)


def test_where_threads_are_few_those_that_there_are_do_it(monkeypatch) -> None:
    no_more_than(1, monkeypatch)
    found = ask_together(range(20), str, missed, Deadline(60), at_once=4)
    assert list(found.items()) == [(number, str(number)) for number in range(20)]


def test_without_any_thread_the_vault_is_unavailable(monkeypatch) -> None:
    no_more_than(0, monkeypatch)
    with pytest.raises(VaultUnavailable, match="No thread can be started"):
        ask_together(range(20), str, missed, Deadline(60), at_once=4)
