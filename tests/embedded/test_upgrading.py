"""Keystores of earlier releases: what they held opens after the upgrade, however that was interrupted."""

import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.embedded.killing import killed_at_every_step
from tests.embedded.schemas import VERSIONS, load_keystore
from vault_fields.embedded.database import steps
from vault_fields.embedded.database.schema import SCHEMA_VERSION
from vault_fields.embedded.maintenance import upgrading
from vault_fields.embedded.maintenance.upgrading import Upgrade, UpgradeRefused
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.managed.tags import RowsAltered
from vault_fields.embedded.objects import StoredObjects
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, VaultError, VaultUnavailable
from vault_fields.keys import KeyContext

EARLIER = [version for version in VERSIONS if version < SCHEMA_VERSION]
REFUSED = {"disabled", "pending", "destroyed"}


def sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            rows += connection.execute(statement).fetchall()
    return rows


def tables(path: Path) -> set[tuple[object, ...]]:
    return set(sql(path, "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"))


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def assert_everything_opens(vault: EmbeddedVault, keys: dict[str, tuple[str, str]]) -> None:
    for name, (encrypted_keys, plaintext) in keys.items():
        service = vault.for_environment("staging") if name == "staging" else vault
        if name in REFUSED:
            with pytest.raises(KeyRevoked):
                service.decrypt(encrypted_keys)
        else:
            assert service.decrypt(encrypted_keys).plaintext.hex() == plaintext, name
    assert vault.keks.get("organization_id", "rotated").version == 3
    assert StoredObjects(vault).read_by_name("secret").value == "second"
    assert [key.item_value for key in vault.byok.all()] == ["customer"]
    events = vault.store.events.page("default").items
    assert [event.name for event in events].count("vault.data.updated") == 1


# What an upgrade leads to.


def test_a_change_of_the_tables_has_a_version_and_a_step(tmp_path: Path) -> None:
    """
    If this fails, the tables of keystores were changed, and those that exist do not have them so.

    Count ``SCHEMA_VERSION`` up, write the step that makes the one of the other, and keep a keystore of the new schema:
    tests/embedded/schemas/make.py says how. What is there for a version stays as it is.
    """
    load_keystore(SCHEMA_VERSION, tmp_path / "kept.sqlite3")
    with closing(KeyStore.at(tmp_path / "new.sqlite3")) as store:
        store.vault_id()

    assert tables(tmp_path / "kept.sqlite3") == tables(tmp_path / "new.sqlite3")


def test_there_is_a_keystore_of_every_version() -> None:
    assert list(range(2, SCHEMA_VERSION + 1)) == VERSIONS


@pytest.mark.parametrize("version", EARLIER)
def test_what_a_keystore_held_opens_after_the_upgrade(path: Path, vault: EmbeddedVault, version: int) -> None:
    keys = load_keystore(version, path)
    before = content(path)

    done = vault.upgrade(trust_rows=True)

    assert (done.before, done.after) == (version, SCHEMA_VERSION)
    assert_everything_opens(vault, keys)
    assert vault.create(KeyContext({"organization_id": "new"}))
    vault.keks.rotate("organization_id", "new")
    assert done.backup is not None
    assert done.backup.parent == path.parent
    assert oct(done.backup.stat().st_mode)[-3:] == "600"
    assert content(done.backup) == before
    assert done.snapshot is not None
    assert done.snapshot.keks == sql(done.backup, "SELECT count(*) FROM kek")[0][0]


@pytest.mark.parametrize("version", EARLIER)
def test_an_upgraded_keystore_has_the_tables_of_a_new_one(
    path: Path, vault: EmbeddedVault, version: int, tmp_path: Path
) -> None:
    load_keystore(version, path)
    vault.upgrade(trust_rows=True)
    with closing(KeyStore.at(tmp_path / "new.sqlite3")) as store:
        store.vault_id()

    assert tables(path) == tables(tmp_path / "new.sqlite3")
    assert sql(path, "PRAGMA integrity_check", "PRAGMA foreign_key_check") == [("ok",)]
    assert sql(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_second_upgrade_does_nothing(path: Path, vault: EmbeddedVault, version: int) -> None:
    load_keystore(version, path)
    vault.upgrade(trust_rows=True)
    before = content(path), sorted(path.parent.iterdir())

    assert vault.upgrade(trust_rows=True) == Upgrade(SCHEMA_VERSION, SCHEMA_VERSION)
    assert (content(path), sorted(path.parent.iterdir())) == before


def test_a_keystore_in_memory_is_of_this_release(root_key: RootKey) -> None:
    vault = EmbeddedVault(KeyRing(KeyStore.in_memory(), root_key))

    assert vault.schema_version() == SCHEMA_VERSION
    assert vault.upgrade() == Upgrade(SCHEMA_VERSION, SCHEMA_VERSION)


@pytest.mark.parametrize("version", EARLIER)
def test_opening_upgrades_nothing_and_names_the_command(path: Path, vault: EmbeddedVault, version: int) -> None:
    load_keystore(version, path)
    before = content(path)

    with pytest.raises(VaultUnavailable, match=r"has schema version \d.*Nothing was written.*vault_keystore upgrade`"):
        vault.create(KeyContext({"organization_id": "rotated"}))
    assert vault.schema_version() == version
    assert content(path) == before


# What is refused, and leaves everything as it was.


def test_rows_that_nobody_could_tell_an_edit_of_are_trusted_only_if_asked_to(path: Path, vault: EmbeddedVault) -> None:
    """An editor of the file could otherwise make it one without tags, and wait for the upgrade."""
    load_keystore(2, path)
    before = content(path)

    with pytest.raises(UpgradeRefused, match=r"which has schema version 2, have no tags.*add --trust-rows"):
        vault.upgrade()

    assert content(path) == before
    assert [file for file in path.parent.iterdir() if ".schema-" in file.name] == []
    assert vault.upgrade(trust_rows=True).trusted == sum(
        int(str(number))
        for table in ("kek", "object", "byok_key")
        for ((number,),) in [sql(path, f"SELECT count(*) FROM {table}")]
    )


def test_a_keystore_from_before_all_steps_is_refused(path: Path, vault: EmbeddedVault) -> None:
    load_keystore(2, path)
    sql(path, "PRAGMA user_version = 1")

    with pytest.raises(VaultUnavailable, match=r"schema version 1, from which no step leads.*oldest .* is 2"):
        vault.upgrade(trust_rows=True)


def test_a_newer_keystore_is_refused(path: Path, vault: EmbeddedVault) -> None:
    load_keystore(SCHEMA_VERSION, path)
    sql(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = content(path)

    for attempt in (vault.upgrade, vault.schema_version):
        with pytest.raises(VaultUnavailable, match="Nothing was written. Install the release that made it, or a later"):
            attempt()
    assert content(path) == before


def test_tables_that_are_not_of_their_version_are_refused(path: Path, vault: EmbeddedVault) -> None:
    load_keystore(2, path)
    sql(path, "CREATE TRIGGER mine AFTER INSERT ON kek BEGIN DELETE FROM event; END", "CREATE INDEX my ON event (data)")
    before = content(path)

    with pytest.raises(VaultUnavailable, match="cannot be upgraded: its tables, indexes or triggers are not those"):
        vault.upgrade(trust_rows=True)
    assert content(path) == before


def test_a_wrong_root_key_upgrades_nothing(
    path: Path, open_vault: Callable[..., EmbeddedVault], tmp_path: Path
) -> None:
    load_keystore(2, path)
    before = content(path)

    with pytest.raises(Exception, match="wrong root key"):
        open_vault(RootKey(bytes(31) + b"x")).upgrade(trust_rows=True)
    assert content(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_backup_replaces_no_file(path: Path, vault: EmbeddedVault, tmp_path: Path) -> None:
    load_keystore(2, path)
    taken = tmp_path / "taken"
    taken.write_text("mine")

    with pytest.raises(FileExistsError, match="taken exists already"):
        vault.upgrade(taken, trust_rows=True)
    assert taken.read_text() == "mine"
    assert vault.schema_version() == 2


def test_a_backup_that_cannot_be_written_upgrades_nothing(path: Path, vault: EmbeddedVault, tmp_path: Path) -> None:
    load_keystore(2, path)

    with pytest.raises(Exception, match="its directory does not exist"):
        vault.upgrade(tmp_path / "missing" / "backup", trust_rows=True)
    assert vault.schema_version() == 2


# Backups of earlier releases.


@pytest.mark.parametrize("present", [False, True])
def test_a_backup_of_an_earlier_release_is_upgraded_as_it_is_restored(
    path: Path, vault: EmbeddedVault, tmp_path: Path, present: bool
) -> None:
    backup = tmp_path / "backup"
    keys = load_keystore(3, backup)
    sql(backup, "PRAGMA journal_mode = DELETE")
    before = backup.read_bytes()
    if present:
        vault.create(KeyContext({"organization_id": "other"}))

    vault.restore(backup, force=present)

    assert_everything_opens_but_events(vault, keys)
    assert backup.read_bytes() == before
    assert vault.schema_version() == SCHEMA_VERSION


def assert_everything_opens_but_events(vault: EmbeddedVault, keys: dict[str, tuple[str, str]]) -> None:
    for name in ("rotated", "new version", "pair"):
        assert vault.decrypt(keys[name][0]).plaintext.hex() == keys[name][1]


def test_a_backup_without_tags_is_not_restored(path: Path, vault: EmbeddedVault, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    load_keystore(2, backup)
    sql(backup, "PRAGMA journal_mode = DELETE")
    vault.create(KeyContext({"organization_id": "other"}))
    before = content(path)

    with pytest.raises(UpgradeRefused, match="Put a copy of it in the place of the keystore, and run"):
        vault.restore(backup, force=True)
    assert content(path) == before


@pytest.mark.parametrize("version", [version for version in EARLIER if version > 2])
def test_an_edited_row_is_not_upgraded(path: Path, vault: EmbeddedVault, version: int) -> None:
    load_keystore(version, path)
    sql(path, "UPDATE kek SET state = 'enabled' WHERE item_value = 'disabled'")
    before = content(path)

    with pytest.raises(RowsAltered, match="is not as it was written"):
        vault.upgrade(trust_rows=True)
    assert content(path) == before


# Interruptions, and others who use the keystore.


@pytest.mark.parametrize("version", EARLIER)
def test_an_upgrade_that_is_killed_at_any_step_can_be_repeated(
    path: Path, open_vault: Callable[..., EmbeddedVault], version: int
) -> None:
    """Before its commit the keystore is what it was, and afterwards what it is to be: the same versions open."""
    keys = load_keystore(version, path)
    before = content(path)
    kills = 0

    def work() -> None:
        with closing(EmbeddedVault(KeyRing(KeyStore.at(path), RootKey(bytes(range(32)))))) as vault:
            vault.upgrade(trust_rows=True)

    for _ in killed_at_every_step(work, stride=3):
        kills += 1
        (found,) = sql(path, "PRAGMA user_version")
        assert found in [(version,), (SCHEMA_VERSION,)]
        if found == (version,):
            assert content(path) == before
    assert kills > 10
    vault = open_vault()
    assert_everything_opens(vault, keys)
    # What was left by those who were killed is whole, or a draft.
    for backup in path.parent.glob(f"{path.name}.schema-*"):
        assert content(backup) == before


def test_nothing_is_upgraded_while_another_process_has_it_open(path: Path, vault: EmbeddedVault) -> None:
    """A process of the earlier release would go on to write rows as they were."""
    keys = load_keystore(2, path)
    before = content(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT id FROM vault").fetchall()  # It is idle now, and holds no transaction.

        with pytest.raises(UpgradeRefused, match="is in use by another process, and nothing was changed. Stop those"):
            vault.upgrade(trust_rows=True)
        assert other.execute("SELECT count(*) FROM vault").fetchone() == (1,)
    assert content(path) == before
    vault.upgrade(trust_rows=True)
    assert_everything_opens(vault, keys)


def test_a_failure_of_the_file_is_no_use_by_others(path: Path, vault: EmbeddedVault) -> None:
    load_keystore(2, path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4000)

    with pytest.raises(VaultUnavailable, match="is damaged"):
        vault.upgrade(trust_rows=True)


def test_nobody_opens_a_keystore_while_it_is_upgraded(
    path: Path, vault: EmbeddedVault, open_vault: Callable[..., EmbeddedVault], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_keystore(2, path)
    said: list[str] = []
    climb = steps.climb

    def climb_and_look(connection: sqlite3.Connection, location: object) -> None:
        climb(connection, location)
        with pytest.raises(VaultUnavailable) as caught:
            open_vault(timeout=0.01).create(KeyContext({"organization_id": "acme"}))
        said.append(str(caught.value))

    monkeypatch.setattr(upgrading, "climb", climb_and_look)
    vault.upgrade(trust_rows=True)

    assert len(said) == 1
    assert "is locked by another process" in said[0]


def test_a_process_of_the_earlier_release_is_refused_afterwards(path: Path, vault: EmbeddedVault) -> None:
    """It has no connection open, or there would have been no upgrade, and looks at the version as it opens one."""
    load_keystore(2, path)
    vault.upgrade(trust_rows=True)
    code = (
        "import sys\nfrom pathlib import Path\nfrom vault_fields.embedded.database import schema\n"
        "from vault_fields.embedded.managed.store import KeyStore\n"
        f"schema.SCHEMA_VERSION = {SCHEMA_VERSION - 1}\n"
        "KeyStore.at(Path(sys.argv[1])).vault_id()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)

    assert f"VaultUnavailable: The keystore {path} has schema version {SCHEMA_VERSION}" in done.stderr
    assert "Install the release that made it, or a later one" in done.stderr


def after_looking(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Something happens between the look at the version and the lock."""
    look = upgrading.schema_version

    def look_once(ring: KeyRing) -> int:
        monkeypatch.setattr(upgrading, "schema_version", look)
        version = look(ring)
        then()
        return version

    monkeypatch.setattr(upgrading, "schema_version", look_once)


def test_what_somebody_else_has_just_upgraded_is_left_alone(
    path: Path, vault: EmbeddedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_keystore(3, path)

    def upgrade() -> None:
        with closing(EmbeddedVault(KeyRing(KeyStore.at(path), RootKey(bytes(range(32)))))) as other:
            assert other.upgrade().backup is not None

    after_looking(monkeypatch, upgrade)
    assert vault.upgrade() == Upgrade(SCHEMA_VERSION, SCHEMA_VERSION)
    assert len(list(path.parent.glob("*.schema-3.*"))) == 1


def test_a_lock_that_fails_for_another_reason_is_not_use_by_others(
    path: Path, vault: EmbeddedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_keystore(3, path)
    after_looking(monkeypatch, path.with_name(f"{path.name}-wal").mkdir)

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 cannot be opened"):
        vault.upgrade()


def test_of_processes_that_upgrade_at_once_one_does(path: Path, vault: EmbeddedVault) -> None:
    keys = load_keystore(2, path)
    barrier, outcomes = threading.Barrier(4), []

    def work() -> None:
        each = EmbeddedVault(KeyRing(KeyStore.at(path), RootKey(bytes(range(32)))))
        barrier.wait()
        try:
            outcomes.append(each.upgrade(trust_rows=True).backup is not None)
        except VaultError as error:
            assert re.search("in use by another process|is locked", str(error)), error  # noqa: PT017
            outcomes.append(False)
        finally:
            each.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(outcomes) == 4
    assert outcomes.count(True) <= 1
    vault.upgrade(trust_rows=True)
    assert_everything_opens(vault, keys)
