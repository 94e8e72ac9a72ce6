import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from django.core.management import CommandError, call_command

from vault_fields.backends.local import LocalVault
from vault_fields.embedded.managed.rootkey import decode_root_key, generate_root_key
from vault_fields.keys import KeyContext
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key
from vault_fields.server.serving import is_loopback

ROOT = Path(__file__).parent.parent.parent
ROOT_KEY = generate_root_key()


def test_vault_root_key_prints_a_fresh_key() -> None:
    printed = []
    for _ in range(2):
        out = io.StringIO()
        call_command("vault_root_key", stdout=out)
        printed.append(out.getvalue())

    assert printed[0] != printed[1]
    assert decode_root_key(printed[0])


def test_vault_api_key_prints_a_fresh_key_and_its_hash() -> None:
    out = io.StringIO()
    for _ in range(2):
        call_command("vault_api_key", stdout=out)

    pairs = re.findall(r"API key, shown this once: (sk_[\w-]{43})\nsha256 for VAULT_SERVER:  (\w+)\n", out.getvalue())
    assert len({key for key, _ in pairs}) == 2
    for key, sha256 in pairs:
        assert ApiKeys([ApiKey(sha256)]).admit(f"Bearer {key}")


@contextmanager
def serving(tmp_path: Path, *arguments: str, **server: object) -> Iterator["subprocess.Popen[str]"]:
    """``vault_serve`` as a process of its own, in a project with a LocalVault and this ``VAULT_SERVER``."""
    path = tmp_path / "vault.sqlite3"
    (tmp_path / "served_settings.py").write_text(
        "from tests.settings import *\n"
        "VAULTS['tenants'] = {'BACKEND': 'vault_fields.backends.local.LocalVault', "
        f"'OPTIONS': {{'path': {str(path)!r}}}}}\n"
        f"VAULT_SERVER = {server!r}\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "DJANGO_SETTINGS_MODULE": "served_settings",
        "VAULT_ROOT_KEY": ROOT_KEY,
    }
    with closing(LocalVault(path=path, root_key=ROOT_KEY)) as vault:
        vault.service.create_keystore()
    command = [sys.executable, "-m", "django", "vault_serve", "--port", "0", "--vault", "tenants", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str]", pattern: str) -> str:
    assert process.stdout is not None
    found = re.fullmatch(pattern, text := process.stdout.readline().strip())
    assert found, text
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_vault_serve_prints_a_key_that_works_and_where(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as process:
        key = line(process, r"Bearer key, shown this once: (sk_[\w-]{43})")
        url = line(process, r"Vault ready at (http://127\.0\.0\.1:[0-9]+)")
        response = httpx.post(
            f"{url}/vault/v1/keys/data-key",
            json={"context": {"organization_id": "acme"}},
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
        )
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.read() == "Stopped.\n"
        assert process.wait() == 0

    vault = LocalVault(path=tmp_path / "vault.sqlite3", root_key=ROOT_KEY)
    assert vault.decrypt_data_key(response.json()["encrypted_keys"], KeyContext({"organization_id": "acme"}))
    vault.close()


def test_vault_serve_admits_the_configured_keys_and_prints_none(tmp_path: Path) -> None:
    with serving(tmp_path, bearer_sha256=[hash_api_key("sk_known")]) as process:
        url = line(process, r"Vault ready at (http://127\.0\.0\.1:[0-9]+)")
        for key, status in [("sk_known", 400), ("sk_other", 401)]:
            response = httpx.post(
                f"{url}/vault/v1/keys/decrypt", json={}, headers={"Authorization": f"Bearer {key}"}, trust_env=False
            )
            assert response.status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_plain_http_beyond_this_machine_is_refused(host: str) -> None:
    with pytest.raises(CommandError, match="can be reached from other machines.*--allow-plain-http"):
        call_command("vault_serve", "--host", host, "--port", "0")


class ServerThatIsStopped:
    """Stands in for a server, so that the machine needs neither IPv6 nor an open port to the world."""

    server_port = 8201

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...

    def serve_forever(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    asked: list[tuple[str, int]] = []

    def bind(api: VaultApi, host: str, port: int) -> ServerThatIsStopped:
        asked.append((host, port))
        return ServerThatIsStopped()

    monkeypatch.setattr("vault_fields.management.commands.vault_serve.bind", bind)
    return asked


@pytest.mark.parametrize(
    ("arguments", "host", "address"),
    [
        ([], "127.0.0.1", "http://127.0.0.1:8201"),
        (["--host", "127.0.0.2"], "127.0.0.2", "http://127.0.0.2:8201"),
        (["--host", "::1"], "::1", "http://[::1]:8201"),
        (["--host", "0.0.0.0", "--allow-plain-http"], "0.0.0.0", "http://0.0.0.0:8201"),
    ],
)
def test_address_is_printed_as_a_url(
    bound: list[tuple[str, int]], arguments: list[str], host: str, address: str
) -> None:
    out = io.StringIO()

    call_command("vault_serve", "--port", "0", *arguments, stdout=out)

    assert bound == [(host, 0)]
    assert re.fullmatch(rf"Bearer key, .*: sk_.*\nVault ready at {re.escape(address)}\nStopped.\n", out.getvalue())


def test_no_key_is_made_where_one_is_configured(bound: list[tuple[str, int]], settings: object) -> None:
    settings.VAULT_SERVER = {"bearer_sha256": [hash_api_key("sk_known")]}  # type: ignore[attr-defined]
    out = io.StringIO()

    call_command("vault_serve", stdout=out)

    assert bound == [("127.0.0.1", 8200)]
    assert out.getvalue() == "Vault ready at http://127.0.0.1:8201\nStopped.\n"


def test_port_that_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"Cannot listen on 127.0.0.1 port {port}: Address already in use"):
            call_command("vault_serve", "--port", str(port))


@pytest.mark.parametrize(
    "options",
    [("--port", "99999999"), ("--port=-1",), ("--host", "a" * 100), ("--allow-plain-http", "--host", "ä..b")],
)
def test_address_that_cannot_be_one_says_so(options: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=r"^Cannot listen "):
        call_command("vault_serve", *options)


def test_host_that_does_not_exist_says_so() -> None:
    with pytest.raises(CommandError, match=r"Cannot listen on nowhere\.invalid port 0: "):
        call_command("vault_serve", "--host", "nowhere.invalid", "--port", "0")


def test_keystore_that_fails_is_an_error_before_serving(tmp_path: Path, settings: object) -> None:
    local = {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": tmp_path, "root_key": ROOT_KEY}}
    settings.VAULTS = {"default": local}  # type: ignore[attr-defined]

    with pytest.raises(CommandError, match="The keystore .* cannot be opened"):
        call_command("vault_serve", "--port", "0")


def test_root_key_that_is_another_is_an_error_in_words(tmp_path: Path, settings: object) -> None:
    options = {"path": tmp_path / "vault.sqlite3", "root_key": generate_root_key()}
    LocalVault(**options).service.create_keystore()
    local = {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": options | {"root_key": ROOT_KEY}}
    settings.VAULTS = {"default": local}  # type: ignore[attr-defined]

    with pytest.raises(CommandError, match="root key"):
        call_command("vault_serve", "--port", "0")


def test_vault_that_is_not_embedded_is_refused(settings: object) -> None:
    hosted = {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": {"api_key": "sk_x"}}
    settings.VAULTS = {"default": hosted}  # type: ignore[attr-defined]

    for command in ("vault_serve", "vault_events"):
        with pytest.raises(CommandError, match="only an embedded vault can be served"):
            call_command(command)
        with pytest.raises(CommandError, match=r"VAULTS\['nope'\]: there is no such vault"):
            call_command(command, "--vault", "nope")


def test_setting_that_is_wrong_is_an_error_in_words(settings: object) -> None:
    settings.VAULT_SERVER = {"bearer_sha256": [hash_api_key("")]}  # type: ignore[attr-defined]

    with pytest.raises(CommandError, match="VAULT_SERVER: bearer_sha256: it is the hash of an empty key"):
        call_command("vault_serve", "--port", "0")


@pytest.mark.parametrize(
    ("host", "answer"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False)]
)
def test_loopback_is_this_machine(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer
