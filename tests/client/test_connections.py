"""Connections: kept, shared by threads, one set for each event loop and process, and closed when nobody uses them."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.client.calls import API_KEY, CREATE, TENANT, both, endpoint, quick
from tests.faulty_server import DATA_KEY, Reply
from vault_fields.client import Answer, AsyncVaultClient, VaultClient, http
from vault_fields.client.connections import IDLE_SECONDS, Line, Lines, _sender
from vault_fields.client.endpoint import _version
from vault_fields.runtime.deadline import NoAnswerInTime


@both
def test_a_call_carries_the_credentials_and_says_who_asks(post, server) -> None:
    answer = post(server, quick(), CREATE)
    seen = server.seen[0]
    assert seen.path == "/vault/v1/keys/data-key"
    assert seen.content == {"context": {"organization_id": TENANT}}
    assert seen.headers["Authorization"] == f"Bearer {API_KEY}"
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.headers["Accept-Encoding"] == "identity"
    assert seen.headers["User-Agent"] == f"django-vault-fields/{_version('django-vault-fields')}"
    assert answer.content["data_key"] == DATA_KEY
    assert answer.request_id == "req_01"
    assert DATA_KEY not in repr(answer)


def test_the_version_of_what_is_not_installed_is_unknown() -> None:
    assert _version("pytest") == pytest.__version__
    assert _version("no-such-distribution") == "unknown"


def test_a_base_url_may_have_a_path(server) -> None:
    client = VaultClient(endpoint(f"{server.url}/prefix/"), quick())
    client.post("/vault/v1/keys/data-key", CREATE.payload)
    client.close()
    assert server.seen[0].path == "/prefix/vault/v1/keys/data-key"


def test_20_calls_share_one_connection(server) -> None:
    client = VaultClient(endpoint(server.url), quick())
    for _ in range(20):
        client.post(CREATE.path, CREATE.payload)
    assert server.opened == 1
    client.close()
    assert server.wait_until_all_closed()


def test_20_awaited_calls_share_one_connection_and_a_new_loop_gets_its_own(server, recwarn) -> None:
    client = AsyncVaultClient(endpoint(server.url), quick())

    async def calls() -> None:
        for _ in range(20):
            await client.post(CREATE.path, CREATE.payload)

    asyncio.run(calls())
    assert server.opened == 1
    assert server.wait_until_all_closed(), "the loop's end closes its connections"
    asyncio.run(calls())
    assert server.opened == 2
    assert client._lines == {}
    assert len(recwarn) == 0


@both
def test_an_error_that_is_retried_does_not_cost_a_connection(post, server) -> None:
    server.will(Reply(status=503, content={"error": "later"}), Reply(status=429, content={"error": "later"}))
    post(server, quick(), CREATE)
    assert (len(server.seen), server.opened) == (3, 1)


def test_threads_share_a_client(server) -> None:
    client = VaultClient(endpoint(server.url), quick())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.post(CREATE.path, CREATE.payload), range(80)))
    assert len(server.seen) == 80
    assert server.opened <= 8
    client.close()


def test_a_client_can_be_used_after_close(server) -> None:
    client = VaultClient(endpoint(server.url), quick())
    client.close()
    for _ in range(2):
        client.post(CREATE.path, CREATE.payload)
        client.close()
    assert server.opened == 2


def test_an_async_client_can_be_used_after_aclose(server) -> None:
    async def scene() -> None:
        client = AsyncVaultClient(endpoint(server.url), quick())
        await client.aclose()
        for _ in range(2):
            await client.post(CREATE.path, CREATE.payload)
            await client.aclose()

    asyncio.run(scene())
    assert server.opened == 2


def test_close_lets_a_call_that_is_under_way_finish(server) -> None:
    server.will(Reply(delay=0.1))
    client = VaultClient(endpoint(server.url), quick())
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.post, CREATE.path, CREATE.payload)
        while not server.seen:
            time.sleep(0.001)
        client.close()
        assert call.result().content["data_key"] == DATA_KEY
    assert len(server.seen) == 1
    assert server.wait_until_all_closed()


def test_aclose_lets_a_call_that_is_under_way_finish(server) -> None:
    server.will(Reply(delay=0.1))

    async def scene() -> Answer:
        client = AsyncVaultClient(endpoint(server.url), quick())
        call = asyncio.create_task(client.post(CREATE.path, CREATE.payload))
        while not server.seen:  # noqa: ASYNC110 - it is set by a thread.
            await asyncio.sleep(0.001)
        await client.aclose()
        return await call

    assert asyncio.run(scene()).content["data_key"] == DATA_KEY
    assert len(server.seen) == 1
    assert server.wait_until_all_closed()


def test_a_connection_that_was_retired_in_the_last_moment_is_closed_by_its_call(server) -> None:
    """Between taking it and its first request, another thread may close the client."""
    client = VaultClient(endpoint(server.url), quick())
    take = client._lines.take

    def taken() -> Line[httpx.Client]:
        line = take()
        client.close()
        return line

    client._lines.take = taken  # type: ignore[method-assign]
    assert client.post(CREATE.path, CREATE.payload).content["data_key"] == DATA_KEY
    assert server.wait_until_all_closed()
    assert client._lines.retire() == []


def connect() -> httpx.Client:
    return httpx.Client(trust_env=False, verify=False)


def test_the_connection_that_was_used_last_is_taken_first_and_old_ones_are_closed() -> None:
    now = 0.0
    lines = Lines(connect, clock=lambda: now)
    first, second, third = lines.take(), lines.take(), lines.take()
    assert lines.leave(first) == lines.leave(second) == []
    assert lines.take() is second
    now = IDLE_SECONDS
    assert lines.leave(second) == [], "the first has not rested for longer"
    now = IDLE_SECONDS + 1
    assert lines.leave(third) == [first]
    assert lines.retire() == [second, third]


def test_a_connection_that_is_used_while_the_client_is_closed_is_not_used_again() -> None:
    lines = Lines(connect)
    used = lines.take()
    assert lines.retire() == []
    assert lines.leave(used) == [used]
    assert lines.take() is not used


def test_a_connection_after_a_fault_is_not_used_again() -> None:
    lines = Lines(connect)
    used = lines.take()
    assert lines.leave(used, is_sound=False) == [used]
    assert lines.take() is not used


@both
def test_a_call_that_failed_leaves_no_connection_behind(post, server, monkeypatch) -> None:
    """Whatever its state is: httpx may hold it for one that is in use."""
    lines: list[Line[Any]] = []
    send = Line.send

    def failing(self: Line[Any], request: httpx.Request) -> Any:
        lines.append(self)
        if len(lines) == 1:
            raise httpx.ReadError("broken")
        return send(self, request)

    monkeypatch.setattr(Line, "send", failing)
    post(server, quick(), CREATE)
    assert len(lines) == 2
    assert lines[0] is not lines[1]
    assert lines[0].client.is_closed


def test_calls_wait_for_one_of_few_connections(server, monkeypatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    client = VaultClient(endpoint(server.url), quick())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.post(CREATE.path, CREATE.payload), range(40)))
    assert server.opened == 2
    client.close()
    server.wait_until_all_closed()
    later = AsyncVaultClient(endpoint(server.url), quick())

    async def calls() -> None:
        await asyncio.gather(*(later.post(CREATE.path, CREATE.payload) for _ in range(40)))

    asyncio.run(calls())
    assert server.opened == 4


def test_no_call_waits_for_a_connection_beyond_its_deadline(monkeypatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 0)
    with pytest.raises(NoAnswerInTime, match="did not answer in time"):
        VaultClient(endpoint("http://127.0.0.1:9"), quick(timeout=0.01))._send(CREATE.path, CREATE.payload, None)
    with pytest.raises(NoAnswerInTime, match="did not answer in time"):
        asyncio.run(AsyncVaultClient(endpoint("http://127.0.0.1:9"), quick(timeout=0.01)).get("/"))


def test_where_httpx_tells_of_no_transports_its_clients_send() -> None:
    class Client:
        def send(self, request: str, *, stream: bool) -> tuple[str, bool]:
            return request, stream

    assert _sender(Client(), httpx.URL("http://127.0.0.1"))("request") == ("request", True)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own_connection(server) -> None:
    client = VaultClient(endpoint(server.url), quick())
    client.post(CREATE.path, CREATE.payload)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - coverage does not see into this child.
        code = 1
        try:
            code = 0 if client.post(CREATE.path, CREATE.payload).content["data_key"] == DATA_KEY else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    client.post(CREATE.path, CREATE.payload)
    assert server.opened == 2
    client.close()


def test_entries_of_loops_that_were_closed_without_shutting_down_are_dropped(server) -> None:
    client = AsyncVaultClient(endpoint(server.url), quick())
    dead, living = asyncio.new_event_loop(), asyncio.new_event_loop()
    for loop in (dead, living):
        loop.run_until_complete(client.post(CREATE.path, CREATE.payload))
    # Its transport would warn that it was never closed, and rightly so.
    for line in client._lines[dead].retire():
        dead.run_until_complete(line.client.aclose())
    dead.close()
    assert list(client._lines) == [dead, living]

    async def held() -> list[Any]:
        await client.post(CREATE.path, CREATE.payload)
        return list(client._lines)

    assert asyncio.run(held())[:-1] == [living]
    living.run_until_complete(living.shutdown_asyncgens())
    living.close()
    assert client._lines == client._lifetimes == {}
