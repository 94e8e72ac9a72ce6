"""Several addresses of one cluster, answers that make no sense, and secrets that stay inside."""

import asyncio
import base64
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.backends.openbao import new_mount, new_token
from tests.byok.peers import Bao, Gate
from tests.faulty_server import FaultyServer, Reply, faulty_server
from tests.leaks import leaks
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.client import RetryPolicy
from vault_fields.exceptions import VaultError, VaultRefused, VaultThrottled, VaultUnavailable
from vault_fields.keys import KeyContext

ACME = KeyContext({"organization_id": "acme"})
PAIR = KeyContext({"organization_id": "acme", "purpose": "care"})
PLAINTEXT = bytes(range(100, 132))
DATA_KEY = base64.b64encode(PLAINTEXT).decode()
CIPHERTEXT = "vault:v1:" + base64.b64encode(b"c" * 60).decode()
TOKEN = "s.TokenOfTheTests"

MADE = {"data": {"plaintext": DATA_KEY, "ciphertext": CIPHERTEXT}}


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        server.usual = Reply(content=MADE)
        yield server


@pytest.fixture
def make_vault(tmp_path: Path) -> Iterator[Callable[..., OpenBaoVault]]:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    with ExitStack() as stack:

        def make(*addresses: str, **options: Any) -> OpenBaoVault:
            options = {"token_file": path, "timeout": 2.0, "max_cached_keys": 0, **options}
            return stack.enter_context(closing(OpenBaoVault("eu", addresses=addresses, **options)))

        yield make


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def silent(server: FaultyServer) -> Iterator[str]:
    """An address that takes connections and never answers."""
    gate = Gate(server.url)
    gate.hang()
    yield gate.url
    gate.shut()


def both(vault: OpenBaoVault) -> list[Callable[[], object]]:
    return [lambda: vault.create_data_key(ACME), lambda: asyncio.run(vault.acreate_data_key(ACME))]


@pytest.mark.parametrize("retries", [0, 3])
def test_next_address_is_asked_and_then_stays_the_first(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault], nobody: str, retries: int
) -> None:
    vault = make_vault(nobody, server.url, max_retries=retries)
    pauses: list[float] = []
    vault._client._sleep = pauses.append
    for create in both(vault) * 3:
        create()

    assert len(server.seen) == 6
    assert pauses == [0.0], "the next address is asked at once, and only by the first call"
    assert vault._endpoint._first == 1


def test_address_that_does_not_answer_leaves_time_to_the_others(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault], silent: str
) -> None:
    for call in range(2):
        vault = make_vault(silent, server.url, timeout=6.0)
        began = time.monotonic()
        both(vault)[call]()
        assert time.monotonic() - began > 2.9, "the first address was asked"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=503, content={"errors": ["Vault is sealed"]}),
        Reply(status=307, raw=b"", headers={"Location": "http://127.0.0.1:1/"}),
        Reply(status=500, content={"errors": ["local node not active but active cluster node not found"]}),
        Reply(status=502, raw=b"<html>"),
        Reply(reset_after=5),
    ],
    ids=["sealed", "redirect", "no leader", "proxy", "broken"],
)
def test_another_node_is_asked_where_one_cannot_answer(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault], reply: Reply
) -> None:
    with faulty_server() as ill:
        ill.usual = reply
        for create in both(make_vault(ill.url, server.url)):
            create()
        assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (Reply(status=307, raw=b""), VaultUnavailable, "standby node redirects .* put the addresses of all of them"),
        (Reply(status=500, content={"errors": ["local node not active"]}), VaultUnavailable, "no active node"),
        (Reply(status=500, content={"errors": ["other"]}), VaultUnavailable, "cannot answer now"),
        (Reply(status=500, content={"errors": "other"}), VaultUnavailable, "cannot answer now"),
        (Reply(status=503, raw=b"<html>"), VaultUnavailable, "cannot answer now"),
        (Reply(status=429, content={"errors": ["rate limit quota exceeded"]}), VaultThrottled, "fewer calls"),
        (Reply(status=400, content={"errors": ["something new"]}), VaultRefused, "refused the request"),
        (Reply(status=404, content={"errors": ["else"]}), VaultRefused, "no such call"),
        (Reply(content={"data": {}}), VaultRefused, "not a data key"),
        (Reply(content={"data": []}), VaultRefused, "not a data key"),
        (Reply(content={"data": {"plaintext": "?"}}), VaultRefused, "not a data key"),
        (Reply(content={"data": {"plaintext": DATA_KEY}}), VaultRefused, "not a ciphertext"),
        (Reply(content={"data": {"plaintext": DATA_KEY, "ciphertext": "vault:v0:AA=="}}), VaultRefused, "ciphertext"),
        (Reply(content={"data": {"plaintext": DATA_KEY, "ciphertext": "vault:v1:A==="}}), VaultRefused, "ciphertext"),
    ],
)
def test_answers_and_what_they_become(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault], reply: Reply, error: type[VaultError], says: str
) -> None:
    vault = make_vault(server.url, max_retries=0)
    server.usual = reply
    for create in both(vault):
        with pytest.raises(error, match=says) as caught:
            create()
        assert type(caught.value) is error
        assert caught.value.alias == "eu"
        assert f"Host: 127.0.0.1:{server.server_port}." in str(caught.value)


@pytest.mark.parametrize(
    "results",
    [None, {}, [], [{}, {}], ["text"], [{"plaintext": "c2hvcnQ="}], [{"error": "something new"}]],
)
def test_batches_that_make_no_sense_are_refused(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault], results: object
) -> None:
    vault = make_vault(server.url)
    key = vault.create_data_key(ACME)
    server.usual = Reply(content={"data": {"batch_results": results}})

    host = rf"Host: 127\.0\.0\.1:{server.server_port}\."
    with pytest.raises(VaultRefused, match=host):
        vault.decrypt_data_key(key.encrypted_keys)
    with pytest.raises(VaultRefused, match=host):
        raise vault.rewrap_data_keys({key.encrypted_keys: ACME})[key.encrypted_keys]


def test_answer_that_is_no_version_is_refused(server: FaultyServer, make_vault: Callable[..., OpenBaoVault]) -> None:
    vault = make_vault(server.url)
    key = vault.create_data_key(ACME)
    for version in (None, 0, "1"):
        server.usual = Reply(content={"data": {"latest_version": version}})
        with pytest.raises(VaultRefused, match=r"not a version\. Host: 127\.0\.0\.1:\d+\."):
            vault.is_current(key.encrypted_keys, ACME)
    assert [seen.content for seen in server.seen[1:]] == [None] * 3, "it is asked by GET"


@pytest.mark.parametrize(
    "auth",
    [None, {}, {"client_token": "a b"}, {"client_token": "t"}, {"client_token": "t", "lease_duration": -1}],
)
def test_login_that_makes_no_sense_is_refused(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault], auth: object
) -> None:
    vault = make_vault(server.url, token_file=None, role_id="r", secret_id="s")
    server.usual = Reply(content={"auth": auth})

    with pytest.raises(VaultRefused, match=r"not a token\. Host: 127\.0\.0\.1:\d+\."):
        vault.create_data_key(ACME)


def test_a_token_that_could_not_be_looked_up_is_looked_up_again(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault]
) -> None:
    vault = make_vault(server.url, token_file=None, token=TOKEN, max_retries=0)
    server.will(Reply(status=500, raw=b""))
    with pytest.raises(VaultUnavailable):
        vault.create_data_key(ACME)
    server.will(Reply(content={"data": {"ttl": 60, "renewable": False}}))
    vault.create_data_key(ACME)

    held = vault._engine._session.lease
    assert held is not None
    assert held.grant.seconds == 60


def test_a_key_that_was_made_may_answer_with_nothing(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault]
) -> None:
    """As HashiCorp Vault does; and a standby node may need a moment to hear of the key."""
    missing = Reply(status=400, content={"errors": ["encryption key not found"]})
    vault = make_vault(server.url)
    server.will(missing, Reply(status=204, raw=b""), missing, missing)

    assert vault.create_data_key(ACME).plaintext == PLAINTEXT
    assert vault.calls == {"create": 5}


def test_a_key_that_nobody_hears_of_is_not_waited_for_without_end(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault]
) -> None:
    missing = Reply(status=400, content={"errors": ["encryption key not found"]})
    server.usual = missing
    server.will(missing, Reply(status=204, raw=b""))
    vault = make_vault(server.url, timeout=60.0)

    with pytest.raises(VaultUnavailable, match=r"was made and is not known yet .*Host: 127\.0\.0\.1:\d+\."):
        vault.create_data_key(ACME)
    assert vault.calls == {"create": 8}


def test_an_address_whose_look_up_hangs_is_not_asked_first_the_next_time(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or whose server sends byte by byte: nobody waits for such a call any more, nor for what it would tell."""
    stuck, look_up = threading.Event(), socket.getaddrinfo

    def hanging(host: Any, *args: Any, **options: Any) -> Any:
        if host in {"localhost", b"localhost"}:
            stuck.wait(120)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    vault = make_vault("http://localhost:1", server.url, timeout=2.0)
    try:
        with pytest.raises(VaultUnavailable, match=r"Host: localhost:1\."):
            vault.create_data_key(ACME)
        assert vault.create_data_key(ACME)
    finally:
        stuck.set()


def test_two_threads_that_turn_from_an_address_turn_once(make_vault: Callable[..., OpenBaoVault]) -> None:
    endpoint = make_vault("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")._endpoint
    requests = [endpoint.request("/", {}, RetryPolicy().begin()) for _ in range(2)]
    for request in requests:
        endpoint.turn_from(request.url.netloc)
    assert endpoint._first == 1


def test_second_item_that_fails_fails_the_whole(server: FaultyServer, make_vault: Callable[..., OpenBaoVault]) -> None:
    vault = make_vault(server.url, max_retries=0)
    for reply in (Reply(status=503, raw=b""), Reply(content={"data": {}})):
        server.will(Reply(content=MADE), reply)
        with pytest.raises(VaultError):
            vault.create_data_key(PAIR)


def test_deadline_is_for_all_steps_together(server: FaultyServer, make_vault: Callable[..., OpenBaoVault]) -> None:
    server.usual = Reply(content=MADE, delay=2.0)
    with pytest.raises(VaultUnavailable):
        make_vault(server.url, timeout=3.5, max_retries=0).create_data_key(PAIR)
    assert len(server.seen) == 2


def test_no_secret_is_in_repr_log_or_traceback(
    server: FaultyServer, make_vault: Callable[..., OpenBaoVault], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    vault = make_vault(server.url, max_retries=1, token_file=None, role_id="role-4711", secret_id="SecretIdOfTheTests")
    login = Reply(content={"auth": {"client_token": TOKEN, "lease_duration": 3600, "renewable": True}})
    leaky = {"errors": [f"{TOKEN} {DATA_KEY}"]}
    secrets = [TOKEN, DATA_KEY, PLAINTEXT, "SecretIdOfTheTests"]
    server.will(login, Reply(content=MADE))
    texts = [repr(vault), repr(vault._engine._session.lease), repr(vault._engine._session)]
    key = vault.create_data_key(ACME)
    texts.append(repr(vault._engine._session.lease))
    for reply in (Reply(status=500, content=leaky), Reply(status=400, content=leaky), Reply(reset_after=3)):
        for call in (lambda: vault.create_data_key(PAIR), lambda: asyncio.run(vault.acreate_data_key(PAIR))):
            # The second step sends a data key.
            server.will(Reply(content=MADE), reply, reply)
            with pytest.raises(VaultError) as caught:
                call()
            texts.append("".join(traceback.format_exception(caught.value)))
            assert leaks(caught.value, secrets) == []
        server.usual = reply
        with pytest.raises(VaultError) as caught:
            vault.rekey_data_key(key.encrypted_keys, PAIR)
        assert leaks(caught.value, secrets) == []
        server.usual = Reply(content=MADE)
    texts += [record.getMessage() for record in caplog.records]
    for text in texts:
        for secret in (TOKEN, DATA_KEY, repr(PLAINTEXT), "SecretIdOfTheTests", "acme"):
            assert secret not in text.replace("'organization_id': 'acme'", "")


def test_closed_gate_to_a_real_server_opens_again(bao: Bao, make_vault: Callable[..., OpenBaoVault]) -> None:
    gate = Gate(bao.url)
    mount = new_mount(bao)
    vault = make_vault(gate.url, token_file=None, token=new_token(bao, mount), mount=mount, max_retries=0)
    key = vault.create_data_key(ACME)
    gate.shut()
    with pytest.raises(VaultUnavailable, match="cannot be reached|connection"):
        vault.decrypt_data_key(key.encrypted_keys)
    gate.unlock()
    try:
        assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
    finally:
        gate.shut()
