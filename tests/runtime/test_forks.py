"""What becomes of locks and connections in a forked child; with whole vaults: see ``tests/backends/test_forks.py``."""

import asyncio
import gc
import re
import threading
import weakref
from pathlib import Path

import httpx
import pytest

import vault_fields
from vault_fields.byok.aws import AwsKms
from vault_fields.client import AsyncVaultClient, Endpoint
from vault_fields.client.connections import Lines
from vault_fields.datakeys.cache import KeyCache
from vault_fields.datakeys.sharing import KeyShare
from vault_fields.embedded.customer.circuits import MAX_CALLS_AT_ONCE, Circuit
from vault_fields.embedded.database.connections import FileConnections, MemoryConnections
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime import forks

ACME = KeyContext({"organization_id": "acme"})
PACKAGE = Path(vault_fields.__file__).parent


def key(name: str = "keys") -> DataKey:
    return DataKey("id", name, bytes(32))


def test_all_that_forks_concern_is_in_one_place() -> None:
    asking = [path.name for path in PACKAGE.rglob("*.py") if "register_at_fork" in path.read_text("utf-8")]

    assert asking == ["forks.py"]


def test_whoever_has_a_lock_says_what_becomes_of_it() -> None:
    """But for what lives as long as one operation, or is reached through somebody who replaces it."""
    locks = re.compile(r"= threading\.(Lock|RLock|Condition|Semaphore|BoundedSemaphore|Event|Barrier)\(")
    texts = {str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}

    unheard = {name for name, text in texts.items() if locks.search(text) and "vault_fields.runtime.forks" not in text}

    assert unheard == {"runtime/deadline.py", "runtime/forks.py", "client/abandoned.py"}


class Thing:
    def __init__(self) -> None:
        self.told: list[str] = []

    def reset_in_child(self) -> None:
        self.told.append("reset")

    def before_fork(self) -> None:
        self.told.append("before")

    def after_fork(self) -> None:
        self.told.append("after")


def test_child_is_told_after_what_was_held_is_let_go() -> None:
    """What runs in a forked child, run here: a child leaves no trace of which lines it ran."""
    thing = Thing()
    forks.hold_while_forking(thing)
    forks.follow_forks(thing)

    forks._before()
    forks._in_child()

    assert thing.told == ["before", "after", "reset"]


def test_nothing_is_held_for_what_is_gone() -> None:
    thing = Thing()
    forks.hold_while_forking(thing)
    forks.follow_forks(thing)
    gone = weakref.ref(thing)
    del thing
    gc.collect()

    assert gone() is None


def test_nothing_new_is_used_while_a_fork_is_under_way() -> None:
    """It would not be held, and a child would inherit its connections as they are."""
    made: list[MemoryConnections] = []
    thread = threading.Thread(target=lambda: made.append(MemoryConnections()))
    forks._before()
    try:
        thread.start()
        thread.join(0.05)
        assert not made
    finally:
        forks._after()
    thread.join()
    assert made


def test_an_interrupted_fork_holds_all_others_and_lets_go_of_all() -> None:
    """A signal arrives in the main thread, which forks; Python forks whatever a hook raises."""

    class Interrupted(Thing):
        def before_fork(self) -> None:
            super().before_fork()
            raise KeyboardInterrupt

    things = [Interrupted(), Thing(), Interrupted()]
    for thing in things:
        forks.hold_while_forking(thing)

    with pytest.raises(KeyboardInterrupt):
        forks._before()
    forks._after()

    assert [thing.told for thing in things] == [["before", "after"]] * 3
    assert forks._lock.acquire(blocking=False), "nothing is held any more"
    forks._lock.release()


def test_a_signal_does_not_end_the_wait_for_who_uses_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = FileConnections(tmp_path / "vault.sqlite3")
    ready, end = threading.Event(), threading.Event()

    def use() -> None:
        with connections.use():
            ready.set()
            assert end.wait(60)

    user = threading.Thread(target=use)
    user.start()
    assert ready.wait(60)
    wait = connections._turn.wait
    signals = iter([KeyboardInterrupt, None])

    def interrupted(timeout: float | None = None) -> bool:
        if next(signals, None) is not None:
            raise KeyboardInterrupt
        end.set()
        return wait(timeout)

    monkeypatch.setattr(connections._turn, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connections.before_fork()
    assert not connections._in_use
    connections.after_fork()
    user.join(60)
    monkeypatch.undo()
    with connections.use() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    connections.after_fork()  # Of a fork that was interrupted before it held them.


# Each that has a lock, in a child that is forked while another thread holds it.


def test_key_cache_asks_itself_what_a_thread_of_the_parent_was_asking() -> None:
    cache = KeyCache()
    cache.put(key("held"), ACME)
    cache._claim(["asked"], {})
    cache._lock.acquire()

    cache.reset_in_child()

    assert cache.get("held") is None
    answers = {"asked": key("asked")}
    assert cache.resolve({"asked": ACME}, lambda names: answers) == answers


def test_child_does_not_share_the_data_keys_that_its_parent_shares() -> None:
    share = KeyShare(max_uses=9, max_age=60)
    made = iter([key("parent's"), key("child's")])
    share.take(ACME, lambda context: next(made))
    share._lock.acquire()

    share.reset_in_child()

    assert share.take(ACME, lambda context: next(made)).encrypted_keys == "child's"


def test_calls_of_the_parent_take_no_turn_of_the_child() -> None:
    circuit = Circuit()
    turns = [circuit.turn(1.0) for _ in range(MAX_CALLS_AT_ONCE)]
    for turn in turns:
        turn.__enter__()
    circuit._changed.acquire()

    circuit.reset_in_child()

    with circuit.turn(1.0):
        pass


def test_the_client_of_aws_has_a_lock_of_its_own() -> None:
    client = AwsKms({"key_id": "alias/k", "endpoint_url": "https://kms.example"})
    client._lock.acquire()

    client.reset_in_child()

    client.close()


def test_connections_have_a_lock_of_their_own_and_stay_with_the_parent() -> None:
    lines = Lines(httpx.Client)
    used, resting = lines.take(), lines.take()
    lines.leave(resting)
    lines._lock.acquire()

    lines.reset_in_child()

    assert all(any(line in kept for kept in forks._inherited) for line in (used, resting)), "nobody collects them"
    assert lines.leave(used) == lines.retire() == []


def test_connections_of_coroutines_stay_with_the_parent() -> None:
    client = AsyncVaultClient(Endpoint("https://vault.example", alias="default", headers={}))
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        client._lines[loop] = lines = Lines(httpx.AsyncClient)

        client.reset_in_child()

        assert client._lines == client._lifetimes == {}
        assert any(loop in kept for kept in forks._inherited if isinstance(kept, dict)), "nobody collects them"
        assert lines.retire() == []
