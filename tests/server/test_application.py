"""The server under WSGI and ASGI: by hand, and under gunicorn and uvicorn as they come from PyPI."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from vault_fields.backends.local import LocalVault
from vault_fields.backends.memory import InMemoryVault
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKeys, hash_api_key
from vault_fields.server.application import AsgiApplication
from vault_fields.server.bodies import MAX_BODY_BYTES
from vault_fields.vaults import vaults

from .conftest import KEY, KEYS

ROOT = Path(__file__).resolve().parent.parent.parent
CREATE = "/vault/v1/keys/data-key"
ACME = {"organization_id": "acme"}

SETTINGS = """
SECRET_KEY = "only-for-the-tests"
INSTALLED_APPS = ["vault_fields"]
USE_TZ = True
VAULTS = {{
    "default": {{
        "BACKEND": "vault_fields.backends.local.LocalVault",
        "OPTIONS": {{"path": {path!r}, "root_key": {root_key!r}}},
    }}
}}
VAULT_SERVER = {{"keys": [{{"name": "Tests", "environment": "tests", "sha256": {key!r}}}]}}
LOGGING = {{
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {{"access": {{"class": "logging.FileHandler", "filename": {log!r}}}}},
    "loggers": {{"vault_fields.server.access": {{"handlers": ["access"], "level": "INFO"}}}},
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def served(tmp_path: Path, *command: str) -> Iterator[httpx.Client]:
    """A client of what the command serves, once it answers."""
    port = free_port()
    path, root_key = tmp_path / "vault.sqlite3", generate_root_key()
    with closing(LocalVault(path=path, root_key=root_key)) as vault:
        vault.service.create_keystore()
    settings = SETTINGS.format(
        path=str(path),
        root_key=root_key,
        key=hash_api_key(KEY),
        log=str(tmp_path / "access.log"),
    )
    (tmp_path / "only_the_vault.py").write_text(settings)
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "only_the_vault",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    arguments = [each.format(port=port) for each in command]
    with (
        (tmp_path / "server.log").open("w") as log,
        subprocess.Popen([sys.executable, "-m", *arguments], env=environment, stdout=log, stderr=log) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
        ) as client,
    ):
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.get("/nothing")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, (tmp_path / "server.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in {0, -signal.SIGTERM}


SERVERS = {
    "gunicorn": [
        "gunicorn",
        "--workers",
        "2",
        "--threads",
        "4",
        "--bind",
        "127.0.0.1:{port}",
        "vault_fields.server.wsgi:application",
    ],
    "uvicorn": ["uvicorn", "--port", "{port}", "--no-access-log", "vault_fields.server.asgi:application"],
}


@pytest.mark.parametrize("server", SERVERS)
def test_real_servers(tmp_path: Path, server: str) -> None:
    with served(tmp_path, *SERVERS[server]) as client:
        with ThreadPoolExecutor(8) as pool:
            # Workers that are asked for one new item at once make one KEK of it.
            posts = [pool.submit(client.post, CREATE, json={"context": ACME}) for _ in range(24)]
            keys = [post.result().json() for post in posts]
            opens = [
                pool.submit(client.post, "/vault/v1/keys/decrypt", json={"keys": key["encrypted_keys"]}) for key in keys
            ]
            assert [each.result().json()["data_key"] for each in opens] == [key["data_key"] for key in keys]

        made = client.post("/vault/v1/kv", json={"name": "a/b c", "value": "grüße", "key_context": ACME})
        assert made.status_code == 201
        assert client.get("/vault/v1/kv/name/a%2Fb%20c").json()["value"] == "grüße"
        assert client.get("/vault/v1/kv", params={"limit": 1}).json()["data"][0]["name"] == "a/b c"
        assert client.delete(f"/vault/v1/kv/{made.json()['id']}").status_code == 200
        assert client.get("/nothing").status_code == 404
        assert client.get("/nothing", headers={"Authorization": "Bearer x"}).status_code == 401
        client.headers["Content-Type"] = "application/json"
        too_long = client.post(CREATE, content=b" " * (MAX_BODY_BYTES + 1))
        assert too_long.status_code == 413
        chunked = client.post(CREATE, content=iter([b'{"cont', b'ext": 1}']))
        # It was read, and lacks a context; or it was not, and the length is asked for.
        assert chunked.status_code == (400 if server == "uvicorn" else 411)
        for refused in (True, False) * 10:
            headers = {"Authorization": "Bearer x"} if refused else {}
            answer = client.post(CREATE, content=b'{"context": ' + b" " * 200_000, headers=headers)
            assert answer.status_code == (401 if refused else 400)
        assert client.head("/vault/v1/kv").status_code == 405
        assert client.get("/vault/v1/kv").status_code == 200

    events = stored_events(tmp_path)
    assert events.count("vault.kek.created") == 1
    assert events.count("vault.dek.read") == events.count("vault.dek.decrypted") == 24
    records = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert {record["path"] for record in records} >= {CREATE, "/vault/v1/kv/name/{name}", "/vault/v1/kv/{id}", ""}
    assert "a/b" not in (tmp_path / "access.log").read_text()
    assert "a/b" not in (tmp_path / "server.log").read_text()


def stored_events(tmp_path: Path) -> list[str]:
    """The events that are stored after the server has ended in the ordinary way."""
    from vault_fields.embedded.managed.store import KeyStore

    store = KeyStore.at(tmp_path / "vault.sqlite3")
    found = [event.name for event in store.events.page("tests", limit=1000).items]
    store.close()
    return found


@pytest.fixture
def application() -> AsgiApplication:
    api = VaultApi(InMemoryVault().service, ApiKeys(KEYS))
    return AsgiApplication(lambda: api)


def exchange(application: AsgiApplication, scope: dict[str, Any], received: list[dict[str, Any]]) -> list[Any]:
    """What the application sends to an ASGI server."""
    sent: list[Any] = []

    async def run() -> None:
        async def receive() -> Any:
            return received.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await application(scope, receive, send)

    asyncio.run(run())
    return sent


def scope(**changes: Any) -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]
    return {"type": "http", "method": "POST", "path": CREATE, "query_string": b"", "headers": headers, **changes}


def test_asgi_body_in_pieces(application: AsgiApplication) -> None:
    pieces = [
        {"type": "http.request", "body": b'{"context": ', "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b'{"a": "b"}}'},
    ]

    start, body = exchange(application, scope(), pieces)

    assert start["status"] == 200
    assert (b"cache-control", b"no-store") in start["headers"]
    assert json.loads(body["body"])["context"] == {"a": "b"}


def test_asgi_body_is_not_read_to_its_end_if_it_is_too_long(application: AsgiApplication) -> None:
    piece = {"type": "http.request", "body": b" " * 100_000, "more_body": True}
    pieces = [dict(piece) for _ in range(50)]

    start, _ = exchange(application, scope(), pieces)

    assert start["status"] == 413
    assert len(pieces) == 47


def test_asgi_client_that_went_away_gets_nothing(application: AsgiApplication) -> None:
    assert exchange(application, scope(), [{"type": "http.disconnect"}]) == []


def test_asgi_lifespan(application: AsgiApplication) -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    sent = exchange(application, {"type": "lifespan"}, messages)

    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_probes_under_asgi(application: AsgiApplication) -> None:
    for path in ("/healthz", "/readyz"):
        start, body = exchange(application, scope(path=path, method="GET", headers=[]), [{"type": "http.request"}])
        assert start["status"] == 200
        assert body["body"] == b'{"status": "ok"}'


def test_wrong_setting_is_alive_and_not_ready(settings: Any) -> None:
    """Nor is it ready where the keystore is missing, or was made with another root key."""
    from vault_fields.server import wsgi

    settings.VAULT_SERVER = {}
    with httpx.Client(transport=httpx.WSGITransport(app=wsgi.application), base_url="http://vault") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503


def test_keystore_that_is_missing_is_not_ready(tmp_path: Path, settings: Any) -> None:
    from vault_fields.server import wsgi

    path = tmp_path / "vault.sqlite3"
    local = {
        "BACKEND": "vault_fields.backends.local.LocalVault",
        "OPTIONS": {"path": path, "root_key": generate_root_key()},
    }
    settings.VAULTS = {"default": local}
    settings.VAULT_SERVER = {"bearer_sha256": [hash_api_key(KEY)]}
    with httpx.Client(transport=httpx.WSGITransport(app=wsgi.application), base_url="http://vault") as client:
        assert client.get("/readyz").status_code == 503
        assert not path.exists()
        vaults["default"].service.create_keystore()  # type: ignore[attr-defined]
        assert client.get("/readyz").status_code == 200
        path.rename(tmp_path / "moved.sqlite3")
        assert client.get("/readyz").status_code == 503


def test_asgi_websocket_is_refused(application: AsgiApplication) -> None:
    with pytest.raises(ValueError, match="over HTTP, not websocket"):
        exchange(application, {"type": "websocket"}, [])


def test_modules_for_servers_have_an_application(settings: Any) -> None:
    from vault_fields.server import asgi, wsgi

    settings.VAULT_SERVER = {"bearer_sha256": [hash_api_key(KEY)]}
    start, _ = exchange(asgi.application, scope(path="/nothing", method="GET"), [{"type": "http.request"}])
    assert start["status"] == 404

    with httpx.Client(transport=httpx.WSGITransport(app=wsgi.application)) as client:
        response = client.get("http://vault/nothing", headers={"Authorization": f"Bearer {KEY}"})
        assert response.status_code == 404
        assert re.fullmatch(r"req_[0-9a-f]{32}", response.headers["x-request-id"])
