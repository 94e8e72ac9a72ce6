"""Older versions of stored objects are deleted, and never a current one."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vault_fields.embedded.events.event import Actor, acting_as, timestamp
from vault_fields.embedded.managed.tags import RowsAltered, RowTags, TaggedRows
from vault_fields.embedded.objects import StoredObjects, pruning as objectpruning
from vault_fields.embedded.objects.rows import ObjectVersion
from vault_fields.embedded.objects.store import ObjectStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import ObjectMissing

ACME = {"organization_id": "acme"}
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is two versions, and nobody waits."""
    monkeypatch.setattr(objectpruning, "PRUNED_AT_ONCE", 2)
    monkeypatch.setattr(objectpruning, "PAUSE", 0)


@pytest.fixture
def objects(vault: EmbeddedVault) -> StoredObjects:
    return StoredObjects(vault)


def execute(path: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, parameters).fetchall()


def made(objects: StoredObjects, name: str, count: int) -> str:
    """The id of an object with so many versions, whose values are their numbers."""
    object_id = objects.create(name, "1", ACME).id
    for number in range(2, count + 1):
        objects.update(object_id, str(number))
    return object_id


def values(objects: StoredObjects, object_id: str) -> list[str]:
    return [objects.read(object_id, version_id=each.id).value for each in objects.versions(object_id)]


def aged(path: Path, objects: StoredObjects, object_id: str, *days: int) -> list[ObjectVersion]:
    """Its versions, the newest first, now so many days old."""
    found = objects.versions(object_id)
    for version, age in zip(found, days, strict=True):
        moment = timestamp(NOW - timedelta(days=age))
        execute(path, "UPDATE object_version SET created_at = ? WHERE id = ?", moment, version.id)
    return found


def test_the_newest_stay_of_each_object(objects: StoredObjects, vault: EmbeddedVault) -> None:
    many, few, elsewhere = made(objects, "many", 6), made(objects, "few", 2), StoredObjects(vault.for_environment("b"))
    other = made(elsewhere, "other", 4)

    assert objects.prune(keep=3) == 3

    assert values(objects, many) == ["6", "5", "4"]
    assert values(objects, few) == ["2", "1"]
    assert values(elsewhere, other) == ["4", "3", "2", "1"]
    assert objects.prune(keep=3) == 0
    assert objects.prune(keep=1) == 3
    assert values(objects, many) == ["6"]


def test_age_is_that_of_the_replacement(objects: StoredObjects, path: Path) -> None:
    """What was made years ago and was the current one until yesterday is what one goes back to today."""
    object_id = made(objects, "name", 4)
    aged(path, objects, object_id, 1, 30, 60, 1000)

    assert objects.prune(replaced_before=NOW - timedelta(days=61)) == 0
    assert objects.prune(replaced_before=NOW - timedelta(days=29)) == 2
    assert values(objects, object_id) == ["4", "3"]


def test_with_both_what_either_keeps_stays(objects: StoredObjects, path: Path) -> None:
    object_id = made(objects, "name", 4)
    aged(path, objects, object_id, 1, 30, 60, 1000)

    assert objects.prune(keep=3, replaced_before=NOW) == 1
    assert objects.prune(keep=1, replaced_before=NOW - timedelta(days=29)) == 1
    assert values(objects, object_id) == ["4", "3"]


@pytest.mark.parametrize("options", [{"keep": 1}, {"replaced_before": NOW + timedelta(days=1)}])
def test_current_version_stays_where_newer_ids_were_stored_before_it(
    objects: StoredObjects, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Of two who write at once, the one who sealed first may be the last to store."""
    object_id = made(objects, "name", 1)
    replace = ObjectStore.replace

    def overtaken(*args: Any) -> None:
        monkeypatch.undo()
        objects.update(object_id, "overtook")
        replace(*args)

    monkeypatch.setattr(ObjectStore, "replace", overtaken)
    objects.update(object_id, "current")
    assert [each.current for each in objects.versions(object_id)] == [False, True, False]

    objects.prune(**options)

    assert objects.read(object_id).value == "current"
    assert values(objects, object_id) == ["overtook", "current"]


def test_event_tells_of_each_object_and_by_whom(objects: StoredObjects, vault: EmbeddedVault) -> None:
    made(objects, "a", 2)
    current = objects.describe(made(objects, "b", 2))
    before = len(vault.store.events.page("default").items)
    with acting_as(Actor("key_1", "Cleaner")):
        objects.prune(keep=1)
        objects.prune(keep=1)

    told = [event.as_json() for event in vault.store.events.page("default").items[before:]]
    assert [(each["event"], each["data"]["kv_name"], each["data"]["actor_id"]) for each in told] == [
        ("vault.data.updated", "a", "key_1"),
        ("vault.data.updated", "b", "key_1"),
    ]
    assert told[1]["data"]["key_id"] == current.key_id
    assert told[1]["data"]["key_context"] == ACME


def test_object_whose_row_was_edited_keeps_all_versions(objects: StoredObjects, path: Path) -> None:
    """Nobody knows which of them is the current one. The others are done, and then it is told."""
    edited, sound = made(objects, "edited", 4), made(objects, "sound", 4)
    execute(path, "UPDATE object SET version_id = (SELECT min(id) FROM object_version) WHERE id = ?", edited)

    with pytest.raises(RowsAltered, match=edited):
        objects.prune(keep=1)

    assert values(objects, sound) == ["4"]
    assert execute(path, "SELECT count(*) FROM object_version WHERE object_id = ?", edited) == [(4,)]


@contextmanager
def before_each_portion(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> Iterator[None]:
    transaction, is_done = RowTags.transaction, []

    @contextmanager
    def late(self: RowTags) -> Iterator[TaggedRows]:
        if not is_done:
            is_done.append(True)
            work()
        with transaction(self) as rows:
            yield rows

    with monkeypatch.context() as patched:
        patched.setattr(RowTags, "transaction", late)
        yield


def test_object_that_was_deleted_meanwhile_is_no_fault(objects: StoredObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted, left = made(objects, "deleted", 2), made(objects, "left", 2)

    with before_each_portion(monkeypatch, lambda: objects.delete(deleted)):
        assert objects.prune(keep=1) == 1

    assert values(objects, left) == ["2"]
    with pytest.raises(ObjectMissing):
        objects.read(deleted)


def test_backup_that_is_restored_meanwhile_keeps_its_current_versions(
    objects: StoredObjects,
    vault: EmbeddedVault,
    open_vault: Callable[..., EmbeddedVault],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    object_id = made(objects, "name", 2)
    vault.back_up(tmp_path / "backup")
    objects.update(object_id, "3")

    def restore() -> None:
        open_vault().restore(tmp_path / "backup", force=True)

    with before_each_portion(monkeypatch, restore):
        assert objects.prune(keep=1) == 1

    assert values(StoredObjects(open_vault()), object_id) == ["2"]


def test_an_interruption_leaves_what_was_not_reached(objects: StoredObjects) -> None:
    object_id, told = made(objects, "name", 6), []

    @contextmanager
    def progress(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
        told.append((title, count()))

        def interrupt(number: int) -> None:
            told.append(number)
            raise KeyboardInterrupt

        yield interrupt

    with pytest.raises(KeyboardInterrupt):
        objects.prune(keep=1, progress=progress)

    assert told == [("Deleting versions", 5), 2]
    assert values(objects, object_id) == ["6", "5", "4", "3"]
    assert objects.prune(keep=1) == 3


def test_deleted_values_are_overwritten(objects: StoredObjects, vault: EmbeddedVault, path: Path) -> None:
    object_id = made(objects, "name", 2)
    [(sealed,)] = execute(path, "SELECT sealed FROM object_version ORDER BY id LIMIT 1")
    objects.prune(keep=1)
    vault.close()
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")

    assert sealed not in path.read_bytes()
    assert values(objects, object_id) == ["2"]


@pytest.mark.parametrize("options", [{}, {"keep": 0}, {"keep": -1, "replaced_before": NOW}])
def test_nothing_is_deleted_without_a_measure(objects: StoredObjects, options: dict[str, Any]) -> None:
    object_id = made(objects, "name", 2)

    with pytest.raises(ValueError, match="kept"):
        objects.prune(**options)

    assert values(objects, object_id) == ["2", "1"]


def test_what_is_outdated_no_more_stays_and_nothing_is_told(objects: StoredObjects, vault: EmbeddedVault) -> None:
    """As where a backup was restored between finding versions and deleting them."""
    object_id = made(objects, "name", 2)
    (current, _) = objects.versions(object_id)
    pruning = objectpruning.Pruning(
        vault.store.connections, vault.tags, vault.environment, objectpruning.Outdated(1, None)
    )
    with vault.tags.transaction() as rows:
        before = rows.connection.execute("SELECT count(*) FROM event").fetchone()
        assert pruning._delete_of(rows, object_id, current.id, current.id) == 0
        assert rows.connection.execute("SELECT count(*) FROM event").fetchone() == before
    assert values(objects, object_id) == ["2", "1"]
