import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.embedded.killing import killed_at_every_step
from vault_fields.embedded.database.schema import SCHEMA_VERSION
from vault_fields.embedded.maintenance.restore import RestoreRefused
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext

ACME = KeyContext({"organization_id": "acme"})
OTHER = KeyContext({"organization_id": "other"})
ITEM = ("organization_id", "acme")


@pytest.fixture
def key(vault: EmbeddedVault) -> DataKey:
    """A data key that the backup opens."""
    return vault.create(ACME)


@pytest.fixture
def backup(vault: EmbeddedVault, key: DataKey, tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    backup = tmp_path / "backups" / "vault.backup"
    vault.back_up(backup)
    return backup


def remove(path: Path) -> None:
    for file in path.parent.glob("vault.sqlite3*"):
        file.unlink()


def test_missing_keystore_is_put_back(path: Path, vault: EmbeddedVault, key: DataKey, backup: Path) -> None:
    vault.close()
    remove(path)

    snapshot, losses = vault.restore(backup)

    assert snapshot.keks == 1
    assert not losses
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext
    assert vault.create(OTHER)
    assert oct(path.stat().st_mode)[-3:] == "600"


def test_process_that_used_a_missing_keystore_has_to_be_restarted(
    path: Path, vault: EmbeddedVault, key: DataKey, backup: Path, open_vault: Callable[..., EmbeddedVault]
) -> None:
    remove(path)
    open_vault().restore(backup)
    vault.forget()

    with pytest.raises(VaultUnavailable, match="removed or replaced"):
        vault.decrypt(key.encrypted_keys)
    vault.close()
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_unchanged_keystore_is_restored_without_force(vault: EmbeddedVault, key: DataKey, backup: Path) -> None:
    _, losses = vault.restore(backup)

    assert not losses
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_newer_keystore_is_not_overwritten(vault: EmbeddedVault, key: DataKey, backup: Path) -> None:
    newer = vault.create(OTHER)

    with pytest.raises(RestoreRefused, match=r"vault.sqlite3 is newer than .*vault.backup. 1 key was made since"):
        vault.restore(backup)
    assert vault.decrypt(newer.encrypted_keys).plaintext == newer.plaintext


def test_force_overwrites_a_newer_keystore(vault: EmbeddedVault, key: DataKey, backup: Path) -> None:
    newer = vault.create(OTHER)

    _, losses = vault.restore(backup, force=True)

    assert losses.lost == 1
    with pytest.raises(VaultRefused):
        vault.decrypt(newer.encrypted_keys)
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


@pytest.mark.parametrize(
    "change",
    [
        lambda keks: keks.disable(*ITEM),
        lambda keks: keks.destroy(*ITEM, after=timedelta(days=1)),
        lambda keks: keks.destroy(*ITEM, after=timedelta(0)),
    ],
)
def test_withdrawn_key_is_not_brought_back_unasked(
    vault: EmbeddedVault, key: DataKey, backup: Path, change: Callable[[object], object]
) -> None:
    change(vault.keks)

    with pytest.raises(RestoreRefused, match="1 key was disabled, retired or destroyed since"):
        vault.restore(backup)
    with pytest.raises(KeyRevoked):
        vault.decrypt(key.encrypted_keys)

    vault.restore(backup, force=True)
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_retired_version_is_not_brought_back_unasked(vault: EmbeddedVault, key: DataKey, tmp_path: Path) -> None:
    vault.keks.rotate(*ITEM)
    vault.back_up(tmp_path / "backup")
    vault.keks.retire(*ITEM, before=2)

    with pytest.raises(RestoreRefused, match="1 key was disabled, retired"):
        vault.restore(tmp_path / "backup")


def test_backup_of_another_vault_needs_force(
    vault: EmbeddedVault, key: DataKey, tmp_path: Path, root_key: RootKey
) -> None:
    with closing(EmbeddedVault(KeyRing(KeyStore.at(tmp_path / "other.sqlite3"), root_key))) as other:
        foreign = other.create(ACME)
        other.back_up(tmp_path / "foreign")

    with pytest.raises(RestoreRefused, match=r"It is a backup of another vault\. 1 key"):
        vault.restore(tmp_path / "foreign")

    vault.restore(tmp_path / "foreign", force=True)
    assert vault.decrypt(foreign.encrypted_keys).plaintext == foreign.plaintext


def test_running_process_follows_within_a_second(
    path: Path, vault: EmbeddedVault, key: DataKey, backup: Path, root_key: RootKey
) -> None:
    """It neither hands out data keys under a KEK that is gone nor stumbles over the change."""
    now = 0.0
    ring = KeyRing(KeyStore.at(path), root_key, clock=lambda: now)
    with closing(EmbeddedVault(ring)) as running:
        lost = running.create(OTHER)
        vault.restore(backup, force=True)

        now = 1.0
        assert running.decrypt(key.encrypted_keys).plaintext == key.plaintext
        with pytest.raises(VaultRefused):
            running.decrypt(lost.encrypted_keys)
        made = running.create(OTHER)
    assert vault.decrypt(made.encrypted_keys).plaintext == made.plaintext


def test_events_are_not_undone(vault: EmbeddedVault, key: DataKey, backup: Path) -> None:
    vault.create(OTHER)

    vault.restore(backup, force=True)

    assert [event.data["key_name"] for event in vault.store.events.page("default").items] == [
        "organization_id=acme",
        "organization_id=other",
    ]


def test_events_of_a_missing_keystore_are_those_of_the_backup(
    path: Path, vault: EmbeddedVault, key: DataKey, backup: Path
) -> None:
    vault.create(OTHER)
    vault.close()
    remove(path)

    vault.restore(backup)

    assert [event.data["key_name"] for event in vault.store.events.page("default").items] == ["organization_id=acme"]


def test_backup_from_before_a_root_key_was_replaced_wants_that_one_too(
    path: Path, vault: EmbeddedVault, key: DataKey, backup: Path, root_key: RootKey
) -> None:
    new = RootKey(b"n" * 32)
    with closing(EmbeddedVault(KeyRing(KeyStore.at(path), new, former_root_keys=[root_key]))) as both:
        both.rotate_root_key()
        with (
            closing(EmbeddedVault(KeyRing(KeyStore.at(path), new))) as alone,
            pytest.raises(ImproperlyConfigured, match=f"{backup} was made with the root key of id {root_key.id}"),
        ):
            alone.restore(backup)
        both.restore(backup)
        assert both.rotate_root_key().rewrapped == 1


# Files that are no backups. Nothing is changed by any of them.


def test_truncated_or_damaged_backups_are_refused(vault: EmbeddedVault, key: DataKey, backup: Path) -> None:
    for number in range(20):
        vault.create(KeyContext({"organization_id": str(number)}))
    whole = backup.with_name("whole")
    vault.back_up(whole)
    sound = whole.read_bytes()
    before = vault.keks.get(*ITEM)
    attempts = [sound[:length] for length in range(0, len(sound), 4096)]
    attempts += [sound[:start] + os.urandom(2048) + sound[start + 2048 :] for start in range(0, len(sound), 4096)]
    refused = 0
    for content in attempts:
        whole.write_bytes(content)
        try:
            vault.restore(whole)
        except (VaultUnavailable, ImproperlyConfigured):
            refused += 1
        assert vault.keks.get(*ITEM) == before
    # Free pages, and those of indexes that nothing was found wrong with, do no harm.
    assert refused > len(attempts) * 0.6


def test_backup_that_does_not_exist_says_so(vault: EmbeddedVault, key: DataKey, tmp_path: Path) -> None:
    with pytest.raises(VaultUnavailable, match=r"nowhere cannot be opened"):
        vault.restore(tmp_path / "nowhere")


def test_backup_of_a_newer_release_is_refused(vault: EmbeddedVault, key: DataKey, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    with pytest.raises(VaultUnavailable, match=r"vault.backup has schema version"):
        vault.restore(backup)


def test_edited_backup_is_refused(vault: EmbeddedVault, key: DataKey, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("UPDATE kek SET item_value = 'other'")
        connection.commit()

    with pytest.raises(VaultUnavailable, match=r"vault.backup is damaged or was tampered with"):
        vault.restore(backup, force=True)


def test_missing_directory_is_a_wrong_setting(tmp_path: Path, root_key: RootKey, backup: Path) -> None:
    vault = EmbeddedVault(KeyRing(KeyStore.at(tmp_path / "missing" / "vault.sqlite3"), root_key))

    with pytest.raises(ImproperlyConfigured, match="its directory does not exist"):
        vault.restore(backup)


def test_log_without_its_keystore_is_in_the_way(path: Path, vault: EmbeddedVault, backup: Path) -> None:
    """SQLite would write what is in it into the restored file."""
    vault.close()
    path.unlink()
    path.with_name("vault.sqlite3-wal").write_bytes(b"a log")

    for call in (lambda: vault.restore(backup), lambda: vault.create(ACME)):
        with pytest.raises(VaultUnavailable, match="is missing, but its write-ahead log vault.sqlite3-wal is there"):
            call()
    assert not path.exists()


def test_keystore_that_appears_meanwhile_is_compared_with(
    path: Path, vault: EmbeddedVault, key: DataKey, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.close()
    aside = path.read_bytes()
    remove(path)

    def overtaken(target: Path, write: object) -> bool:
        path.write_bytes(aside)
        return False

    monkeypatch.setattr("vault_fields.embedded.maintenance.restore.publish", overtaken)
    _, losses = vault.restore(backup)

    assert not losses
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kill_9_at_any_step_leaves_the_one_keystore_or_the_other(
    path: Path, vault: EmbeddedVault, key: DataKey, backup: Path, open_vault: Callable[..., EmbeddedVault]
) -> None:
    newer = vault.create(OTHER)
    vault.close()
    before = path.read_bytes()
    outcomes = set()

    for _ in killed_at_every_step(lambda: open_vault().restore(backup, force=True)):
        now = open_vault()
        assert now.decrypt(key.encrypted_keys).plaintext == key.plaintext
        try:
            restored = not now.decrypt(newer.encrypted_keys)
        except VaultRefused:
            restored = True
        outcomes.add(restored)
        now.restore(backup, force=True)
        now.close()
        path.write_bytes(before)

    assert outcomes == {False, True}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kill_9_at_any_step_of_putting_back_leaves_a_whole_keystore_or_none(
    path: Path, vault: EmbeddedVault, key: DataKey, backup: Path, open_vault: Callable[..., EmbeddedVault]
) -> None:
    vault.close()
    remove(path)

    for _ in killed_at_every_step(lambda: open_vault().restore(backup)):
        now = open_vault()
        now.restore(backup)
        assert now.decrypt(key.encrypted_keys).plaintext == key.plaintext
        now.close()
        remove(path)
