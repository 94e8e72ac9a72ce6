"""The served Vault against a trivial WSGI application, both under gunicorn with the same options."""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import Item, Line, at_least
from benchmarks.sizes import Sizes
from benchmarks.timing import Step, interleaved, ratio, spread
from vault_fields.backends.local import LocalVault
from vault_fields.embedded.managed.rootkey import generate_root_key

KEY = "sk_test_bench_4f9Za81"
# One worker, so that the client has a core of its own where there are two.
OPTIONS = [
    "--workers",
    "1",
    "--worker-class",
    "gthread",
    "--threads",
    "4",
    "--keep-alive",
    "30",
    "--log-level",
    "error",
]
CLIENTS = 4

SETTINGS = """
from pathlib import Path

SECRET_KEY = "only-for-the-benchmarks"
INSTALLED_APPS = ["vault_fields"]
VAULTS = {{
    "default": {{
        "BACKEND": "vault_fields.backends.local.LocalVault",
        "OPTIONS": {{"path": Path({path!r}), "root_key": {root_key!r}}},
    }}
}}
VAULT_SERVER = {{"keys": [{{"name": "Bench", "environment": "default", "sha256": {key!r}}}]}}
"""


def trivial(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Reads the request and answers as many bytes as the Vault."""
    environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    answer = b'{"answer": "' + b"x" * 486 + b'"}'
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def measure(sizes: Sizes) -> Iterator[Item]:
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        path, root_key = Path(directory) / "vault.sqlite3", generate_root_key()
        with contextlib.closing(LocalVault(path=path, root_key=root_key)) as vault:
            vault.service.create_keystore()
        settings = SETTINGS.format(path=str(path), root_key=root_key, key=hashlib.sha256(KEY.encode()).hexdigest())
        (Path(directory) / "bench_served.py").write_text(settings)
        ports = {
            "trivial": stack.enter_context(gunicorn("benchmarks.parts.server:trivial", Path(directory))),
            "vault": stack.enter_context(gunicorn("vault_fields.server.wsgi:application", Path(directory))),
        }
        create = request("/vault/v1/keys/data-key", {"context": {"organization_id": "org_1"}})
        made = json.loads(ask(ports["vault"], create, 1))
        decrypt = request("/vault/v1/keys/decrypt", {"keys": made["encrypted_keys"]})
        taken = interleaved(
            {
                "trivial": Step(lambda: ask_all(ports["trivial"], create, sizes.requests)),
                "create": Step(lambda: ask_all(ports["vault"], create, sizes.requests)),
                "decrypt": Step(lambda: ask_all(ports["vault"], decrypt, sizes.requests)),
            },
            turns=sizes.turns,
        )
    rates = {name: sizes.requests / spread(seconds).median for name, seconds in taken.items()}
    for name in ("create", "decrypt"):
        yield Line(
            f"served Vault, {name}, rate against a trivial application",
            ratio(taken["trivial"], taken[name]),
            target=at_least(0.5),
            beside=f"{rates[name]:,.0f} requests/s, trivial {rates['trivial']:,.0f}; {CLIENTS} connections",
        )


@contextlib.contextmanager
def gunicorn(application: str, directory: Path) -> Iterator[int]:
    """The port of gunicorn once it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    paths = os.pathsep.join([str(directory), str(Path(__file__).resolve().parent.parent.parent)])
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "bench_served", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}", *OPTIONS]
    log = directory / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)  # noqa: S603
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"gunicorn does not listen: {log.read_text()}")
        if process.poll() is not None:
            raise RuntimeError(f"gunicorn ended: {log.read_text()}")
        yield port
    finally:
        process.terminate()
        process.wait()


def request(path: str, content: dict[str, Any]) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def ask_all(port: int, text: bytes, times: int) -> None:
    """As many requests over several connections, with as little work here as there can be."""
    failures: list[Exception] = []

    def work() -> None:
        try:
            ask(port, text, times // CLIENTS)
        except Exception as error:  # noqa: BLE001 - raised below, where somebody sees it.
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def ask(port: int, text: bytes, times: int) -> bytes:
    """The body of the last answer; each must be 200 or 201 and say its length."""
    body = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            connection.sendall(text)
            head, end, body = b"", b"", b""
            while not end:
                head, end, body = receive(connection, head).partition(b"\r\n\r\n")
            if head[9:11] != b"20":
                raise RuntimeError(f"The server answered {head[:12]!r}.")
            at = head.lower().index(b"content-length:") + 15
            length = int(head[at:].split(b"\r\n", 1)[0])
            while len(body) < length:
                body = receive(connection, body)
    return body


def receive(connection: socket.socket, before: bytes) -> bytes:
    more = connection.recv(65536)
    if not more:
        raise RuntimeError("The server closed the connection.")
    return before + more
