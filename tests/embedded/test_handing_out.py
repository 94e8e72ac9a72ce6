"""A key that is handed out opens, whatever is done to the keystore while it is made."""

import base64
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.keystores import make_keystore
from vault_fields.backends.local import LocalVault
from vault_fields.byok import build_provider
from vault_fields.embedded.customer.lifecycle import CustomerKeyLifecycle
from vault_fields.embedded.customer.store import CustomerKeyStore
from vault_fields.embedded.customer.usable import CustomerKeys
from vault_fields.embedded.keywrapper import KeyWrapper
from vault_fields.embedded.managed.keyring import ATTEMPTS, KeyRing
from vault_fields.embedded.managed.rootkey import RootKey, generate_root_key
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.managed.tags import VaultReplaced
from vault_fields.embedded.objects import StoredObjects
from vault_fields.embedded.objects.store import ObjectStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, ObjectMissing, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext

ACME = KeyContext({"organization_id": "acme"})
NEWER = KeyContext({"organization_id": "newer"})
ITEM = ("organization_id", "newer")
ACME_ITEM = ("organization_id", "acme")
OpenVault = Callable[..., EmbeddedVault]


@pytest.fixture
def running(path: Path, root_key: RootKey) -> Iterator[EmbeddedVault]:
    """A process whose clock stands still: what it holds it believes for ever."""
    ring = KeyRing(KeyStore.at(path), root_key, clock=lambda: 0.0)
    with closing(EmbeddedVault(ring)) as running:
        yield running


@pytest.fixture
def foreign(tmp_path: Path, root_key: RootKey) -> Path:
    """A backup of another vault, under the same root key."""
    with closing(EmbeddedVault(KeyRing(KeyStore.at(tmp_path / "other.sqlite3"), root_key))) as other:
        other.create(NEWER)
        other.back_up(tmp_path / "foreign")
    return tmp_path / "foreign"


@pytest.fixture
def customers(tmp_path: Path) -> dict:
    """The settings of a customer's key."""
    file = tmp_path / "customer.key"
    file.touch(0o600)
    file.write_bytes(secrets.token_bytes(32))
    return {"provider": "file", "settings": {"path": str(file)}}


@pytest.fixture
def backup(vault: EmbeddedVault, tmp_path: Path) -> Path:
    """One that does not have the key of the newer item."""
    vault.create(ACME)
    backup = tmp_path / "backup"
    vault.back_up(backup)
    return backup


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], *, after: bool, times: int = 1) -> None:
    """Do ``work`` once a process has its KEKs: before it wraps a data key under them, or after that."""
    wrap, left = KeyWrapper.wrap, [times]

    def interrupted(self: KeyWrapper, *args: object, **options: object) -> DataKey:
        is_due, left[0] = left[0] > 0, left[0] - 1
        if is_due and not after:
            work()
        key = wrap(self, *args, **options)  # type: ignore[arg-type]
        if is_due and after:
            work()
        return key

    monkeypatch.setattr(KeyWrapper, "wrap", interrupted)


CALLS = {
    "create": lambda vault, encrypted_keys: vault.create(NEWER),
    "rekey": lambda vault, encrypted_keys: vault.rekey(encrypted_keys, NEWER),
}


@pytest.mark.parametrize("after", [False, True], ids=["before it is wrapped", "after it is wrapped"])
@pytest.mark.parametrize("call", CALLS)
def test_restore_while_a_key_is_made(
    running: EmbeddedVault, open_vault: OpenVault, backup: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: bool
) -> None:
    encrypted_keys = running.create(ACME).encrypted_keys
    running.create(NEWER)
    other = open_vault()
    meanwhile(monkeypatch, lambda: other.restore(backup, force=True), after=after)

    key = CALLS[call](running, encrypted_keys)

    assert open_vault().decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_restore_since_the_last_look(running: EmbeddedVault, open_vault: OpenVault, backup: Path) -> None:
    running.create(NEWER)
    open_vault().restore(backup, force=True)

    key = running.create(NEWER)

    assert open_vault().decrypt(key.encrypted_keys).plaintext == key.plaintext


@pytest.mark.parametrize("after", [False, True], ids=["before it is wrapped", "after it is wrapped"])
def test_another_vault_is_restored_while_a_key_is_made(
    running: EmbeddedVault, open_vault: OpenVault, foreign: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    running.create(NEWER)
    meanwhile(monkeypatch, lambda: open_vault().restore(foreign, force=True), after=after)

    key = running.create(NEWER)

    assert open_vault().decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_another_vault_is_noticed_while_a_thread_is_about_to_wrap(
    running: EmbeddedVault, open_vault: OpenVault, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the KEKs of the vault before, and hands out nothing that is wrapped under them."""
    barrier, keys = threading.Barrier(2), list[DataKey]()
    associated = KeyWrapper._associated_data

    def stalled(*args: Any) -> Any:
        if threading.current_thread() is thread and not keys:
            monkeypatch.undo()
            barrier.wait(60)
            barrier.wait(60)
        return associated(*args)

    running.create(NEWER)
    monkeypatch.setattr(KeyWrapper, "_associated_data", stalled)
    thread = threading.Thread(target=lambda: keys.append(running.create(NEWER)))
    thread.start()
    barrier.wait(60)
    open_vault().restore(foreign, force=True)
    keys.append(running.create(ACME))
    barrier.wait(60)
    thread.join(60)

    assert len(keys) == 2
    for key in keys:
        assert open_vault().decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_who_looked_before_another_vault_was_restored_does_not_bring_the_former_one_back(
    running: EmbeddedVault, open_vault: OpenVault, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that has read the former vault's id, and is slow to say so, while others go on."""
    former = running.create(NEWER)
    running.forget()
    has_read, go_on, keys = threading.Event(), threading.Event(), list[DataKey]()
    mark, refused = KeyStore.mark, list[object]()

    def decrypt_former() -> None:
        with pytest.raises(VaultRefused) as caught:
            running.decrypt(former.encrypted_keys)
        refused.append(caught.value)

    def slow(self: KeyStore) -> tuple[str, str]:
        found = mark(self)
        if threading.current_thread() is slower and not has_read.is_set():
            has_read.set()
            go_on.wait(60)
        return found

    monkeypatch.setattr(KeyStore, "mark", slow)
    slower = threading.Thread(target=decrypt_former)
    slower.start()
    has_read.wait(60)
    open_vault().restore(foreign, force=True)
    other = threading.Thread(target=lambda: keys.append(running.create(ACME)))
    other.start()
    # It may be kept waiting for the slower one, or not.
    other.join(0.5)
    go_on.set()
    for thread in (slower, other):
        thread.join(60)

    [key] = keys
    assert refused
    assert running.decrypt(key.encrypted_keys).plaintext == key.plaintext
    for key in [*keys, running.create(NEWER)]:
        assert running.decrypt(key.encrypted_keys).plaintext == key.plaintext
        assert open_vault().decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_what_the_restored_vault_has_made_opens_at_the_first_look(
    running: EmbeddedVault, open_vault: OpenVault, foreign: Path
) -> None:
    running.create(NEWER)
    open_vault().restore(foreign, force=True)
    key = open_vault().create(NEWER)
    running.forget()

    assert running.decrypt(key.encrypted_keys).plaintext == key.plaintext


@pytest.mark.parametrize("change", ["disable", "destroy"])
def test_key_that_is_withdrawn_meanwhile_wraps_nothing(
    running: EmbeddedVault, vault: EmbeddedVault, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    running.create(NEWER)
    changes = {
        "disable": lambda: vault.keks.disable(*ITEM),
        "destroy": lambda: vault.keks.destroy(*ITEM, after=timedelta(0)),
    }
    meanwhile(monkeypatch, changes[change], after=True)

    with pytest.raises(KeyRevoked):
        running.create(NEWER)


def test_rotation_meanwhile_wraps_under_the_new_version(
    running: EmbeddedVault, vault: EmbeddedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.create(NEWER)
    meanwhile(monkeypatch, lambda: vault.keks.rotate(*ITEM), after=True)

    key = running.create(NEWER)
    vault.keks.retire(*ITEM, before=2)

    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_change_of_another_key_costs_no_second_wrapping(
    running: EmbeddedVault, vault: EmbeddedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.create(NEWER)
    vault.create(ACME)
    wrapped = []
    wrap = KeyWrapper.wrap

    def counted(self: KeyWrapper, *args: object, **options: object) -> DataKey:
        wrapped.append(args)
        vault.keks.rotate(*ACME_ITEM)
        return wrap(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyWrapper, "wrap", counted)
    running.create(NEWER)

    assert len(wrapped) == 1


def test_key_that_changes_all_the_time_is_unavailable(
    running: EmbeddedVault, vault: EmbeddedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.create(NEWER)
    meanwhile(monkeypatch, lambda: vault.keks.rotate(*ITEM), after=True, times=ATTEMPTS)

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 changed 3 times .* Try again"):
        running.create(NEWER)
    assert running.create(NEWER), "nobody changes it any more"


def test_root_key_that_is_replaced_meanwhile(
    path: Path, running: EmbeddedVault, root_key: RootKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not have the new one is told so, and hands out nothing."""
    running.create(NEWER)
    new = RootKey(b"n" * 32)
    with closing(EmbeddedVault(KeyRing(KeyStore.at(path), new, former_root_keys=[root_key]))) as rotating:
        meanwhile(monkeypatch, rotating.rotate_root_key, after=True)

        with pytest.raises(ImproperlyConfigured, match="wrong root key"):
            running.create(NEWER)
        assert rotating.create(NEWER)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_keystore_that_is_gone_meanwhile(
    path: Path, running: EmbeddedVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    running.create(NEWER)

    def gone() -> None:
        if replaced:
            (tmp_path / "another").write_bytes(path.read_bytes())
            (tmp_path / "another").rename(path)
        else:
            path.unlink()

    meanwhile(monkeypatch, gone, after=True)
    with pytest.raises(VaultUnavailable, match="removed or replaced"):
        running.create(NEWER)


# What is stored in the keystore itself, for the keystore that is there when it is stored.


STORED = {
    "add": lambda objects, object_id: objects.create("other", "new", ACME),
    "replace": lambda objects, object_id: objects.update(object_id, "new"),
    "rewrap": lambda objects, object_id: objects.rewrap(),
}


def overtaken(monkeypatch: pytest.MonkeyPatch, store: str, work: Callable[[], object], *, times: int = 1) -> None:
    """Do ``work`` once the keys of an object were handed out, and before it is in the keystore."""
    original, left = getattr(ObjectStore, store), [times]

    def late(*args: object) -> object:
        if left[0]:
            left[0] -= 1
            work()
        return original(*args)

    monkeypatch.setattr(ObjectStore, store, late)


def values(vault: EmbeddedVault) -> set[str]:
    objects = StoredObjects(vault)
    return {objects.read(each.id).value for each in objects.page().items}


@pytest.mark.parametrize(
    ("store", "error", "expected"),
    [("add", None, {"old", "new"}), ("replace", None, {"new"}), ("rewrap", VaultReplaced, {"old"})],
)
def test_objects_are_stored_under_keys_that_a_restored_backup_has(
    running: EmbeddedVault,
    vault: EmbeddedVault,
    open_vault: OpenVault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
    error: type[Exception] | None,
    expected: set[str],
) -> None:
    old = StoredObjects(vault).create("name", "old", ACME)
    vault.back_up(tmp_path / "backup")
    vault.keks.rotate(*ACME_ITEM)
    overtaken(monkeypatch, store, lambda: open_vault().restore(tmp_path / "backup", force=True))

    with pytest.raises(error, match="Try again") if error else nullcontext():
        STORED[store](StoredObjects(running), old.id)

    assert values(open_vault()) == expected


@pytest.mark.parametrize(
    ("store", "error", "expected"),
    [("add", None, {"new"}), ("replace", ObjectMissing, set()), ("rewrap", VaultReplaced, set())],
)
def test_objects_are_stored_for_the_vault_that_is_there(
    running: EmbeddedVault,
    vault: EmbeddedVault,
    open_vault: OpenVault,
    foreign: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
    error: type[Exception] | None,
    expected: set[str],
) -> None:
    old = StoredObjects(vault).create("name", "old", ACME)
    overtaken(monkeypatch, store, lambda: open_vault().restore(foreign, force=True))

    with pytest.raises(error) if error else nullcontext():
        STORED[store](StoredObjects(running), old.id)

    assert values(open_vault()) == expected


@pytest.mark.parametrize("store", ["add", "replace"])
def test_object_whose_key_is_rotated_and_lost_all_the_time_is_unavailable(
    running: EmbeddedVault,
    vault: EmbeddedVault,
    open_vault: OpenVault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
) -> None:
    old = StoredObjects(vault).create("name", "old", ACME)
    vault.back_up(tmp_path / "backup")
    vault.keks.rotate(*ACME_ITEM)

    def lost() -> None:
        vault.restore(tmp_path / "backup", force=True)

    def rotated(*args: object) -> DataKey:
        vault.keks.rotate(*ACME_ITEM)
        return original(*args)  # type: ignore[arg-type]

    original = EmbeddedVault.new_data_key
    monkeypatch.setattr(EmbeddedVault, "new_data_key", rotated)
    overtaken(monkeypatch, store, lost, times=ATTEMPTS)

    with pytest.raises(VaultUnavailable, match="changed 3 times while an object was being stored"):
        STORED[store](StoredObjects(running), old.id)
    assert values(open_vault()) == {"old"}


def test_object_under_a_customers_key_that_is_deleted_meanwhile(
    path: Path, customers: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = generate_root_key()
    make_keystore(path, text)
    with (
        closing(LocalVault(path=path, root_key=text)) as running,
        closing(LocalVault(path=path, root_key=text)) as other,
    ):
        other.byok.configure(*ACME_ITEM, **customers)
        other.byok.verify(*ACME_ITEM)
        other.byok.activate(*ACME_ITEM)
        overtaken(monkeypatch, "add", lambda: other.byok.delete(*ACME_ITEM))

        StoredObjects(running.service).create("name", "value", ACME)

        assert values(other.service) == {"value"}, "under the managed key"


def test_new_kek_is_bound_to_the_vault_that_is_there(
    running: EmbeddedVault, open_vault: OpenVault, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bound to the one before, it would stand in the keystore and never open: the item could not be used any more."""
    running.create(ACME)
    add, done = KeyStore.add, []

    def late(*args: object) -> object:
        if not done:
            done.append(open_vault().restore(foreign, force=True))
        return add(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyStore, "add", late)
    key = running.create(KeyContext({"organization_id": "yet another"}))

    assert open_vault().decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_new_customers_key_is_bound_to_the_vault_that_is_there(
    running: EmbeddedVault, open_vault: OpenVault, foreign: Path, customers: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.create(ACME)
    keys = CustomerKeys(running._ring, build_provider)
    byok = CustomerKeyLifecycle(keys, "default")
    add, done = CustomerKeyStore.add, []

    def late(*args: object) -> object:
        if not done:
            done.append(open_vault().restore(foreign, force=True))
        return add(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(CustomerKeyStore, "add", late)
    with pytest.raises(VaultReplaced, match="Another vault was restored into the keystore .* Try again"):
        byok.configure(*ITEM, **customers)
    byok.configure(*ITEM, **customers)

    assert byok.verify(*ITEM).state == "verified"


# With processes.

WORKER = """
import sys
from contextlib import closing
from tests.keystores import make_keystore
from vault_fields.backends.local import LocalVault
from vault_fields.keys import KeyContext

newer = KeyContext({"organization_id": "newer"})
with closing(LocalVault(path=sys.argv[1], root_key=sys.argv[2])) as vault:
    for line in sys.stdin:
        print(vault.create_data_key(newer).encrypted_keys, flush=True)
"""


def test_running_processes_hand_out_nothing_that_a_restore_took_away(
    path: Path, root_key: RootKey, vault: EmbeddedVault, backup: Path, open_vault: OpenVault
) -> None:
    """Each has made a key under a KEK that the backup does not have, and is asked for more as the restore ends."""
    command = [sys.executable, "-c", WORKER, str(path), base64.b64encode(bytes(range(32))).decode()]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, bufsize=1))
            for _ in range(2)
        ]

        def keys() -> list[str]:
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("create\n")
            return [worker.stdout.readline().strip() for worker in workers]  # type: ignore[union-attr]

        lost = keys()
        vault.restore(backup, force=True)
        now = open_vault()
        for encrypted_keys in lost:
            with pytest.raises(VaultRefused):
                now.decrypt(encrypted_keys)
        for encrypted_keys in [*keys(), *keys()]:
            assert now.decrypt(encrypted_keys)
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        assert [worker.wait() for worker in workers] == [0, 0]
