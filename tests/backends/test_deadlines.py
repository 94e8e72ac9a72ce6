"""A Vault that takes connections and answers nothing: what an operation costs then, and whom."""

import asyncio
import base64
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_server import BLOB, FaultyServer, Reply, faulty_server
from tests.threads import join
from vault_fields.backends.base import BaseVault
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.backends.remote import RemoteVault
from vault_fields.backends.workos import WorkOSVault
from vault_fields.client import abandoned
from vault_fields.datakeys.cache import Outcome
from vault_fields.exceptions import VaultThrottled, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.openbao.blob import EncryptedKeys, WrappedCopy
from vault_fields.runtime.deadline import Deadline, NoAnswerInTime

Ask = Callable[[BaseVault, Mapping[str, None]], dict[str, Outcome]]


def in_threads(vault: BaseVault, wanted: Mapping[str, None]) -> dict[str, Outcome]:
    return vault.decrypt_data_keys(wanted)


def in_coroutines(vault: BaseVault, wanted: Mapping[str, None]) -> dict[str, Outcome]:
    return asyncio.run(vault.adecrypt_data_keys(wanted))


both = pytest.mark.parametrize("ask", [in_threads, in_coroutines])


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


@pytest.fixture
def answered(server: FaultyServer) -> Iterator[threading.Event]:
    """The server answers nothing until this is set."""
    event = threading.Event()
    server.usual = Reply(until=event)
    yield event
    event.set()


def page(count: int) -> dict[str, None]:
    return {base64.b64encode(b"page %d" % number).decode(): None for number in range(count)}


@pytest.fixture
def make(server: FaultyServer, answered: threading.Event, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Vaults of either kind, whose threads have all ended in the end."""
    token_file = tmp_path / "token"
    token_file.write_text("token")
    made: list[RemoteVault] = []
    # Those of other tests may be there for as long as this process lives.
    before = set(threading.enumerate())

    def make(kind: str, **options: Any) -> RemoteVault:
        if kind == "workos":
            vault: RemoteVault = WorkOSVault(api_key="sk_1", base_url=server.url, max_retries=0, **options)
        else:
            credentials = {} if "role_id" in options else {"token_file": token_file}
            vault = OpenBaoVault(addresses=[server.url], max_retries=0, **credentials, **options)
        made.append(vault)
        return vault

    yield make
    answered.set()
    for vault in made:
        vault.close()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("vault-"):
            join(thread)


def blobs(count: int) -> dict[str, None]:
    """Encrypted keys of as many tenants, each with a transit key of its own."""
    made = (
        EncryptedKeys.of(os.urandom(16), bytes(32), [WrappedCopy(f"vault-fields-{number}", 1, b"copy")])
        for number in range(count)
    )
    return {blob.encode(): None for blob in made}


@both
def test_a_page_of_keys_has_one_deadline_and_the_rest_is_not_asked_for(ask, server, answered, make) -> None:
    vault = make("workos", timeout=3.0, max_concurrency=4)
    began = time.monotonic()
    outcomes = ask(vault, page(100))
    # One after the other in fours: 75 s.
    assert time.monotonic() - began < 60
    assert {isinstance(outcome, VaultUnavailable) for outcome in outcomes.values()} == {True}
    assert {outcome.alias for outcome in outcomes.values()} == {"default"}
    assert len(server.seen) == vault.calls["decrypt"] == 4


@both
def test_a_page_of_transit_keys_has_one_deadline(ask, server, answered, make) -> None:
    vault = make("openbao", timeout=3.0, max_concurrency=4)
    began = time.monotonic()
    outcomes = ask(vault, blobs(100))
    assert time.monotonic() - began < 60
    assert {isinstance(outcome, VaultUnavailable) for outcome in outcomes.values()} == {True}
    assert {outcome.alias for outcome in outcomes.values()} == {"default"}
    assert len(server.seen) == vault.calls["decrypt"] == 4


@both
def test_what_the_vault_answered_in_time_is_opened_and_the_rest_can_be_asked_for_again(
    ask, server, answered, make
) -> None:
    server.will(*[Reply() for _ in range(6)])
    vault = make("workos", timeout=3.0, max_concurrency=2)
    outcomes = ask(vault, page(20))
    assert sum(isinstance(outcome, DataKey) for outcome in outcomes.values()) == 6
    answered.set()
    assert all(isinstance(outcome, DataKey) for outcome in ask(vault, page(20)).values())
    assert len(server.seen) == 6 + 2 + 14


@pytest.mark.parametrize("kind", ["workos", "openbao"])
def test_another_page_does_not_wait_behind_one_that_is_not_answered(kind, server, answered, make) -> None:
    wanted = page(60) if kind == "workos" else blobs(60)
    vault = make(kind, timeout=30.0, max_concurrency=2)
    names = list(wanted)
    stuck = threading.Thread(target=vault.decrypt_data_keys, args=[dict.fromkeys(names[:50])], daemon=True)
    stuck.start()
    assert server.wait_until_asked(2)
    server.usual = Reply() if kind == "workos" else Reply(status=400, content={"errors": ["no such thing"]})
    outcomes = vault.decrypt_data_keys(dict.fromkeys(names[50:60]))
    assert stuck.is_alive(), "the first page still waits"
    assert len(outcomes) == 10
    answered.set()
    stuck.join(60)
    assert not stuck.is_alive()


@both
def test_where_fewer_calls_are_asked_for_the_rest_of_a_page_is_left(ask, server, make) -> None:
    server.usual = Reply(status=429, headers={"Retry-After": "3600"})
    vault = make("workos", timeout=20.0, max_concurrency=1)
    outcomes = ask(vault, page(50))
    assert {type(outcome) for outcome in outcomes.values()} == {VaultThrottled}
    assert len(server.seen) == vault.calls["decrypt"] == 1


def test_a_page_does_not_wait_for_a_look_up_of_the_host_name(make, monkeypatch) -> None:
    stuck = threading.Event()
    look_up = socket.getaddrinfo

    def slow(*args: object, **kwargs: object) -> object:
        stuck.wait(60)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    vault = make("workos", timeout=0.2)
    try:
        outcomes = vault.decrypt_data_keys(page(40))
        assert not stuck.is_set()
    finally:
        stuck.set()
    assert {isinstance(outcome, VaultUnavailable) for outcome in outcomes.values()} == {True}


CALLS = {
    "create": lambda vault: vault.create_data_key(KeyContext({"tenant": "a"})),
    "decrypt": lambda vault: vault.decrypt_data_key(BLOB),
    "rekey": lambda vault: vault.rekey_data_key(BLOB, KeyContext({"tenant": "a"})),
}


@pytest.mark.parametrize(("kind", "call"), [*(("workos", call) for call in CALLS), ("openbao", "create")])
def test_a_single_call_does_not_wait_for_a_look_up_of_the_host_name(make, monkeypatch, kind, call) -> None:
    given_up = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: given_up.wait(60) and [])
    vault = make(kind, timeout=0.2)
    try:
        with pytest.raises(NoAnswerInTime, match=r"the call was given up\. Host: 127\.0\.0\.1:\d+\.$"):
            CALLS[call](vault)
        assert not given_up.is_set()
    finally:
        given_up.set()


@pytest.mark.parametrize("kind", ["workos", "openbao"])
def test_calls_that_do_not_end_are_no_more_than_so_many(make, monkeypatch, answered, kind) -> None:
    monkeypatch.setattr(abandoned, "MAX_OVERDUE", 2)
    stuck, looked_up = threading.Event(), []
    look_up = socket.getaddrinfo

    def slow(*args: object, **kwargs: object) -> object:
        looked_up.append(args)
        stuck.wait(60)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    before = set(threading.enumerate())
    vault = make(kind, timeout=0.2)
    create = CALLS["create"]
    try:
        for number in (1, 2):
            with pytest.raises(NoAnswerInTime, match="the call was given up"):
                create(vault)
            while len(looked_up) < number:
                time.sleep(0.01)
        for _ in range(3):
            with pytest.raises(NoAnswerInTime, match="2 calls to the Vault were given up and have not ended") as caught:
                create(vault)
            assert caught.value.alias == "default"
        assert len(looked_up) == 2
    finally:
        answered.set()
        stuck.set()
    for thread in set(threading.enumerate()) - before:
        if thread.name == "vault-call-0":
            join(thread)
    monkeypatch.setattr(abandoned, "MAX_OVERDUE", 1)
    vault._client._overdue.require_few(vault._client._endpoint.netloc)


@pytest.mark.parametrize("call", CALLS)
def test_a_single_call_does_not_wait_for_headers_that_come_byte_by_byte(call) -> None:
    given_up = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not given_up.wait(0.02):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=[listener], daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        vault = WorkOSVault(api_key="sk_1", base_url=url, max_retries=0, timeout=0.5)
        try:
            with pytest.raises(NoAnswerInTime, match=r"in time.*Host: 127\.0\.0\.1:\d+\.$"):
                CALLS[call](vault)
            assert not given_up.is_set()
        finally:
            given_up.set()


def test_coroutines_that_are_cancelled_leave_nothing_under_way(server, answered, make) -> None:
    vault = make("workos", timeout=30.0, max_concurrency=4)

    async def scene() -> None:
        asking = asyncio.create_task(vault.adecrypt_data_keys(page(40)))
        assert await asyncio.to_thread(server.wait_until_asked, 4)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not vault.cache._in_flight
        server.usual = Reply()
        assert all(isinstance(key, DataKey) for key in (await vault.adecrypt_data_keys(page(4))).values())

    asyncio.run(scene())
    assert vault.calls["decrypt"] == len(server.seen) == 8


def test_coroutines_do_not_wait_for_a_token_beyond_the_deadline(server, answered, make, monkeypatch) -> None:
    vault = make("openbao", timeout=0.2)
    stuck = threading.Event()
    monkeypatch.setattr(vault._engine._session, "prepare", lambda client, deadline: stuck.wait(60))
    try:
        [outcome] = in_coroutines(vault, blobs(1)).values()
    finally:
        stuck.set()
    assert re.search(r"no token could be had in time\. Host: [a-z0-9.:]+\.", str(outcome))


def test_who_waits_for_another_ones_login_does_not_begin_one_after_the_deadline(server, answered, make) -> None:
    vault = make("openbao", timeout=2.0, max_concurrency=8, role_id="role", secret_id="secret")
    outcomes = vault.decrypt_data_keys(blobs(8))
    assert {isinstance(outcome, VaultUnavailable) for outcome in outcomes.values()} == {True}
    assert len(server.seen) == 1


def test_a_step_that_comes_after_the_deadline_is_not_begun(server, answered, make) -> None:
    vault = make("openbao")
    [outcome] = vault._engine.run("decrypt", vault._transit.open(blobs(1)), Deadline(0)).values()
    assert isinstance(outcome, VaultUnavailable)
    assert (len(server.seen), vault.calls["decrypt"]) == (0, 0)


def test_nobody_waits_for_another_ones_token_beyond_the_deadline(server, answered, make) -> None:
    vault = make("openbao", role_id="role", secret_id="secret")
    session = vault._engine._session
    with session._lock:
        for ask in (session.prepare, partial(session.replace, None)):
            with pytest.raises(VaultUnavailable, match="no token could be had in time"):
                ask(vault._client, Deadline(0.01))
    with pytest.raises(VaultUnavailable, match="no token could be had in time"):
        session.prepare(vault._client, Deadline(0))
    assert not server.seen
