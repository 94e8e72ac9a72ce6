"""Look-ups of host names in coroutines: the caller's event loop, and its threads, wait for none."""

import asyncio
import os
import socket
import threading
from typing import Any

import httpx
import pytest

from tests.client.calls import API_KEY, CREATE, endpoint, quick
from vault_fields.client import Answer, AsyncVaultClient, dns
from vault_fields.client.dns import LookUps, _first, look_up_apart
from vault_fields.exceptions import VaultUnavailable
from vault_fields.runtime.deadline import NoAnswerInTime

look_up = socket.getaddrinfo


class Hanging:
    """A resolver that answers when it is told to, and counts who asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        self.answers.wait(60)
        return look_up(*args, **kwargs)


@pytest.fixture
def hanging(monkeypatch):
    resolver = Hanging()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.answers.set()


def named(server: Any) -> str:
    return server.url.replace("127.0.0.1", "localhost")


def found(*addresses: str) -> Any:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    return lambda *args, **kwargs: entries


def test_a_loop_ends_while_a_look_up_hangs(server, hanging) -> None:
    client = AsyncVaultClient(endpoint(named(server)), quick(timeout=0.2))

    async def calls() -> list[Any]:
        outcomes = await asyncio.gather(
            *(client.post(CREATE.path, CREATE.payload) for _ in range(40)), return_exceptions=True
        )
        # The threads of the loop, which others have for their own look-ups, are free.
        await asyncio.to_thread(lambda: None)
        return outcomes

    outcomes = asyncio.run(calls())
    assert not hanging.answers.is_set()
    assert {type(outcome) for outcome in outcomes} == {NoAnswerInTime}
    assert not server.seen


def test_connections_that_are_made_at_once_share_a_look_up(server, hanging) -> None:
    look_ups = LookUps()

    async def ask() -> list[list[str]]:
        asking = asyncio.gather(*(look_ups.addresses("localhost", 80) for _ in range(10)))
        await asyncio.sleep(0)
        hanging.answers.set()
        return await asking

    first, *others = asyncio.run(ask())
    assert "127.0.0.1" in first
    assert others == [first] * 9
    assert len(set(first)) == len(first)
    assert hanging.asked == 1
    assert not look_ups._under_way


def test_one_that_hangs_is_not_in_the_way_of_a_later_one(monkeypatch, hanging) -> None:
    monkeypatch.setattr(dns, "_SHARED", -1.0)
    look_ups = LookUps()

    async def ask() -> list[str]:
        stuck = asyncio.ensure_future(look_ups.addresses("localhost", 80))
        await asyncio.sleep(0)
        monkeypatch.setattr(socket, "getaddrinfo", found("127.0.0.9"))
        later = await look_ups.addresses("localhost", 80)
        assert not stuck.done()
        hanging.answers.set()
        assert "127.0.0.1" in await stuck
        return later

    assert asyncio.run(ask()) == ["127.0.0.9"]


def test_no_more_than_a_few_hang(monkeypatch, hanging) -> None:
    monkeypatch.setattr(dns, "_SHARED", -1.0)
    monkeypatch.setattr(dns, "_MAX_UNDER_WAY", 2)
    look_ups = LookUps()

    async def ask() -> list[list[str]]:
        asking = asyncio.gather(*(look_ups.addresses("localhost", 80) for _ in range(10)))
        await asyncio.sleep(0)
        hanging.answers.set()
        return await asking

    assert len(asyncio.run(ask())) == 10
    assert hanging.asked == 2
    assert not +look_ups._threads


def test_a_name_is_looked_up_once_for_a_connection_that_is_kept(server, hanging) -> None:
    hanging.answers.set()
    client = AsyncVaultClient(endpoint(named(server)), quick())

    async def calls() -> None:
        for _ in range(3):
            assert isinstance(await client.post(CREATE.path, CREATE.payload), Answer)

    asyncio.run(calls())
    assert hanging.asked == 1
    assert server.opened == 1
    assert server.seen[0].headers["Host"] == named(server).removeprefix("http://")


def test_the_next_address_is_tried(server, monkeypatch) -> None:
    # Nobody listens at the first.
    monkeypatch.setattr(socket, "getaddrinfo", found("127.0.0.77", "127.0.0.1"))
    client = AsyncVaultClient(endpoint(named(server)), quick(max_retries=0))
    assert isinstance(asyncio.run(client.post(CREATE.path, CREATE.payload)), Answer)


@pytest.mark.parametrize(
    ("resolver", "told"),
    [
        (found(), "No address"),
        (found("127.0.0.77"), "connect"),
        (None, "Temporary failure in name resolution"),
    ],
)
def test_what_cannot_be_reached_is_told(server, monkeypatch, resolver, told) -> None:
    def failing(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolver or failing)
    client = AsyncVaultClient(endpoint(named(server)), quick(max_retries=0))
    with pytest.raises(VaultUnavailable, match=rf"cannot be reached \(.*{told}") as caught:
        asyncio.run(client.post(CREATE.path, CREATE.payload))
    assert API_KEY not in str(caught.value)


def test_without_a_thread_it_is_told(server, monkeypatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        await LookUps().addresses("localhost", 80)

    with pytest.raises(VaultUnavailable, match="No thread can be started to look up"):
        asyncio.run(ask())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system has no fork.")
def test_a_forked_child_looks_up_for_itself(hanging, monkeypatch) -> None:
    look_ups = LookUps()

    async def ask() -> None:
        stuck = asyncio.ensure_future(look_ups.addresses("localhost", 80))
        await asyncio.sleep(0)
        assert len(look_ups._under_way) == 1
        stuck.cancel()

    asyncio.run(ask())
    look_ups.reset_in_child()
    assert not look_ups._under_way
    monkeypatch.setattr(socket, "getaddrinfo", found("127.0.0.9"))
    assert asyncio.run(look_ups.addresses("localhost", 80)) == ["127.0.0.9"]


class Stream:
    def __init__(self, address: str) -> None:
        self.address = address
        self.is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True


class Backend:
    """Connects to addresses that answer, is refused by others, and waits for the rest until it is cancelled."""

    def __init__(self, answering: set[str], silent: set[str]) -> None:
        self.answering, self.silent = answering, silent
        self.made: list[Stream] = []
        self.given_up: list[str] = []

    async def connect_tcp(self, address: str, port: int, **options: Any) -> Stream:
        if address in self.silent:
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up.append(address)
        if address not in self.answering:
            raise httpx.ConnectError(f"refused by {address}")
        self.made.append(Stream(address))
        return self.made[-1]


async def first(backend: Backend, *addresses: str) -> Any:
    made = await _first(backend, addresses, 80, {})
    await asyncio.sleep(0)
    return made


def test_an_address_that_is_silent_is_left_for_the_next(monkeypatch) -> None:
    monkeypatch.setattr(dns, "_HEAD_START", 0.01)
    backend = Backend({"c"}, {"a"})
    assert asyncio.run(first(backend, "a", "b", "c")).address == "c"
    assert backend.given_up == ["a"]


def test_the_first_may_be_made_when_all_others_have_failed(monkeypatch) -> None:
    monkeypatch.setattr(dns, "_HEAD_START", 0.01)
    backend = Backend({"a"}, set())
    connect, refused = backend.connect_tcp, asyncio.Event()

    async def slow(address: str, port: int, **options: Any) -> Stream:
        if address == "a":
            await refused.wait()
        else:
            asyncio.get_running_loop().call_later(0.02, refused.set)
        return await connect(address, port)

    monkeypatch.setattr(backend, "connect_tcp", slow)
    assert asyncio.run(first(backend, "a", "b")).address == "a"


def test_of_two_that_are_made_at_once_one_is_closed(monkeypatch) -> None:
    gate = asyncio.Event()
    backend = Backend({"a", "b"}, set())
    connect = backend.connect_tcp

    async def slow(address: str, port: int, **options: Any) -> Stream:
        if address == "b":
            gate.set()
        await gate.wait()
        return await connect(address, port)

    monkeypatch.setattr(backend, "connect_tcp", slow)
    monkeypatch.setattr(dns, "_HEAD_START", 0.01)
    made = asyncio.run(first(backend, "a", "b"))
    assert [stream.is_closed for stream in backend.made if stream is not made] == [True]
    assert not made.is_closed


def test_the_fault_of_all_is_that_of_the_last() -> None:
    with pytest.raises(httpx.ConnectError, match="refused by b"):
        asyncio.run(first(Backend(set(), set()), "a", "b"))


def test_names_of_proxies_are_looked_up_there_too() -> None:
    proxied = httpx.AsyncHTTPTransport(proxy="http://proxy.test:3128")
    direct: Any = httpx.AsyncHTTPTransport()
    # In the place of a transport whose internals are others.
    other = httpx.MockTransport(lambda request: httpx.Response(200))
    client = httpx.AsyncClient(transport=direct, mounts={"https://": proxied, "http://a": None, "http://b": other})
    look_up_apart(client, LookUps())
    for transport in (direct, proxied):
        assert isinstance(transport._pool._network_backend, dns._Apart)
    assert direct._pool._network_backend.sleep.__name__ == "sleep"
