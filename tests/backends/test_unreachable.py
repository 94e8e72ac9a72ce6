"""Errors about a Vault that cannot be reached name the host, whatever stands in the way."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faulty_server import FaultyServer, Reply, faulty_server
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.backends.remote import RemoteVault
from vault_fields.backends.workos import WorkOSVault
from vault_fields.exceptions import VaultUnavailable
from vault_fields.keys import KeyContext

ACME = KeyContext({"organization_id": "acme"})


def workos(url: str, **options: Any) -> RemoteVault:
    return WorkOSVault(api_key="sk_test_4f9Za81", base_url=url, **options)


def openbao(url: str, **options: Any) -> RemoteVault:
    return OpenBaoVault(addresses=[url], token="s.4f9Za81", **options)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


@pytest.fixture
def closed() -> Iterator[str]:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def told(make: Callable[..., RemoteVault], url: str, **options: Any) -> str:
    vault = make(url, **{"max_retries": 0, "timeout": 20.0, **options})
    with pytest.raises(VaultUnavailable) as caught:
        vault.create_data_key(ACME)
    vault.close()
    return str(caught.value)


@pytest.mark.parametrize("make", [workos, openbao])
class TestHostIsNamed:
    @pytest.fixture(autouse=True)
    def no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)

    def test_where_nobody_listens(self, make: Callable[..., RemoteVault], closed: str) -> None:
        assert f" Host: {closed}." in told(make, f"http://{closed}")

    def test_where_tls_fails(self, make: Callable[..., RemoteVault], server: FaultyServer) -> None:
        host = f"127.0.0.1:{server.server_port}"
        assert f" Host: {host}." in told(make, f"https://{host}")

    def test_where_the_answer_takes_too_long(self, make: Callable[..., RemoteVault], server: FaultyServer) -> None:
        let_go = threading.Event()
        server.usual = Reply(until=let_go)
        try:
            assert f" Host: 127.0.0.1:{server.server_port}." in told(make, server.url, timeout=0.05)
        finally:
            let_go.set()

    def test_where_the_connection_breaks(self, make: Callable[..., RemoteVault], server: FaultyServer) -> None:
        server.usual = Reply(reset_after=3)
        assert f" Host: 127.0.0.1:{server.server_port}." in told(make, server.url)

    def test_where_the_name_is_not_found(
        self, make: Callable[..., RemoteVault], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def look_up(*args: Any, **kwargs: Any) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert " Host: vault.example." in told(make, "https://vault.example")

    def test_where_the_proxy_is_away(
        self, make: Callable[..., RemoteVault], closed: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{closed}")
        assert " Host: vault.example." in told(make, "https://vault.example")
