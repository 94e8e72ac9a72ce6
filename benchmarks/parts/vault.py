"""
The embedded Vault: data keys a second, over the bare work, with many KEKs, over HTTP, and for hours.

    python -m benchmarks.parts.vault keys               data keys a second in one thread, and over the bare work
    python -m benchmarks.parts.vault new [--calls N]    data keys for as many new items, one by one or prepared
    python -m benchmarks.parts.vault size [--many N]    100 KEKs against 100,000, items taken at random
    python -m benchmarks.parts.vault events [--many N]  a page of rare events, and what others wait for during a prune
    python -m benchmarks.parts.vault http               data keys a second over HTTP on loopback, in two processes
    python -m benchmarks.parts.vault soak [--seconds N] writers and readers for long: the rate and the memory by time

``keys`` and ``size`` are lines of the table of ``python -m benchmarks``. Times in one process are CPU time, so that
other processes on the machine disturb them less; over HTTP they are those of the wall clock.
"""

import argparse
import base64
import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.conditions import conditions, load
from benchmarks.report import Item, Line, at_most, table
from benchmarks.sizes import SIZES, Sizes
from benchmarks.timing import Step, interleaved, ratio, spread
from vault_fields.backends.local import LocalVault
from vault_fields.backends.workos import WorkOSVault
from vault_fields.embedded.events.event import IN_PROCESS, Event, insert, timestamp
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.keys import KeyContext

ROOT = Path(__file__).resolve().parent.parent.parent

Call = Callable[[int], object]


def measure(sizes: Sizes) -> Iterator[Item]:
    with tempfile.TemporaryDirectory() as directory:
        yield from keys(Path(directory), sizes.requests, sizes.turns)
        yield from size(Path(directory), sizes.requests, sizes.most_keys, sizes.turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keys", "new", "size", "events", "http", "soak"])
    parser.add_argument("--calls", type=int, default=10_000, help="calls in a turn (default: %(default)s)")
    parser.add_argument("--many", type=int, default=100_000, help="KEKs or events (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=600, help="how long to soak (default: %(default)s)")
    options = parser.parse_args()
    print(f"{'; '.join(conditions())}; load {load():.1f}")
    turns = SIZES["quick"].turns
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        if options.what == "keys":
            print(table(keys(path, options.calls, turns)))
        elif options.what == "new":
            new(path, min(options.calls, 2000))
        elif options.what == "size":
            print(table(size(path, options.calls, options.many, turns)))
        elif options.what == "events":
            events(path / "vault.sqlite3", options.many)
        elif options.what == "http":
            http(path / "vault.sqlite3", min(options.calls, 2000), turns)
        else:
            soak(path / "vault.sqlite3", options.seconds)


def keys(directory: Path, calls: int, turns: int) -> Iterator[Line]:
    path = directory / "keys.sqlite3"
    vault = vault_at(path)
    contexts = [KeyContext({"organization_id": f"org {number}"}) for number in range(100)]
    blobs = [vault.create_data_key(context).encrypted_keys for context in contexts]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        taken = measured(
            {
                "create": lambda n: vault.create_data_key(contexts[n % 100]),
                "decrypt": lambda n: vault.decrypt_data_key(blobs[n % 100]),
                "bare": bare_cryptography(),
                "bare with SQLite": bare_cryptography_and_sqlite(connection),
            },
            calls,
            turns,
        )
    vault.close()
    for name in ("create", "decrypt"):
        micros = spread(taken[name]).times(1e6 / calls)
        yield Line(f"embedded Vault, {name}", micros, "µs", beside=f"{1e6 / micros.median:,.0f} a second, one thread")
    yield Line("embedded Vault, create over bare cryptography", ratio(taken["create"], taken["bare"]))
    yield Line("… and a read of SQLite", ratio(taken["create"], taken["bare with SQLite"]))


def new(directory: Path, calls: int) -> None:
    """Seconds of the wall clock: it is the disk that is waited for."""
    for name in ("one by one", "prepared"):
        vault = vault_at(directory / f"{name}.sqlite3")
        contexts = [KeyContext({"organization_id": f"org {number}"}) for number in range(calls)]
        started = time.perf_counter()
        if name == "prepared":
            vault.prepare(contexts)
        for context in contexts:
            vault.create_data_key(context)
        seconds = time.perf_counter() - started
        print(f"{calls:,} data keys for as many new items, {name}: {seconds:.2f} s")
        vault.close()


def bare_cryptography() -> Call:
    """Random ids and keys, XAES-256-GCM with the KEK at hand, base64: what no data key can be made without."""
    kek = Cipher(algorithms.AES(os.urandom(32)), modes.ECB())  # noqa: S305 - the block cipher of a derivation.
    bound = bytes(200)

    def create(number: int) -> object:
        plaintext, data_key_id, nonce = os.urandom(32), os.urandom(16), os.urandom(24)
        derived = AESGCM(kek.encryptor().update(nonce[:12] + bytes(20)))
        blob = data_key_id + nonce + derived.encrypt(nonce[12:], plaintext, bound)
        return base64.b64encode(blob).decode(), AESGCM(plaintext)

    return create


def bare_cryptography_and_sqlite(connection: sqlite3.Connection) -> Call:
    """The same, and the KEK read from the keystore and unwrapped: what a vault that holds nothing does."""
    create = bare_cryptography()
    root = Cipher(algorithms.AES(os.urandom(32)), modes.ECB())  # noqa: S305
    sealed = AESGCM(bytes(32)).encrypt(bytes(12), bytes(32), None)
    query = (
        "SELECT id, version, state, wrapped FROM kek JOIN kek_version ON kek_id = id"
        " WHERE environment = ? AND item_name = ? AND item_value = ? ORDER BY version DESC LIMIT 1"
    )

    def read_and_create(number: int) -> object:
        connection.execute(query, ["default", "organization_id", f"org {number % 100}"]).fetchone()
        root.encryptor().update(bytes(32))
        AESGCM(bytes(32)).decrypt(bytes(12), sealed, None)
        Cipher(algorithms.AES(bytes(32)), modes.ECB()).encryptor().update(bytes(16))  # noqa: S305
        return create(number)

    return read_and_create


def size(directory: Path, calls: int, many: int, turns: int) -> Iterator[Line]:
    found: dict[str, Call] = {}
    held: dict[int, float] = {}
    generator = random.Random(1)  # noqa: S311 - the same items in each run.
    for count in (100, many):
        vault = vault_at(directory / f"size {count}.sqlite3")
        before = resident()
        contexts = [KeyContext({"organization_id": f"org {number}"}) for number in range(count)]
        for start in range(0, count, 10_000):
            vault.prepare(contexts[start : start + 10_000])
        for context in contexts:
            vault.create_data_key(context)
        asked = [contexts[generator.randrange(count)] for _ in range(calls)]
        blobs = [vault.create_data_key(context).encrypted_keys for context in asked]
        held[count] = (resident() - before) / 1e6
        found[f"create {count}"] = lambda n, v=vault, c=asked: v.create_data_key(c[n])  # type: ignore[misc]
        found[f"decrypt {count}"] = lambda n, v=vault, b=blobs: v.decrypt_data_key(b[n])  # type: ignore[misc]
    taken = measured(found, calls, turns)
    for operation in ("create", "decrypt"):
        yield Line(
            f"embedded Vault, {operation}, {many:,} KEKs over 100",
            ratio(taken[f"{operation} {many}"], taken[f"{operation} 100"]),
            target=at_most(1.5),
            beside=f"{held[many]:.0f} MB more once all of them were used",
        )


def events(path: Path, many: int) -> None:
    vault = vault_at(path)
    log = vault.service.store.events
    old = datetime.now(UTC) - timedelta(days=365)
    for start in range(0, many, 10_000):
        with log._connections.transaction() as connection:
            data = {"key_ids": ["00000000-0000-0000-0000-000000000000"], "key_context": {"organization_id": "org"}}
            insert(
                connection,
                [
                    Event("default", "vault.dek.read", data, IN_PROCESS, created_at=timestamp(old))
                    for _ in range(min(10_000, many - start))
                ],
            )
    vault.service.create(KeyContext({"organization_id": "rare"}))
    for names in (["vault.kek.created"], ["vault.dek.read"], ["vault.kek.created", "vault.dek.read"]):
        started = time.perf_counter()
        found = len(log.page("default", names=names).items)
        millis = (time.perf_counter() - started) * 1e3
        print(f"page of {' and '.join(names)}: {found} of {many + 1:,} events in {millis:.1f} ms")
    waits, is_over = [0.0], threading.Event()

    def write() -> None:
        while not is_over.is_set():
            started = time.perf_counter()
            vault.service.create(KeyContext({"organization_id": str(started)}))
            waits.append(time.perf_counter() - started)

    writer = threading.Thread(target=write)
    writer.start()
    started = time.perf_counter()
    deleted = log.prune(datetime.now(UTC) - timedelta(days=1))
    seconds = time.perf_counter() - started
    is_over.set()
    writer.join()
    print(f"{deleted:,} events pruned in {seconds:.1f} s, in which {len(waits) - 1:,} KEKs were made")
    print(f"the slowest of them: {max(waits):.2f} s")
    vault.close()


def soak(path: Path, seconds: float) -> None:
    """Two writers and two readers; a line for each tenth of the time."""
    vault = vault_at(path)
    done = [0, 0, 0, 0]
    is_over = threading.Event()

    def work(number: int) -> None:
        generator = random.Random(number)  # noqa: S311
        blob = vault.create_data_key(KeyContext({"organization_id": str(number)})).encrypted_keys
        while not is_over.is_set():
            if number % 2:
                vault.decrypt_data_key(blob)
            else:
                vault.create_data_key(KeyContext({"organization_id": str(generator.randrange(1000))}))
            done[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(done))]
    for worker in workers:
        worker.start()
    before = 0
    for part in range(1, 11):
        time.sleep(seconds / 10)
        rate = (sum(done) - before) / (seconds / 10)
        before = sum(done)
        print(f"{seconds * part / 10:8.0f} s  {rate:10,.0f} calls a second  {resident() / 1e6:6.0f} MB", flush=True)
    is_over.set()
    for worker in workers:
        worker.join()
    vault.close()


def http(path: Path, calls: int, turns: int) -> None:
    with serving(path) as (url, bearer):
        vault = WorkOSVault(base_url=url, api_key=bearer, max_cached_keys=0)
        contexts = [KeyContext({"organization_id": f"org {number}"}) for number in range(100)]
        blobs = [vault.create_data_key(context).encrypted_keys for context in contexts]
        taken = measured(
            {
                "create": lambda n: vault.create_data_key(contexts[n % 100]),
                "decrypt": lambda n: vault.decrypt_data_key(blobs[n % 100]),
            },
            calls,
            turns,
            time.perf_counter,
        )
        vault.close()
    for name, seconds in taken.items():
        micros = spread(seconds).median / calls * 1e6
        print(f"{name:8} {micros:7.0f} µs  {1e6 / micros:6,.0f} a second, one client thread")


SERVE = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import django
from django.conf import settings
settings.configure(
    VAULTS={{"default": {{"BACKEND": "vault_fields.backends.local.LocalVault",
                          "OPTIONS": {{"path": Path({path!r}), "root_key": {root_key!r}}}}}}},
    INSTALLED_APPS=["vault_fields"],
    ALLOWED_HOSTS=["*"],
)
django.setup()
from django.core.management import call_command
call_command("vault_keystore", "create", stdout=sys.stderr)
call_command("vault_serve", "--port", "0")
"""


@contextlib.contextmanager
def serving(path: Path) -> Iterator[tuple[str, str]]:
    code = SERVE.format(root=str(ROOT), path=str(path), root_key=generate_root_key())
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:  # noqa: S603
        if server.stdout is None:
            raise RuntimeError("The server has no output to read its address from.")
        try:
            bearer = server.stdout.readline().split()[-1]
            url = server.stdout.readline().split()[-1]
            yield url, bearer
        finally:
            server.terminate()


def measured(
    calls_of: dict[str, Call], calls: int, turns: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of as many calls of each."""

    def repeat(call: Call) -> None:
        for number in range(calls):
            call(number)

    steps = {name: Step(lambda call=call: repeat(call)) for name, call in calls_of.items()}  # type: ignore[misc]
    return interleaved(steps, turns=turns, clock=clock)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def vault_at(path: Path) -> LocalVault:
    """A vault that caches nothing: each call is one."""
    vault = LocalVault(path=path, root_key=generate_root_key(), max_cached_keys=0)
    vault.service.create_keystore()
    return vault


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    django.setup()
    main()
