"""Stored objects in the keystore: encrypted, bound to their rows, safe under races."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.conftest import ROOT_KEY
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.managed.tags import VaultReplaced
from vault_fields.embedded.objects import StoredObjects, sealing
from vault_fields.embedded.objects.rows import ObjectQuery, new_id
from vault_fields.embedded.objects.values import MAX_VALUE_BYTES
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import (
    KeyContextError,
    KeyRevoked,
    ObjectConflict,
    ObjectMissing,
    ValueRefused,
    VaultUnavailable,
)
from vault_fields.keys import DataKey

ACME = {"organization_id": "acme"}
GLOBEX = {"organization_id": "globex"}
LAST = "object_version ORDER BY id DESC LIMIT 1"


@pytest.fixture
def objects(vault: EmbeddedVault) -> StoredObjects:
    return StoredObjects(vault)


def execute(path: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, parameters).fetchall()


def test_value_is_not_in_the_file(objects: StoredObjects, vault: EmbeddedVault, path: Path) -> None:
    created = objects.create("name", "needle in the haystack", ACME)
    objects.update(created.id, "other needle in the haystack")
    vault.close()

    for file in path.parent.iterdir():
        assert b"needle" not in file.read_bytes()


def test_object_is_there_for_another_process(objects: StoredObjects, open_vault: Callable[..., EmbeddedVault]) -> None:
    created = objects.create("name", "value", ACME)

    assert StoredObjects(open_vault()).read(created.id).value == "value"


def test_repr_shows_no_value(objects: StoredObjects) -> None:
    created = objects.create("name", "s3cr3t", ACME)

    assert "s3cr3t" not in repr(objects.read(created.id))


def test_each_version_has_a_data_key_of_its_own_and_can_be_read(objects: StoredObjects) -> None:
    created = objects.create("name", "one", ACME)
    updated = objects.update(created.id, "two")

    assert created.key_id != updated.key_id
    assert objects.read(created.id, version_id=created.version_id).value == "one"
    assert objects.read(created.id).value == "two"
    with pytest.raises(ObjectMissing):
        objects.read(created.id, version_id=str(uuid.uuid4()))


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE object SET name = CASE name WHEN 'a' THEN 'b' ELSE 'c' END",
        'UPDATE object SET context = \'{"organization_id":"globex"}\'',
        "UPDATE object SET environment = 'staging'",
        f"UPDATE object_version SET encrypted_keys = (SELECT encrypted_keys FROM {LAST})",
        f"UPDATE object_version SET sealed = (SELECT sealed FROM {LAST})",
        f"UPDATE object_version SET (sealed, encrypted_keys) = (SELECT sealed, encrypted_keys FROM {LAST})",
        "UPDATE object_version SET encrypted_keys = 'nonsense'",
        "UPDATE object_version SET sealed = x''",
        "UPDATE object_version SET sealed = CAST(sealed || x'00' AS BLOB)",
        f"UPDATE object_version SET data_key_id = (SELECT data_key_id FROM {LAST})",
        f"UPDATE object_version SET etag = (SELECT etag FROM {LAST})",
    ],
)
def test_rows_that_were_swapped_or_edited_do_not_open(
    objects: StoredObjects, vault: EmbeddedVault, path: Path, tampering: str
) -> None:
    first = objects.create("a", "first", ACME)
    objects.create("other", "second", ACME)
    execute(path, tampering.replace("'c'", "'d'"))

    reader = StoredObjects(vault.for_environment("staging")) if "staging" in tampering else objects
    with pytest.raises(VaultUnavailable, match="damaged or was tampered with"):
        reader.read(first.id)


def test_object_of_a_copied_keystore_with_another_id_does_not_open(
    objects: StoredObjects, vault: EmbeddedVault, path: Path
) -> None:
    created = objects.create("a", "value", ACME)
    vault.close()
    execute(path, "UPDATE vault SET id = 'another'")

    with pytest.raises(VaultUnavailable):
        objects.read(created.id)


def test_names_and_values_have_limits(objects: StoredObjects) -> None:
    with pytest.raises(ValueRefused, match="at most 256 KiB"):
        objects.create("name", "x" * (MAX_VALUE_BYTES + 1), ACME)
    with pytest.raises(ValueRefused):
        objects.update(objects.create("name", "", ACME).id, "ü" * MAX_VALUE_BYTES)
    with pytest.raises(KeyContextError):
        objects.create("another", "", {})
    with pytest.raises(ObjectMissing):
        objects.read_by_name("\ud800")
    created = objects.create("longest", "x" * MAX_VALUE_BYTES, ACME)
    assert len(objects.read(created.id).value) == MAX_VALUE_BYTES


def race(count: int, work: Callable[[int], object]) -> list[object]:
    """What each of many threads that start together returns or raises."""
    barrier, results = threading.Barrier(count), []

    def run(number: int) -> None:
        barrier.wait()
        try:
            results.append(work(number))
        except (ObjectConflict, ObjectMissing) as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_writers_who_expect_one_version_one_succeeds(open_vault: Callable[..., EmbeddedVault]) -> None:
    stores = [StoredObjects(open_vault()) for _ in range(6)]
    created = stores[0].create("name", "", ACME)

    results = race(6, lambda each: stores[each].update(created.id, str(each), version_check=created.version_id))

    assert sum(isinstance(result, ObjectConflict) for result in results) == 5
    assert len(stores[0].versions(created.id)) == 2


def test_of_those_who_take_a_name_one_gets_it(open_vault: Callable[..., EmbeddedVault]) -> None:
    stores = [StoredObjects(open_vault()) for _ in range(6)]

    results = race(6, lambda each: stores[each].create("name", str(each), ACME))

    assert sum(isinstance(result, ObjectConflict) for result in results) == 5
    assert len(stores[0].page().items) == 1


def test_update_and_delete_at_once_leave_no_half_of_an_object(
    open_vault: Callable[..., EmbeddedVault], path: Path
) -> None:
    stores = [StoredObjects(open_vault()) for _ in range(6)]
    created = stores[0].create("name", "", ACME)

    race(6, lambda each: stores[each].delete(created.id) if each == 3 else stores[each].update(created.id, "x"))

    assert execute(path, "SELECT count(*) FROM object_version") == [(0,)]
    with pytest.raises(ObjectMissing):
        stores[0].read(created.id)


def test_object_that_was_answered_for_survives_the_end_of_its_process(path: Path, tmp_path: Path) -> None:
    """``kill -9`` right after the answer; the file is copied first, so that nothing is put right on the way."""
    script = (
        "import os\nfrom pathlib import Path\n"
        "from tests.embedded.conftest import ROOT_KEY\n"
        "from vault_fields.embedded.managed.keyring import KeyRing\n"
        "from vault_fields.embedded.managed.store import KeyStore\n"
        "from vault_fields.embedded.objects import StoredObjects\n"
        "from vault_fields.embedded.vault import EmbeddedVault\n"
        f"objects = StoredObjects(EmbeddedVault(KeyRing(KeyStore.at(Path({str(path)!r})), ROOT_KEY)))\n"
        "objects.create('name', 'value', {'a': 'b'})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parent.parent.parent
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == -9
    for file in path.parent.glob("vault.sqlite3*"):
        shutil.copy(file, tmp_path / file.name.replace("vault", "copy"))

    assert execute(tmp_path / "copy.sqlite3", "SELECT name FROM object") == [("name",)]
    assert execute(tmp_path / "copy.sqlite3", "SELECT name FROM event WHERE name LIKE 'vault.data.%'") == [
        ("vault.data.created",)
    ]


def test_changes_are_events_and_reading_is(objects: StoredObjects, vault: EmbeddedVault) -> None:
    created = objects.create("name", "one", ACME)
    objects.update(created.id, "two")
    objects.read(created.id)
    objects.read_by_name("name")
    objects.describe(created.id)
    objects.page()
    objects.versions(created.id)
    objects.delete(created.id)
    with pytest.raises(ObjectMissing):
        objects.delete(created.id)

    found = [event.name for event in vault.store.events.page("default").items]
    assert sorted(found) == [
        "vault.data.created",
        "vault.data.deleted",
        "vault.data.read",
        "vault.data.read",
        "vault.data.updated",
        "vault.kek.created",
        "vault.metadata.read",
        "vault.names.listed",
    ]


def test_refused_change_leaves_no_event(objects: StoredObjects, vault: EmbeddedVault) -> None:
    created = objects.create("name", "one", ACME)
    before = len(vault.store.events.page("default").items)

    with pytest.raises(ObjectConflict):
        objects.create("name", "two", ACME)
    with pytest.raises(ObjectConflict):
        objects.update(created.id, "two", version_check="another")
    with pytest.raises(ObjectConflict):
        objects.delete(created.id, version_check="another")

    assert len(vault.store.events.page("default").items) == before


def test_rewrap_lets_old_versions_of_a_key_retire(objects: StoredObjects, vault: EmbeddedVault) -> None:
    created = objects.create("name", "one", ACME)
    objects.update(created.id, "two")
    other = objects.create("other", "other", GLOBEX)
    vault.disable("organization_id", "globex")
    vault.keks.rotate("organization_id", "acme")

    assert objects.rewrap() == 2

    vault.keks.retire("organization_id", "acme", before=2)
    vault.forget()
    assert objects.read(created.id).value == "two"
    assert objects.read(created.id, version_id=created.version_id).value == "one"
    with pytest.raises(KeyRevoked):
        objects.read(other.id)


def test_rewrap_believes_no_context_that_was_edited(objects: StoredObjects, vault: EmbeddedVault, path: Path) -> None:
    """A data key is not wrapped for whom a row of the keystore only claims; the other objects are rewrapped."""
    victim = objects.create("victim", "secret", ACME)
    others = [objects.create(f"other {number}", "value", GLOBEX) for number in range(2)]
    edit = "UPDATE object SET context = ? WHERE id = ?"
    execute(path, edit, '{"organization_id":"globex"}', victim.id)
    before = execute(path, "SELECT id, encrypted_keys FROM object_version ORDER BY id")

    with pytest.raises(VaultUnavailable, match=f"tampered with: version {victim.version_id} of a stored object"):
        objects.rewrap()

    after = execute(path, "SELECT id, encrypted_keys FROM object_version ORDER BY id")
    assert {version for (version, keys), (_, old) in zip(after, before, strict=True) if keys == old} == {
        victim.version_id
    }
    execute(path, edit, '{"organization_id":"acme"}', victim.id)
    assert objects.rewrap() == 3
    assert [objects.read(each.id).value for each in [victim, *others]] == ["secret", "value", "value"]


@pytest.mark.parametrize("store", ["a backup", "another vault"])
def test_rewrap_ends_where_the_keystore_was_replaced_meanwhile(
    objects: StoredObjects,
    vault: EmbeddedVault,
    open_vault: Callable[..., EmbeddedVault],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
) -> None:
    """It says so, and what stands there then is done when it is run again."""
    objects.create("name", "value", ACME)
    if store == "a backup":
        vault.back_up(tmp_path / "backup")
    else:
        with closing(EmbeddedVault(KeyRing(KeyStore.at(tmp_path / "other"), ROOT_KEY))) as other:
            StoredObjects(other).create("another", "value", ACME)
            other.back_up(tmp_path / "backup")
    vault.keks.rotate("organization_id", "acme")
    rewrap_data_key = EmbeddedVault.rewrap_data_key

    def overtaken(self: EmbeddedVault, *args: Any, **options: Any) -> DataKey:
        key = rewrap_data_key(self, *args, **options)
        open_vault().restore(tmp_path / "backup", force=True)
        return key

    monkeypatch.setattr(EmbeddedVault, "rewrap_data_key", overtaken)
    with pytest.raises(VaultReplaced, match="backup was restored .* wrapped anew. Try again: that wraps everything"):
        objects.rewrap()
    monkeypatch.undo()
    vault.forget()

    assert objects.rewrap() == 1


def test_versions_are_paged_in_either_direction(objects: StoredObjects) -> None:
    made = objects.create("name", "0", ACME)
    for number in range(1, 5):
        objects.update(made.id, str(number))
    objects.create("other", "", ACME)
    newest_first = objects.versions(made.id)

    first = objects.version_page(made.id, limit=2)
    second = objects.version_page(made.id, limit=2, after=first.after)
    last = objects.version_page(made.id, limit=2, after=second.after)

    assert [*first.items, *second.items, *last.items] == newest_first
    assert [each.current for each in newest_first] == [True, False, False, False, False]
    assert (first.before, last.after) == (None, None)
    assert objects.version_page(made.id, limit=2, before=second.before) == first
    ascending = objects.version_page(made.id, limit=100, descending=False)
    assert ascending.items == newest_first[::-1]
    assert objects.version_page(made.id, after=newest_first[-1].id).items == []
    with pytest.raises(ObjectMissing):
        objects.version_page(new_id())


def test_ids_sort_by_the_time_of_their_making() -> None:
    ids = [new_id() for _ in range(2000)]

    assert ids[::100] == sorted(ids[::100])
    assert len(set(ids)) == 2000
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}


def test_search_asks_for_all_that_it_says(objects: StoredObjects) -> None:
    objects.create("a", "", {**ACME, "purpose": "care"})
    objects.create("b", "", ACME)

    def names(query: ObjectQuery) -> list[str]:
        return [found.name for found in objects.page(query, descending=False).items]

    assert names(ObjectQuery()) == ["a", "b"]
    assert names(ObjectQuery(context=ACME)) == ["a", "b"]
    assert names(ObjectQuery(context={**ACME, "purpose": "care"})) == ["a"]
    assert names(ObjectQuery(context={"purpose": "Care"})) == []


def test_what_was_sealed_with_another_key_or_for_another_place_does_not_open() -> None:
    key, other = (DataKey(name, name, os.urandom(32)) for name in ("one", "other"))
    associated = sealing.associated_data("vault", "default", "object", "name", "{}", "version")
    stored = sealing.sealed(key, "value", associated)
    assert sealing.opened(key, stored, associated) == "value"
    assert sealing.opened(other, stored, associated) is None
    assert sealing.opened(key, stored, associated + b"-") is None
    assert sealing.opened(key, b"short", associated) is None
