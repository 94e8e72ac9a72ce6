"""Addresses, proxies and certificates: https anywhere, plain http on this machine, and no message that quotes a URL."""

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.client.calls import API_KEY, CREATE, both, endpoint, post_sync, quick
from tests.faulty_server import faulty_server
from vault_fields.client import VaultClient
from vault_fields.exceptions import VaultUnavailable


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://localhost:1",
        "http://[::1]:8000",
        "https://vault.example",
        "HTTPS://H/p",
    ],
)
def test_https_anywhere_and_http_on_this_machine_are_addresses(url) -> None:
    assert endpoint(url).host


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://api.workos.com", "must begin with https://. Over plain http"),
        ("http://10.0.0.1", "must begin with https://. Over plain http"),
        ("http://localhost.example", "must begin with https://. Over plain http"),
        ("http://127.0.0.1.example", "must begin with https://. Over plain http"),
        ("http://0.0.0.0", "must begin with https://. Over plain http"),
        ("ftp://hidden", "valid URL"),
        ("api.workos.com", "valid URL"),
        ("https://", "valid URL"),
        ("", "valid URL"),
        (None, "valid URL"),
        (7, "valid URL"),
        ("https://hidden:99999", "valid URL"),
        ("https://hid\nden", "valid URL"),
        ("https://" + "hidden" * 11 + ".example", "valid URL"),
        ("https://hidden..example", "valid URL"),
        ("https://:hidden@api.workos.com", "must not hold credentials"),
        ("https://hidden@api.workos.com", "must not hold credentials"),
        ("https://h?key=hidden", "must not have a query"),
        ("https://h#hidden", "must not have a query or a fragment"),
    ],
)
def test_anything_else_is_a_wrong_setting_and_is_not_quoted(url, says) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        endpoint(url)
    assert str(caught.value).startswith("VAULTS['eu']: base_url must")
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.__context__ is None


@both
def test_plain_http_does_not_go_through_a_proxy_of_the_environment(post, server, monkeypatch) -> None:
    """It would read the token and the keys."""
    with faulty_server() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        post(server, quick(), CREATE)
        assert proxy.opened == 0


def test_https_goes_through_a_proxy_of_the_environment_in_a_tunnel(monkeypatch, server) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    client = VaultClient(endpoint("https://vault.invalid"), quick(max_retries=0))
    # The server does not know CONNECT, which is how a proxy that refuses looks.
    with pytest.raises(VaultUnavailable, match="The proxy does not connect to the Vault"):
        client.post(CREATE.path, CREATE.payload)
    client.close()
    assert server.opened == 1
    assert server.seen == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "gopher://user:hidden@proxy"),
        ("ALL_PROXY", "http://hid den:x"),
        ("SSL_CERT_FILE", "/no/hidden.pem"),
    ],
)
@pytest.mark.parametrize("kind", [httpx.Client, httpx.AsyncClient])
def test_an_environment_that_cannot_be_used_is_a_wrong_setting(monkeypatch, name, value, kind) -> None:
    from vault_fields.client import endpoint as module

    monkeypatch.setenv(name, value)
    module._ssl_context.cache_clear()
    try:
        with pytest.raises(ImproperlyConfigured, match=r"^VAULTS\['eu'\]: the proxies or certificates") as caught:
            endpoint("https://vault.invalid").connect(kind)
    finally:
        module._ssl_context.cache_clear()
    assert "hidden" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_call_that_gets_no_connection_leaves_its_place_to_others(monkeypatch) -> None:
    client = VaultClient(endpoint("https://vault.invalid"), quick(max_retries=0))

    def fail() -> httpx.Client:
        raise ImproperlyConfigured("no certificates")

    monkeypatch.setattr(client._lines, "_connect", fail)
    places = client._places._value
    with pytest.raises(ImproperlyConfigured, match="no certificates"):
        client.get("/")
    assert client._places._value == places


def test_netrc_does_not_replace_the_credentials(server, monkeypatch, tmp_path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    post_sync(server, quick(), CREATE)
    assert server.seen[0].headers["Authorization"] == f"Bearer {API_KEY}"
