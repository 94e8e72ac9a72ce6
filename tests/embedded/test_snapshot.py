import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.embedded.killing import killed_at_every_step
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import VaultRefused, VaultUnavailable
from vault_fields.keys import KeyContext

ACME = KeyContext({"organization_id": "acme"})


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    directory = tmp_path / "backups"
    directory.mkdir()
    return directory / "vault.backup"


def test_backup_is_a_keystore_that_opens(vault: EmbeddedVault, backup: Path, root_key: RootKey) -> None:
    key = vault.create(ACME)

    snapshot = vault.back_up(backup)

    assert (snapshot.vault_id, snapshot.keks, snapshot.keys) == (vault.store.vault_id(), 1, 1)
    assert str(snapshot).endswith("with 1 KEK; 1 key was opened with the root key, all well.")
    assert [file.name for file in backup.parent.iterdir()] == ["vault.backup"], "one file, and no draft"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(EmbeddedVault(KeyRing(KeyStore.at(backup), root_key))) as copy:
        assert copy.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_progress_of_a_backup_has_a_total(vault: EmbeddedVault, backup: Path) -> None:
    """Of a restore as well: the proof that every key opens is what takes its time."""
    for number in range(3):
        vault.create(KeyContext({"organization_id": str(number)}))
    told: list[object] = []

    @contextmanager
    def tell(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
        told.extend([title, count()])
        yield told.append

    vault.back_up(backup, progress=tell)
    assert told == ["Opening keys", 3, 1, 1, 1, "Verifying rows", 3, 1, 1, 1]
    vault.restore(backup, progress=tell)
    assert told[10:] == told[:10]


def test_backup_of_an_unused_vault_is_one_too(vault: EmbeddedVault, backup: Path) -> None:
    assert vault.back_up(backup).keks == 0


def test_backup_does_not_replace_anything(vault: EmbeddedVault, backup: Path) -> None:
    backup.write_text("something")

    with pytest.raises(FileExistsError, match=r"vault.backup exists already"):
        vault.back_up(backup)
    assert backup.read_text() == "something"


def test_backup_does_not_replace_what_appears_meanwhile(vault: EmbeddedVault, backup: Path) -> None:
    """As of another backup that was begun at the same time."""
    vault.create(ACME)

    @contextmanager
    def meanwhile(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
        backup.write_text("something")
        yield lambda done: None

    with pytest.raises(FileExistsError, match=r"vault.backup exists already"):
        vault.back_up(backup, progress=meanwhile)
    assert backup.read_text() == "something"
    assert list(backup.parent.iterdir()) == [backup]


def test_copy_of_the_file_lacks_what_is_in_the_log(
    path: Path, vault: EmbeddedVault, tmp_path: Path, root_key: RootKey
) -> None:
    """Which is why nobody shall type ``cp``."""
    vault.create(ACME)
    vault.close()
    running = KeyRing(KeyStore.at(path), root_key)
    with closing(EmbeddedVault(running)) as busy:
        key = busy.create(KeyContext({"organization_id": "newest"}))
        (tmp_path / "copy").write_bytes(path.read_bytes())
        busy.back_up(tmp_path / "backup")
    for name, opens in (("copy", False), ("backup", True)):
        with closing(EmbeddedVault(KeyRing(KeyStore.at(tmp_path / name), root_key))) as copy:
            if opens:
                assert copy.decrypt(key.encrypted_keys).plaintext == key.plaintext
            else:
                with pytest.raises(VaultRefused):
                    copy.decrypt(key.encrypted_keys)


def test_directory_that_is_missing_says_so(vault: EmbeddedVault, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"missing/backup cannot be created: its directory does not exist"):
        vault.back_up(tmp_path / "missing" / "backup")


def test_backup_in_use_is_of_one_moment(
    vault: EmbeddedVault, open_vault: Callable[..., EmbeddedVault], tmp_path: Path, root_key: RootKey
) -> None:
    """While others make keys as fast as they can: whatever was handed out before opens from the backup."""
    stop = threading.Event()
    handed_out = []

    def busy() -> None:
        other, number = open_vault(), 0
        while not stop.is_set():
            handed_out.append(other.create(KeyContext({"a": str(number), "b": str(number)})))
            number += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for number in range(3):
            before = list(handed_out)
            vault.back_up(tmp_path / f"backup{number}")
            with closing(EmbeddedVault(KeyRing(KeyStore.at(tmp_path / f"backup{number}"), root_key))) as copy:
                for key in before:
                    assert copy.decrypt(key.encrypted_keys).plaintext == key.plaintext
    finally:
        stop.set()
        thread.join()


def test_damaged_keystore_is_not_backed_up(path: Path, vault: EmbeddedVault, backup: Path) -> None:
    """Page by page, with random bytes in it: either what is wrong is said, or the page was a free one."""
    for number in range(20):
        vault.create(KeyContext({"organization_id": str(number)}))
    vault.close()
    sound = path.read_bytes()
    refused = 0
    for page in range(1, len(sound) // 4096):
        damaged = bytearray(sound)
        damaged[page * 4096 : page * 4096 + 2048] = b"\xa5" * 2048
        path.write_bytes(damaged)
        try:
            vault.back_up(backup)
        except VaultUnavailable as error:
            assert "damaged" in str(error)  # noqa: PT017
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
        vault.close()
        assert not backup.exists() or not backup.unlink()
    assert refused > 5


def test_keystore_with_a_broken_index_is_not_backed_up(path: Path, vault: EmbeddedVault, backup: Path) -> None:
    """Every page can be read, and every key opens; but a look by item would miss one."""
    vault.create(ACME)
    vault.close()
    with closing(sqlite3.connect(path)) as connection:
        [table, index] = connection.execute(
            "SELECT sql, rootpage FROM sqlite_schema WHERE name IN ('kek', 'sqlite_autoindex_kek_2') ORDER BY type DESC"
        ).fetchall()
        assert "UNIQUE (environment" in table[0]
    content = bytearray(path.read_bytes())
    # The number of entries in the index.
    start = (index[1] - 1) * 4096
    content[start + 3 : start + 5] = b"\x00\x00"
    path.write_bytes(content)

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 is damaged: "):
        vault.back_up(backup)


def test_key_that_does_not_open_is_no_backup(path: Path, vault: EmbeddedVault, backup: Path) -> None:
    vault.create(ACME)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE kek_version SET wrapped = zeroblob(72)")
        connection.commit()

    with pytest.raises(VaultUnavailable, match="the key for the context item 'organization_id' does not open"):
        vault.back_up(backup)
    assert list(backup.parent.iterdir()) == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kill_9_at_any_step_leaves_a_whole_backup_or_none(
    vault: EmbeddedVault, open_vault: Callable[..., EmbeddedVault], backup: Path, root_key: RootKey
) -> None:
    key = vault.create(ACME)
    steps = 0

    for step in killed_at_every_step(lambda: open_vault().back_up(backup)):
        if backup.exists():
            with closing(EmbeddedVault(KeyRing(KeyStore.at(backup), root_key))) as copy:
                assert copy.decrypt(key.encrypted_keys).plaintext == key.plaintext
            backup.unlink()
        vault.back_up(backup)
        backup.unlink()
        steps = step

    assert steps > 10
