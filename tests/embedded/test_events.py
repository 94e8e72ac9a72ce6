"""Events: of changes with the change, of use in batches, readable by cursor."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from vault_fields.embedded.database.connections import FileConnections
from vault_fields.embedded.events import log as eventlog
from vault_fields.embedded.events.event import IN_PROCESS, PAYLOADS, Actor, Event, acting_as, timestamp
from vault_fields.embedded.events.log import EventLog, UnknownCursor
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import VaultUnavailable
from vault_fields.keys import KeyContext

ACME = KeyContext({"organization_id": "acme"})
EXTRACT = Path(__file__).parent.parent / "server" / "workos-vault-openapi.yaml"


def listed(number: int = 0, environment: str = "default") -> Event:
    return Event.now(environment, "vault.data.deleted", kv_name=str(number))


@pytest.fixture
def store(path: Path) -> KeyStore:
    return KeyStore.at(path)


@pytest.fixture
def log(store: KeyStore) -> EventLog:
    return store.events


def names(log: EventLog, environment: str = "default") -> list[str]:
    return [event.name for event in log.page(environment).items]


def test_payloads_are_those_of_the_contract() -> None:
    contract = yaml.safe_load(EXTRACT.read_text("utf-8"))["x-vault-events"]
    assert set(PAYLOADS) == set(contract)
    for name, fields in PAYLOADS.items():
        event = Event("default", name, dict.fromkeys(fields, ""), IN_PROCESS)
        assert set(event.as_json()["data"]) == set(contract[name]["required"]), name


def test_event_with_other_fields_than_its_own_is_a_mistake() -> None:
    with pytest.raises(TypeError, match=r"vault\.dek\.read has the fields key_context, key_ids"):
        Event.now("default", "vault.dek.read", key_ids=[])
    with pytest.raises(KeyError):
        Event.now("default", "vault.dek.guessed")


def test_actor_is_that_of_the_block(log: EventLog) -> None:
    with acting_as(Actor("key_1", "Billing", "dashboard")):
        log.add(listed())
    log.add(listed())

    inside, outside = log.page("default").items
    assert inside.actor == Actor("key_1", "Billing", "dashboard")
    assert inside.as_json()["data"] == {
        "actor_id": "key_1",
        "actor_source": "dashboard",
        "actor_name": "Billing",
        "kv_name": "0",
    }
    assert outside.actor == IN_PROCESS


def test_actor_is_of_one_thread(log: EventLog) -> None:
    with acting_as(Actor("key_1", "Billing")):
        thread = threading.Thread(target=log.add, args=[listed()])
        other = threading.Thread(target=lambda: log.add(listed()))
        for each in (thread, other):
            each.start()
            each.join()

    assert [event.actor.id for event in log.page("default").items] == ["key_1", "in_process"]


def test_new_kek_has_its_event_in_the_same_transaction(vault: EmbeddedVault, path: Path) -> None:
    vault.create(ACME)
    vault.create(ACME)

    (event,) = vault.store.events.page("default").items
    assert event.name == "vault.kek.created"
    assert event.data["key_name"] == "organization_id=acme"
    with closing(sqlite3.connect(path)) as connection:
        (kek_id,) = connection.execute("SELECT lower(hex(id)) FROM kek").fetchone()
    assert event.data["key_id"].replace("-", "") == kek_id


def test_data_keys_have_events_where_they_are_asked_for(open_vault: Callable[..., EmbeddedVault]) -> None:
    vault = open_vault().for_environment("staging", record_key_events=True)
    key = vault.create(ACME)
    vault.decrypt(key.encrypted_keys)
    vault.rekey(key.encrypted_keys, ACME)

    events = vault.store.events.page("staging").items
    assert sorted(event.name for event in events) == [
        "vault.dek.decrypted",
        "vault.dek.read",
        "vault.dek.rekeyed",
        "vault.kek.created",
    ]
    for event in events:
        if event.name in {"vault.dek.read", "vault.dek.rekeyed"}:
            assert event.data == {"key_ids": [key.id], "key_context": {"organization_id": "acme"}}
    assert names(vault.store.events) == []


def test_noted_events_are_stored_soon(store: KeyStore, path: Path) -> None:
    log = EventLog(FileConnections(path), flush_after=0.02)
    log.note(listed(1))
    log.note(listed(2))

    deadline = time.monotonic() + 10
    while len(_stored(path)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert _stored(path) == ['{"kv_name":"1"}', '{"kv_name":"2"}']


def test_a_flush_that_is_interrupted_after_its_commit_stores_nothing_twice(
    store: KeyStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(FileConnections(path), flush_after=3600)
    log.note(listed(1))
    write = log._write

    def interrupted(events: list[Event]) -> None:
        write(events)
        raise KeyboardInterrupt

    monkeypatch.setattr(log, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.flush()
    monkeypatch.undo()
    log.note(listed(2))
    log.flush()

    assert _stored(path) == ['{"kv_name":"1"}', '{"kv_name":"2"}']


def test_an_event_is_noted_where_no_thread_can_be_had(
    store: KeyStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(FileConnections(path), flush_after=0.001)
    refused = []

    def refuse(thread: threading.Thread) -> None:
        refused.append(thread)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    log.note(listed(1))
    monkeypatch.undo()
    assert len(refused) == 1
    log.note(listed(2))  # This one has a thread.

    deadline = time.monotonic() + 60
    while len(_stored(path)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _stored(path: Path) -> list[str]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        return [data for (data,) in connection.execute("SELECT data FROM event ORDER BY sequence")]


def test_full_batch_is_stored_at_once(store: KeyStore, path: Path) -> None:
    log = EventLog(FileConnections(path), flush_after=3600)
    for number in range(eventlog.BATCH + 1):
        log.note(listed(number))

    assert len(_stored(path)) == eventlog.BATCH
    log.close()
    assert len(_stored(path)) == eventlog.BATCH + 1


def test_keystore_that_cannot_be_written_costs_no_call_and_no_event(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connections = FileConnections(path, timeout=0.01)
    log = EventLog(connections, flush_after=0.02)
    log.add(listed())
    with closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        log.note(listed(1))
        with pytest.raises(VaultUnavailable, match="locked"):
            log.flush()
        deadline = time.monotonic() + 10
        while "could not be stored yet" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        blocker.execute("ROLLBACK")

    assert [event.data["kv_name"] for event in log.page("default").items] == ["0", "1"]


def test_what_does_not_fit_any_more_is_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(eventlog, "MAX_PENDING", 2)
    log = EventLog(FileConnections(path), flush_after=3600)
    for number in range(5):
        log.note(listed(number))

    assert len(log.page("default").items) == 2
    assert "3 events were lost" in caplog.text


def test_nothing_is_lost_when_a_process_ends(path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from vault_fields.embedded.managed.store import KeyStore\n"
        "from vault_fields.embedded.events.event import Event\n"
        f"store = KeyStore.at(Path({str(path)!r}))\n"
        "store.events.note(Event.now('default', 'vault.names.listed'))\n"
    )
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True)

    assert names(KeyStore.at(path).events) == ["vault.names.listed"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_leaves_to_its_parent_what_that_noted(path: Path) -> None:
    log = EventLog(FileConnections(path), flush_after=3600)
    log.note(listed(1))
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child.
        log.note(listed(2))
        log.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

    assert [event.data["kv_name"] for event in log.page("default").items] == ["2", "1"]


def test_child_starts_with_nothing(path: Path) -> None:
    """What runs in a forked child, run here: a child leaves no trace of which lines it ran."""
    log = EventLog(FileConnections(path), flush_after=3600)
    log.note(listed())
    log.reset_in_child()

    assert log.page("default").items == []


def test_what_is_flushed_at_the_end_is_what_lasts(path: Path) -> None:
    in_memory, on_disk = KeyStore.in_memory().events, KeyStore.at(path).events
    for log in (in_memory, on_disk):
        log.note(listed())

    eventlog.flush_all()

    assert len(_stored(path)) == 1
    assert len(in_memory.page("default").items) == 1


def test_pages(log: EventLog) -> None:
    for number in range(5):
        log.add(listed(number))
        log.add(listed(100, "other"))

    def numbers(page: object) -> list[int]:
        return [int(event.data["kv_name"]) for event in page.items]  # type: ignore[attr-defined]

    first = log.page("default", limit=2)
    assert numbers(first) == [0, 1]
    second = log.page("default", limit=2, after=first.after)
    assert numbers(second) == [2, 3]
    assert numbers(log.page("default", limit=2, after=second.after)) == [4]
    assert numbers(log.page("default", limit=2, before=second.before)) == [0, 1]
    assert numbers(log.page("default", limit=2, descending=True)) == [4, 3]
    assert log.page("default", after=log.page("default").items[-1].id).items == []


def test_events_are_found_by_name_and_time(log: EventLog) -> None:
    log.add(listed(1))
    log.add(Event.now("default", "vault.names.listed"))
    now = datetime.now(UTC)

    assert len(log.page("default", names=["vault.names.listed"]).items) == 1
    assert len(log.page("default", names=["vault.names.listed", "vault.data.deleted"]).items) == 2
    assert log.page("default", names=["vault.dek.read"]).items == []
    assert len(log.page("default", since=now - timedelta(hours=1), until=now + timedelta(hours=1)).items) == 2
    assert log.page("default", since=now + timedelta(hours=1)).items == []
    assert log.page("default", until=now - timedelta(hours=1)).items == []


def test_cursor_of_another_environment_is_none(log: EventLog) -> None:
    event = listed(0, "other")
    log.add(event)

    for cursor in (event.id, "event_of_nothing"):
        with pytest.raises(UnknownCursor):
            log.page("default", after=cursor)


def test_a_page_of_names_is_that_of_all_events_without_the_others(log: EventLog) -> None:
    kinds = ["vault.data.deleted", "vault.names.listed", "vault.data.read", "vault.metadata.read"]
    for number in range(40):
        name = kinds[number * 7 % 4]
        log.add(Event("default", name, dict.fromkeys(PAYLOADS[name], str(number)), IN_PROCESS))
    everything = log.page("default").items
    for names in (kinds[:1], kinds[:2], kinds[1:], kinds):
        expected = [event.id for event in everything if event.name in names]
        for descending in (False, True):
            ordered = expected[::-1] if descending else expected
            found, after, more = [], None, True
            while more:
                page = log.page("default", names=names, limit=3, after=after, descending=descending)
                found += [event.id for event in page.items]
                after, more = page.after, page.after is not None
            assert found == ordered
            page = log.page("default", names=names, limit=3, before=ordered[7], descending=descending)
            assert [event.id for event in page.items] == ordered[4:7]


def test_names_that_no_event_has_find_none(log: EventLog) -> None:
    log.add(listed())

    page = log.page("default", names=[f"vault.guessed {number}" for number in range(1000)])
    assert (page.items, page.before, page.after) == ([], None, None)
    assert len(log.page("default", names=["vault.guessed", "vault.data.deleted"]).items) == 1


@pytest.mark.parametrize("wanted", [["vault.dek.read"], ["vault.dek.read", "vault.kek.created"]])
def test_a_page_of_names_looks_at_no_other_event(path: Path, log: EventLog, wanted: list[str]) -> None:
    """As the plan of the very query that is made says: nothing is scanned, and nothing but the page is sorted."""
    log.add(listed())
    queries: list[str] = []
    with log._connections.use() as connection:
        connection.set_trace_callback(queries.append)
    log.page("default", names=wanted, limit=5)

    (query,) = [query for query in queries if " FROM event WHERE environment" in query]
    with closing(sqlite3.connect(path)) as connection:
        plan = [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    searches = [line for line in plan if line.startswith("SEARCH")]
    assert searches == ["SEARCH event USING INDEX event_of_name (environment=? AND name=?)"] * len(wanted)
    assert not [line for line in plan if line.startswith("SCAN event")]


def old_events(number: int, environment: str = "default") -> list[Event]:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        Event(
            environment, "vault.names.listed", {}, IN_PROCESS, created_at=timestamp(moment + timedelta(minutes=minute))
        )
        for minute in range(number)
    ]


def test_others_write_between_two_portions_of_what_is_pruned(
    path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlog, "PRUNED_AT_ONCE", 3)
    log._write([*old_events(5), *old_events(3, "other"), listed()])
    done: list[object] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: done.append("paused"))

    def advance(number: int) -> None:
        done.append(number)
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            (left,) = other.execute("SELECT count(*) FROM event").fetchone()
            other.execute("COMMIT")
        done.append(f"{left} left")

    assert log.count(datetime(2025, 1, 1, tzinfo=UTC)) == 8
    assert log.prune(datetime(2025, 1, 1, tzinfo=UTC), advance=advance) == 8
    assert done == [3, "6 left", "paused", 3, "3 left", "paused", 2, "1 left"]
    assert names(log) == ["vault.data.deleted"]


def test_what_was_pruned_before_an_interruption_is_gone(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog, "PRUNED_AT_ONCE", 3)
    log._write(old_events(8))

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        log.prune(datetime(2025, 1, 1, tzinfo=UTC))

    assert [event.created_at for event in log.page("default").items] == [
        event.created_at for event in old_events(8)[3:]
    ]


def test_whoever_stores_events_deletes_twice_as_many_that_are_over_their_term(path: Path, log: EventLog) -> None:
    log._write(old_events(7))
    bounded = EventLog(FileConnections(path), flush_after=3600, retention=timedelta(days=1))
    bounded.note(listed(1))
    bounded.note(listed(2))

    bounded.flush()
    assert names(log) == ["vault.names.listed"] * 3 + ["vault.data.deleted"] * 2
    bounded.add(listed(3))
    bounded.add(listed(4))
    assert names(log) == ["vault.data.deleted"] * 4


def test_without_a_term_everything_is_kept(log: EventLog) -> None:
    log._write(old_events(7))
    log.add(listed())

    assert len(names(log)) == 8


def test_old_events_can_be_pruned(log: EventLog) -> None:
    old = Event("default", "vault.names.listed", {}, IN_PROCESS, created_at=timestamp(datetime(2024, 1, 1, tzinfo=UTC)))
    log.add(old)
    log.add(listed())

    assert log.prune(datetime(2024, 1, 2, tzinfo=UTC)) == 1
    assert names(log) == ["vault.data.deleted"]
    with pytest.raises(UnknownCursor):
        log.page("default", after=old.id)
