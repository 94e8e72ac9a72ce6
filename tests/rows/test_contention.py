"""Two transactions that lock each other out: the batch is repeated, and whoever wrote meanwhile wins."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Never

import pytest
from django.db import DatabaseError, connection, connections, transaction

from tests.rows.test_walk import GROUP, file_database, legacy, rows, somebody_waits, write_elsewhere  # noqa: F401 - fixtures.
from tests.testapp.models import Legacy
from vault_fields.exceptions import DatabaseBusy
from vault_fields.fields.barerows import StoredColumns
from vault_fields.rows import contention
from vault_fields.rows.contention import ATTEMPTS, repeated

locks_rows = pytest.mark.skipif("not connection.features.has_select_for_update", reason="this database locks no rows")


def on_second_statement(monkeypatch, action) -> None:
    """Lock the rows one statement each, and do something when the first is locked; the first time only."""
    monkeypatch.setattr(connection.features, "max_query_params", 1)
    read, calls = StoredColumns.read, []

    def patched(self, queryset):
        calls.append(queryset)
        if len(calls) == 2:
            action()
        return read(self, queryset)

    monkeypatch.setattr(StoredColumns, "read", patched)


@pytest.mark.django_db(transaction=True)
@locks_rows
def test_a_batch_that_loses_a_deadlock_is_repeated(legacy, stored, monkeypatch) -> None:  # noqa: F811
    """Ours has the first row and wants the second; theirs has the second and waits for the first."""
    batch = next(rows().batches(2))
    has_second, has_first = threading.Event(), threading.Event()
    first, second = legacy[:2]

    def write_in_the_other_order() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                set_deadlock_timeout(cursor, "1h")
                cursor.execute("UPDATE testapp_legacy SET text = 'theirs' WHERE id = %s", [second])
                has_second.set()
                assert has_first.wait(30)
                cursor.execute("UPDATE testapp_legacy SET text = 'theirs' WHERE id = %s", [first])
        finally:
            connection.close()

    def close_the_circle() -> None:
        has_first.set()
        deadline = time.monotonic() + 30
        with connection.cursor() as cursor:
            while not somebody_waits(cursor):
                assert time.monotonic() < deadline
                # MariaDB shows the same list again to whoever asks within a tenth of a second.
                time.sleep(0.2)

    on_second_statement(monkeypatch, close_the_circle)
    with connection.cursor() as cursor:
        set_deadlock_timeout(cursor, "10ms")
    try:
        with ThreadPoolExecutor() as pool:
            theirs = pool.submit(write_in_the_other_order)
            assert has_second.wait(30)
            written, changed = rows().write(["text"], [(row, ["ours"]) for row in batch])
            theirs.result(30)
    finally:
        connection.close()
    assert (written, [row.text(GROUP.members[0]) for row in changed]) == (0, ["theirs", "theirs"])
    assert {stored(Legacy(pk=pk), "text") for pk in (first, second)} == {("theirs",)}


def set_deadlock_timeout(cursor, timeout) -> None:
    """Who looks for a deadlock is who ends it. MariaDB ends the transaction that has written least: ours."""
    if connection.vendor == "postgresql":
        cursor.execute(f"SET deadlock_timeout = '{timeout}'")


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="this database does not fail so")
@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_batch_that_cannot_be_serialized_is_repeated(legacy, stored, monkeypatch, isolation) -> None:  # noqa: F811
    batch = next(rows().batches(2))

    def write() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE testapp_legacy SET text = 'theirs' WHERE id = %s", [legacy[1]])
        connection.close()

    def write_meanwhile() -> None:
        with ThreadPoolExecutor() as pool:
            pool.submit(write).result(30)

    on_second_statement(monkeypatch, write_meanwhile)
    with connection.cursor() as cursor:
        cursor.execute(f"SET default_transaction_isolation = '{isolation}'")
    try:
        written, changed = rows().write(["text"], [(row, ["ours"]) for row in batch])
    finally:
        connection.close()
    assert (written, [row.instance.pk for row in changed]) == (1, [legacy[1]])
    assert stored(Legacy(pk=legacy[0]), "text") == ("ours",)


@pytest.mark.django_db(transaction=True)
@locks_rows
def test_a_lock_that_is_not_given_in_time_is_asked_for_again(legacy, stored, monkeypatch) -> None:  # noqa: F811
    batch = next(rows().batches(2))
    locked, released = threading.Event(), threading.Event()

    def write_slowly() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("UPDATE testapp_legacy SET text = 'theirs' WHERE id = %s", [legacy[0]])
                locked.set()
                assert released.wait(30)
        finally:
            connection.close()

    with connection.cursor() as cursor:
        name = "lock_timeout = '50ms'" if connection.vendor == "postgresql" else "innodb_lock_wait_timeout = 1"
        cursor.execute(f"SET {name}")
    try:
        with ThreadPoolExecutor() as pool:
            theirs = pool.submit(write_slowly)
            assert locked.wait(30)

            def release(attempt) -> None:
                released.set()
                theirs.result(30)

            monkeypatch.setattr(contention, "_pause", release)
            written, changed = rows().write(["text"], [(row, ["ours"]) for row in batch])
    finally:
        connection.close()
    assert (written, [row.instance.pk for row in changed]) == (1, [legacy[0]])


def test_a_sqlite_file_that_somebody_writes_to_is_tried_again(file_database, monkeypatch) -> None:  # noqa: F811
    stored_rows = rows(using="file")
    batch = next(stored_rows.batches(10))
    with locked_file(file_database) as other:
        monkeypatch.setattr(contention, "_pause", lambda attempt: other.execute("COMMIT"))
        assert stored_rows.write(["text"], [(row, ["ours"]) for row in batch]) == (3, [])


def test_it_ends_in_words_if_it_goes_on_failing(file_database, monkeypatch) -> None:  # noqa: F811
    stored_rows = rows(using="file")
    batch = next(stored_rows.batches(10))
    pauses = []
    monkeypatch.setattr(contention, "_pause", pauses.append)
    with locked_file(file_database), pytest.raises(DatabaseBusy, match=rf"'file' broke .* {ATTEMPTS} times in turn \("):
        stored_rows.write(["text"], [(row, ["ours"]) for row in batch])
    assert len(pauses) == ATTEMPTS - 1


def locked_file(path):
    connections["file"].settings_dict["OPTIONS"] = {"timeout": 0}
    connections["file"].close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return closing(other)


def test_a_transaction_of_the_caller_is_not_repeated(db, monkeypatch) -> None:
    calls = []

    def fail() -> Never:
        calls.append(1)
        raise DatabaseError("Broken off.")

    monkeypatch.setattr(contention, "_is_broken_off", lambda using, error: True)
    with transaction.atomic(), pytest.raises(DatabaseBusy, match=r"other writers \(a deadlock"):
        repeated("default", fail)
    assert len(calls) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attempt", [1, ATTEMPTS])
def test_other_errors_of_the_database_are_told_as_they_are(attempt, monkeypatch) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        if len(calls) < attempt:
            raise DatabaseError("Broken off.")
        with connection.cursor() as cursor:
            cursor.execute("SELECT absent FROM nowhere")

    is_broken_off = contention._is_broken_off
    monkeypatch.setattr(
        contention, "_is_broken_off", lambda using, error: error.__cause__ is None or is_broken_off(using, error)
    )
    with pytest.raises(DatabaseError, match="nowhere"):
        repeated("default", fail)
    assert len(calls) == attempt


def test_pauses_grow_and_are_not_in_step(monkeypatch) -> None:
    slept = []
    monkeypatch.setattr(contention.time, "sleep", slept.append)
    for attempt in range(1, ATTEMPTS):
        contention._pause(attempt)
    assert all(0.01 * 2**attempt <= pause <= 0.05 * 2**attempt for attempt, pause in enumerate(slept, 1))
