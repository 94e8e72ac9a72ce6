"""
What the embedded Vault costs, with the conditions of the run. Ratios are of one run, taken in turn.

    python benchmarks/vault.py keys               data keys a second in one thread, and over the bare work
    python benchmarks/vault.py new [--calls N]    data keys for as many new items, one by one and prepared together
    python benchmarks/vault.py size [--many N]    100 KEKs against 100,000, items taken at random
    python benchmarks/vault.py events [--many N]  a page of rare events, and what others wait for while many are pruned
    python benchmarks/vault.py http               data keys a second over HTTP on loopback, in two processes

Times in one process are CPU time, so that other processes on the machine disturb them less; over HTTP they are those
of the wall clock. Each figure is the median of several turns.
"""

import argparse
import base64
import contextlib
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import cryptography
import django

django.setup()

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault_fields.backends.local import LocalVault
from vault_fields.embedded.events.event import IN_PROCESS, Event, insert, timestamp
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.keys import KeyContext

TURNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keys", "new", "size", "events", "http"])
    parser.add_argument("--calls", type=int, default=10_000, help="calls in a turn (default: %(default)s)")
    parser.add_argument("--many", type=int, default=100_000, help="KEKs of the large keystore (default: %(default)s)")
    options = parser.parse_args()
    print(
        f"{platform.python_implementation()} {platform.python_version()}, Django {django.__version__}, cryptography "
        f"{cryptography.__version__}, SQLite {sqlite3.sqlite_version}, {platform.platform()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "vault.sqlite3"
        if options.what == "keys":
            keys(path, options.calls)
        elif options.what == "new":
            new(Path(directory), min(options.calls, 2000))
        elif options.what == "size":
            size(Path(directory), options.calls, options.many)
        elif options.what == "events":
            events(path, options.many)
        else:
            http(path, min(options.calls, 2000))


def keys(path: Path, calls: int) -> None:
    vault = vault_at(path)
    contexts = [KeyContext({"organization_id": f"org {number}"}) for number in range(100)]
    blobs = [vault.create_data_key(context).encrypted_keys for context in contexts]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = measured(
            {
                "create, service": lambda n: vault.service.create(contexts[n % 100]),
                "create, backend": lambda n: vault.create_data_key(contexts[n % 100]),
                "decrypt, service": lambda n: vault.service.decrypt(blobs[n % 100]),
                "bare cryptography": bare_cryptography(),
                "bare cryptography and SQLite": bare_cryptography_and_sqlite(connection),
            },
            calls,
        )
    for name, micros in found.items():
        print(f"{name:30} {micros:6.1f} µs  {1e6 / micros:8,.0f} a second")
    created = found["create, service"]
    print(f"create to bare cryptography:            {created / found['bare cryptography']:.2f}")
    print(f"create to bare cryptography and SQLite: {created / found['bare cryptography and SQLite']:.2f}")
    vault.close()


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


def bare_cryptography() -> Callable[[int], object]:
    """Random ids and keys, XAES-256-GCM with the KEK at hand, base64: what no data key can be made without."""
    kek = Cipher(algorithms.AES(os.urandom(32)), modes.ECB())  # noqa: S305 - the block cipher of a derivation.
    bound = bytes(200)

    def create(number: int) -> object:
        plaintext, data_key_id, nonce = os.urandom(32), os.urandom(16), os.urandom(24)
        derived = AESGCM(kek.encryptor().update(nonce[:12] + bytes(20)))
        blob = data_key_id + nonce + derived.encrypt(nonce[12:], plaintext, bound)
        return base64.b64encode(blob).decode(), AESGCM(plaintext)

    return create


def bare_cryptography_and_sqlite(connection: sqlite3.Connection) -> Callable[[int], object]:
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


def size(directory: Path, calls: int, many: int) -> None:
    found: dict[str, Callable[[int], object]] = {}
    generator = random.Random(1)  # noqa: S311 - the same items in each run.
    for count in (100, many):
        vault = vault_at(directory / f"{count}.sqlite3")
        before = resident()
        populate(vault, count)
        contexts = [KeyContext({"organization_id": f"org {generator.randrange(count)}"}) for _ in range(calls)]
        blobs = [vault.service.create(context).encrypted_keys for context in contexts]
        for number in range(count):
            vault.service.create(KeyContext({"organization_id": f"org {number}"}))
        for blob in blobs:
            vault.service.decrypt(blob)
        print(f"{count:,} KEKs: {(resident() - before) / 1e6:.0f} MB more once all of them were used")
        found[f"create, {count:,} KEKs"] = lambda n, v=vault.service, c=contexts: v.create(c[n])  # type: ignore[misc]
        found[f"decrypt, {count:,} KEKs"] = lambda n, v=vault.service, b=blobs: v.decrypt(b[n])  # type: ignore[misc]
    times = measured(found, calls)
    for name, micros in times.items():
        print(f"{name:28} {micros:6.1f} µs")
    for operation in ("create", "decrypt"):
        ratio = times[f"{operation}, {many:,} KEKs"] / times[f"{operation}, 100 KEKs"]
        print(f"{operation}: {many:,} KEKs cost {ratio:.2f} times as much for each call as 100")


def populate(vault: LocalVault, count: int) -> None:
    """As many KEKs as they would be made one by one, which waits for the disk each time, in one transaction."""
    vault.service.unlock()
    connections = vault.service.store.connections
    ring = vault.service._ring
    with connections.use() as connection:
        connection.execute("PRAGMA synchronous = OFF")
    for number in range(count):
        ring.for_item("default", "organization_id", f"org {number}")


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


def http(path: Path, calls: int) -> None:
    from vault_fields.backends.workos import WorkOSVault

    with serving(path) as (url, bearer):
        vault = WorkOSVault(base_url=url, api_key=bearer, max_cached_keys=0)
        contexts = [KeyContext({"organization_id": f"org {number}"}) for number in range(100)]
        blobs = [vault.create_data_key(context).encrypted_keys for context in contexts]
        found = measured(
            {
                "create": lambda n: vault.create_data_key(contexts[n % 100]),
                "decrypt": lambda n: vault.decrypt_data_key(blobs[n % 100]),
            },
            calls,
            clock=time.perf_counter,
        )
        for name, micros in found.items():
            print(f"{name:8} {micros:7.0f} µs  {1e6 / micros:6,.0f} a second, one client thread")


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
    steps: dict[str, Callable[[int], object]], calls: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Microseconds for a call of each step, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name, step in steps.items():
            started = clock()
            for number in range(calls):
                step(number)
            seconds[name].append(clock() - started)
    return {name: statistics.median(times) / calls * 1e6 for name, times in seconds.items()}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def vault_at(path: Path) -> LocalVault:
    vault = LocalVault(path=path, root_key=generate_root_key())
    vault.service.create_keystore()
    return vault


if __name__ == "__main__":
    main()
