"""What must hold across processes: kill -9, races for one item, fork, and Django's transactions."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection, transaction

from vault_fields.embedded.blob import EncryptedKeys
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.keys import DataKey, KeyContext

ACME = KeyContext({"organization_id": "acme"})

VAULT_IN_A_PROCESS = """
import os, sys, time
from pathlib import Path
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.keys import KeyContext

vault = EmbeddedVault(KeyRing(KeyStore.at(Path(sys.argv[1]), timeout=30), RootKey(bytes(range(32)))))
"""


def start(path: Path, code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", VAULT_IN_A_PROCESS + code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def keks(*blobs: str) -> set[bytes]:
    return {copy.kek_id for blob in blobs for copy in EncryptedKeys.decode(blob).copies}


def test_key_that_was_handed_out_survives_kill_9(path: Path, vault: EmbeddedVault) -> None:
    """Four processes, each killed in the moment after it got a key for a new item; a new process opens them all."""
    handed_out = []
    for number in range(4):
        with start(
            path,
            f"print(vault.create(KeyContext({{'organization_id': 'org {number}'}})).encrypted_keys, flush=True)\n"
            "time.sleep(60)",
        ) as victim:
            assert victim.stdout is not None
            handed_out.append(victim.stdout.readline().strip())
            victim.send_signal(signal.SIGKILL)
            assert victim.wait() == -signal.SIGKILL

    assert len(keks(*handed_out)) == 4
    for encrypted_keys in handed_out:
        assert len(vault.decrypt(encrypted_keys).plaintext) == 32


CREATE_FOR_EVER = """
print("ready", flush=True)
for number in range(10**9):
    print(vault.create(KeyContext({"item": f"{os.getpid()} {number}"})).encrypted_keys, flush=True)
"""


def test_process_killed_at_any_moment_blocks_nobody(path: Path, vault: EmbeddedVault) -> None:
    """Killed while it creates keystore and KEKs as fast as it can: what it had handed out opens, and work goes on."""
    handed_out = []
    for delay in (0.0, 0.002, 0.01, 0.05):
        with start(path, CREATE_FOR_EVER) as victim:
            assert victim.stdout is not None
            victim.stdout.readline()
            time.sleep(delay)
            victim.send_signal(signal.SIGKILL)
            handed_out += [line.strip() for line in victim.stdout if line.endswith("\n")]

    for encrypted_keys in handed_out:
        vault.decrypt(encrypted_keys)
    assert vault.decrypt(vault.create(ACME).encrypted_keys)


RACE = """
import warnings
children = []
for number in range(50):
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        sys.stdin.read()                    # The starting gun: the end of the pipe, for all of them at once.
        key = vault.create(KeyContext({"organization_id": "acme", "number": f"{os.getppid()} {number % 5}"}))
        os.write(write, f"{key.encrypted_keys} {key.plaintext.hex()}".encode())
        os._exit(0)
    os.close(write)
    children.append((child, read))
print("ready", flush=True)
for child, read in children:
    with os.fdopen(read) as answer:
        print(answer.read(), flush=True)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_hundred_processes_racing_for_one_new_item_make_one_kek(path: Path, vault: EmbeddedVault) -> None:
    """The keystore does not exist before either. Two processes fork fifty each, for their start costs most."""
    starters = [start(path, RACE) for _ in range(2)]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
    assert not path.exists()
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.close()
    answers = []
    for starter in starters:
        assert starter.stdout is not None
        with starter.stdout as stdout:
            answers += [line.split() for line in stdout]
        assert starter.wait() == 0

    assert len(answers) == 100
    assert len(keks(*[blob for blob, _ in answers])) == 1 + 2 * 5
    for blob, plaintext in answers:
        assert vault.decrypt(blob).plaintext.hex() == plaintext


def test_threads_racing_for_one_new_item_make_one_kek(path: Path, vault: EmbeddedVault) -> None:
    barrier = threading.Barrier(32)

    def create() -> DataKey:
        barrier.wait()
        return vault.create(ACME)

    with ThreadPoolExecutor(32) as pool:
        created = [future.result() for future in [pool.submit(create) for _ in range(32)]]

    assert len(keks(*[key.encrypted_keys for key in created])) == 1
    for key in created:
        assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


@pytest.mark.parametrize("in_memory", [False, True])
def test_threads_share_a_vault(path: Path, root_key: RootKey, in_memory: bool) -> None:
    store = KeyStore.in_memory() if in_memory else KeyStore.at(path)
    with closing(EmbeddedVault(KeyRing(store, root_key, max_keks=3))) as vault, ThreadPoolExecutor(16) as pool:
        contexts = [KeyContext({"item": str(number % 10), "kind": "x"}) for number in range(400)]
        created = list(pool.map(vault.create, contexts))
        opened = list(pool.map(vault.decrypt, [key.encrypted_keys for key in created]))

    assert [key.plaintext for key in opened] == [key.plaintext for key in created]
    assert len(keks(*[key.encrypted_keys for key in created])) == 11


@pytest.mark.django_db(transaction=True)
def test_rolled_back_transaction_loses_no_kek(vault: EmbeddedVault, open_vault: Callable[..., EmbeddedVault]) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        key = vault.create(ACME)
        transaction.set_rollback(True)

    assert open_vault().decrypt(key.encrypted_keys).plaintext == key.plaintext


def in_child(work: Callable[[], object]) -> bool:
    """Whether ``work`` succeeds in a forked child, within ten seconds."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("in_memory", [False, True])
def test_child_works_while_threads_of_the_parent_hold_every_lock(
    path: Path, root_key: RootKey, in_memory: bool
) -> None:
    store = KeyStore.in_memory() if in_memory else KeyStore.at(path)
    stop = threading.Event()
    with closing(EmbeddedVault(KeyRing(store, root_key, max_keks=2))) as vault:

        def busy(number: int) -> None:
            round_ = 0
            while not stop.is_set():
                vault.create(KeyContext({"item": f"{number} {round_ % 7}"}))
                round_ += 1

        key = vault.create(ACME)

        def work() -> None:
            assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext
            assert vault.decrypt(vault.create(KeyContext({"child": str(os.getpid())})).encrypted_keys)

        threads = [threading.Thread(target=busy, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                assert in_child(work)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_no_connection_crosses_a_fork(path: Path, vault: EmbeddedVault) -> None:
    """SQLite forbids to use one in a child, and even to close it there."""
    vault.create(ACME)

    def look() -> None:
        opened = [str(descriptor.readlink()) for descriptor in Path("/proc/self/fd").iterdir() if descriptor.exists()]
        assert not [name for name in opened if name.startswith(str(path))]

    assert in_child(look)
    assert vault.create(ACME)


def test_child_and_parent_get_the_same_kek(path: Path, vault: EmbeddedVault) -> None:
    read, write = os.pipe()

    assert in_child(lambda: os.write(write, vault.create(ACME).encrypted_keys.encode()))
    os.close(write)
    with os.fdopen(read) as answer:
        assert keks(answer.read()) == keks(vault.create(ACME).encrypted_keys)
