import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.database import failures
from vault_fields.embedded.database.connections import FileConnections
from vault_fields.embedded.database.schema import SCHEMA_VERSION
from vault_fields.embedded.managed.store import ENABLED, KekRecord, KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import VaultUnavailable
from vault_fields.keys import KeyContext

ACME = KeyContext({"organization_id": "acme"})
OTHER = KeyContext({"organization_id": "other"})


def record(number: int = 1, **changes: object) -> KekRecord:
    fields: dict[str, object] = {
        "id": bytes([number]) * 16,
        "version": 1,
        "environment": "default",
        "item_name": "organization_id",
        "item_value": "acme",
        "state": ENABLED,
        "root_key_id": "root",
        "wrapped": b"wrapped",
    }
    return KekRecord(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def store(path: Path) -> Iterator[KeyStore]:
    with closing(KeyStore.at(path)) as store:
        yield store


@pytest.fixture
def rooted(store: KeyStore) -> KeyStore:
    """With the root key that the records here name."""
    store.adopt_root_key("root")
    return store


def sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            rows += connection.execute(statement).fetchall()
    return rows


# What is stored.


def test_building_a_store_opens_nothing(path: Path) -> None:
    KeyStore.at(path)

    assert not path.exists()


def test_second_kek_of_an_item_is_the_first(rooted: KeyStore) -> None:
    first = rooted.add(record(1))

    assert rooted.add(record(2)) == first == record(1)
    assert rooted.current("default", "organization_id", "acme") == first
    assert rooted.find(bytes([2]) * 16, 1) is None


def test_versions_of_a_kek_stand_side_by_side(rooted: KeyStore) -> None:
    rooted.add(record(1))
    rooted.add(record(1, version=2))

    assert rooted.current("default", "organization_id", "acme") == record(1, version=2)
    assert rooted.find(bytes([1]) * 16, 1) == record(1)


def test_unknown_item_has_no_kek(rooted: KeyStore) -> None:
    rooted.add(record(1))

    assert rooted.current("default", "organization_id", "ACME") is None
    assert rooted.current("staging", "organization_id", "acme") is None


def test_first_root_key_is_adopted_and_no_other(store: KeyStore) -> None:
    assert store.root_key_ids() == []
    assert store.adopt_root_key("first") == ["first"]
    assert store.adopt_root_key("second") == ["first"]


def test_vault_id_stays(path: Path, store: KeyStore) -> None:
    name = store.vault_id()
    store.close()

    assert store.vault_id() == name
    with closing(KeyStore.at(path)) as again:
        assert again.vault_id() == name


def test_no_key_material_is_in_the_file(path: Path, vault: EmbeddedVault) -> None:
    """Neither of the data key nor of the KEK."""
    key = vault.create(ACME)
    kek = vault._ring.for_item("default", "organization_id", "acme")
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())

    assert b"organization_id" in stored
    assert key.plaintext not in stored
    assert kek.id in stored
    assert repr(kek) == f"Kek(id={kek.id!r}, version=1, environment='default')"


def test_files_are_for_their_owner_only_whatever_the_umask(path: Path, rooted: KeyStore) -> None:
    umask = os.umask(0)
    try:
        rooted.add(record())
        modes = {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in path.parent.iterdir()}
    finally:
        os.umask(umask)

    assert modes == dict.fromkeys(("vault.sqlite3", "vault.sqlite3-wal", "vault.sqlite3-shm"), "0o600")


def test_commits_wait_for_the_disk(path: Path, store: KeyStore) -> None:
    with store.connections.use() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_restored_backup_goes_back_to_the_write_ahead_log(path: Path, rooted: KeyStore) -> None:
    rooted.add(record())
    sql(path, f"VACUUM INTO '{path}.backup'")
    rooted.close()
    Path(f"{path}.backup").replace(path)

    assert rooted.current("default", "organization_id", "acme") == record()
    assert sql(path, "PRAGMA journal_mode") == [("wal",)]


# What goes wrong with the file. Each says so, names the file and leaves it as it was.


def test_newer_schema_is_refused_and_nothing_is_written(path: Path, rooted: KeyStore) -> None:
    rooted.add(record())
    rooted.close()
    sql(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}", "PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 has schema version \d; this release .* works with \d"):
        rooted.current("default", "organization_id", "acme")

    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be looked at" * 40])
def test_file_that_is_no_keystore_is_refused_and_stays(path: Path, store: KeyStore, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(ImproperlyConfigured, match=r"vault.sqlite3 is not a keystore. Correct the path"):
        store.add(record())

    assert path.read_bytes() == content


def test_database_of_the_project_is_refused_and_stays(path: Path, store: KeyStore) -> None:
    sql(path, "CREATE TABLE auth_user (id)")
    before = path.read_bytes()

    with pytest.raises(ImproperlyConfigured, match="is not a keystore"):
        store.add(record())

    assert path.read_bytes() == before


def test_damage_in_the_names_that_sqlite_quotes_is_an_error_of_this_package(path: Path, rooted: KeyStore) -> None:
    """Its messages then hold bytes that are not UTF-8, and the sqlite3 module raises ``UnicodeDecodeError``."""
    rooted.connections.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    sound = path.read_bytes()
    statements = [found.start(1) for found in re.finditer(b"CRE(ATE) ", sound)]
    assert len(statements) > 5
    for position in statements:
        path.write_bytes(sound[:position] + b"\xff" + sound[position + 1 :])
        store = KeyStore.at(path)
        with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 is damaged. Restore it from a backup"):
            store.current("default", "organization_id", "acme")
        store.connections.close()


def test_damaged_keystore_says_so(path: Path, rooted: KeyStore) -> None:
    rooted.add(record())
    rooted.close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 is damaged. Restore it from a backup"):
        rooted.current("default", "organization_id", "acme")


def test_missing_directory_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="its directory does not exist"):
        KeyStore.at(tmp_path / "missing" / "vault.sqlite3").add(record())


def test_file_in_place_of_the_directory_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ImproperlyConfigured, match="its directory does not exist"):
        KeyStore.at(tmp_path / "file" / "vault.sqlite3").add(record())


def test_directory_in_place_of_the_file_says_so(path: Path, store: KeyStore) -> None:
    path.mkdir()

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 cannot be opened. It must be a file"):
        store.add(record())


def test_dangling_link_in_place_of_the_file_says_so(path: Path, store: KeyStore) -> None:
    path.symlink_to(path.with_name("nowhere"))

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 cannot be opened"):
        store.add(record())


def test_locked_keystore_says_so_after_the_timeout(path: Path) -> None:
    with closing(KeyStore.at(path, timeout=0.05)) as store:
        store.adopt_root_key("root")
        store.add(record(1))
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(VaultUnavailable, match="is locked by another process"):
            store.add(record(2, item_value="other"))
        assert store.current("default", "organization_id", "acme") == record(1), "reading goes on"
        other.close()
        assert store.add(record(2, item_value="other")) == record(2, item_value="other")


def test_full_disk_says_so_and_nothing_is_written(path: Path, rooted: KeyStore) -> None:
    rooted.add(record(1))
    with rooted.connections.use() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(VaultUnavailable, match=r"is on a full disk; nothing was written. Free some space"):
        rooted.add(record(2, item_value="other", wrapped=bytes(100_000)))

    # The connection that failed was dropped, and with it the transaction and the limit.
    assert rooted.current("default", "organization_id", "other") is None
    assert rooted.add(record(2, item_value="other")) == record(2, item_value="other")


def test_write_that_is_refused_for_another_reason_quotes_sqlite(rooted: KeyStore) -> None:
    rooted.add(record(1))

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 failed: UNIQUE constraint failed"):
        rooted.add(record(1, item_value="other"))


def test_error_of_the_module_itself_is_translated_too(path: Path) -> None:
    assert "failed: closed." in str(failures.from_sqlite(sqlite3.ProgrammingError("closed"), path))


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, "is on a full disk"), (30, "is read-only"), (13, "is read-only"), (5, "failed: "), (None, "failed: ")],
)
def test_errors_of_the_operating_system_say_what_to_do(path: Path, number: int | None, words: str) -> None:
    error = OSError("something") if number is None else OSError(number, os.strerror(number))

    translated = failures.from_os(error, path)

    assert isinstance(translated, VaultUnavailable)
    assert f"{path} {words}" in str(translated)


def as_nobody(code: str, *arguments: str) -> str:
    """Run Python without any privileges, which root has even over files of mode 0444."""
    drop = "import os; os.getuid() == 0 and (os.setgroups([]), os.setgid(65534), os.setuid(65534))\n"
    # Nobody may not be allowed to read Python's own library either, so everything is imported beforehand.
    preload = (
        "import sys\nfrom pathlib import Path\nfrom vault_fields.embedded.managed.store import KekRecord, KeyStore\n"
        "Path('/').as_uri()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", preload + drop + code, *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


READ_OR_ADD = """
store = KeyStore.at(Path(sys.argv[1]))
try:
    store.add(KekRecord(b'2' * 16, 1, 'default', 'organization_id', 'other', 'enabled', 'root', b'wrapped'))
except Exception as error:
    print(type(error).__name__, error)
store.close()
"""


@pytest.fixture
def public(path: Path) -> Iterator[Path]:
    """The directory of the keystore, which anyone can enter."""
    entered = [parent for parent in path.parents if parent.stat().st_uid == os.getuid() and len(parent.parts) > 2]
    modes = [(parent, stat.S_IMODE(parent.stat().st_mode)) for parent in entered]
    for parent, mode in modes:
        parent.chmod(mode | 0o555)
    yield path.parent
    for parent, mode in modes:
        parent.chmod(mode | 0o700)


def test_read_only_file_says_so(path: Path, rooted: KeyStore, public: Path) -> None:
    rooted.add(record())
    rooted.close()
    path.chmod(0o444)
    public.chmod(0o777)

    assert "VaultUnavailable The keystore" in (said := as_nobody(READ_OR_ADD, str(path)))
    assert "is read-only for this process. Give it write access" in said
    assert rooted.current("default", "organization_id", "other") is None


def test_read_only_directory_says_so(path: Path, public: Path) -> None:
    public.chmod(0o555)

    said = as_nobody(READ_OR_ADD, str(path))

    assert f"VaultUnavailable {path} is read-only for this process" in said
    assert list(public.iterdir()) == []


# A file that goes away under a running process.


def test_keystore_that_was_removed_is_not_written_to(path: Path, vault: EmbeddedVault) -> None:
    """SQLite would go on writing to the file without a name, and what it holds would be gone with the process."""
    vault.create(ACME)
    for file in path.parent.iterdir():
        file.unlink()

    with pytest.raises(VaultUnavailable, match="was removed or replaced while this process was using it"):
        vault.create(OTHER)
    assert not path.exists()


def test_keystore_that_was_replaced_is_refused_until_the_vault_is_opened_again(
    path: Path, vault: EmbeddedVault, open_vault: Callable[..., EmbeddedVault]
) -> None:
    key = vault.create(ACME)
    sql(path, f"VACUUM INTO '{path}.copy'")
    Path(f"{path}.copy").replace(path)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()

    with pytest.raises(VaultUnavailable, match="removed or replaced"):
        vault.create(OTHER)
    vault.close()
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_draft_of_a_killed_process_is_in_nobodys_way(path: Path, rooted: KeyStore) -> None:
    path.with_name(".vault.sqlite3.0123456789abcdef").write_bytes(b"half a keystore")

    assert rooted.add(record()) == record()


def test_only_one_file_is_left_after_creation(path: Path, rooted: KeyStore) -> None:
    rooted.add(record())
    rooted.close()

    assert [file.name for file in path.parent.iterdir()] == ["vault.sqlite3"]


def test_idle_connections_are_used_again(path: Path) -> None:
    with closing(FileConnections(path)) as connections:
        with connections.use() as first, connections.use() as second:
            assert first is not second
        with connections.use() as third:
            assert third in (first, second)


# In memory.


def test_in_memory_store_survives_an_error_and_close() -> None:
    store = KeyStore.in_memory()
    store.adopt_root_key("root")
    store.add(record(1))

    with pytest.raises(VaultUnavailable, match=r"The keystore in memory failed: UNIQUE constraint failed: kek\.id"):
        store.add(record(1, item_value="other"))
    with pytest.raises(RuntimeError), store.connections.use():
        raise RuntimeError
    store.close()

    assert store.location == "in memory"
    assert store.current("default", "organization_id", "acme") == record(1)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER other AFTER UPDATE OF tag ON kek BEGIN UPDATE kek SET state = 'enabled' WHERE id = new.id; END",
        "DROP TRIGGER kek_updated",
        "DROP INDEX object_of_environment",
        "CREATE TABLE other (id TEXT)",
    ],
)
def test_tables_and_triggers_of_somebody_else_are_refused(
    path: Path, open_vault: Callable[..., EmbeddedVault], statement: str
) -> None:
    """A trigger changes rows as they are written, and the change would be authenticated with them."""
    vault = open_vault()
    vault.create(KeyContext({"organization_id": "acme"}))
    vault.store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()

    with pytest.raises(VaultUnavailable, match="has other tables, indexes or triggers than a release makes"):
        open_vault().create(KeyContext({"organization_id": "acme"}))
