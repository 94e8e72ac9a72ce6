"""The HTTP clients against a real server that misbehaves: deadlines, retries, refusals, and nothing that leaks."""

import asyncio
import base64
import json
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.faulty_server import BLOB, DATA_KEY, PLAINTEXT, FaultyServer, Reply, faulty_server, our_local_variables
from vault_fields.client import Answer, AsyncVaultClient, Endpoint, KeyCall, RetryPolicy, VaultClient
from vault_fields.client.endpoint import _version
from vault_fields.client.failures import MAX_ANSWER_BYTES
from vault_fields.exceptions import VaultError, VaultRefused, VaultThrottled, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext

API_KEY = "sk_test_51SecretApiKey"
TENANT = "org_tenant_4711"
CONTEXT = KeyContext({"organization_id": TENANT})
SECRETS = [API_KEY, DATA_KEY, BLOB, TENANT, repr(PLAINTEXT), PLAINTEXT.hex()]

Post = Callable[[FaultyServer, RetryPolicy, KeyCall], Answer]


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, alias="eu", headers={"Authorization": f"Bearer {API_KEY}"})


def quick(**options: Any) -> RetryPolicy:
    return RetryPolicy(**{"timeout": 2.0, "first_pause": 0.001, **options})


def post_sync(server: FaultyServer, policy: RetryPolicy, call: KeyCall) -> Answer:
    client = VaultClient(endpoint(server.url), policy)
    try:
        return client.post(call.path, call.payload)
    finally:
        client.close()


def post_async(server: FaultyServer, policy: RetryPolicy, call: KeyCall) -> Answer:
    async def post() -> Answer:
        return await AsyncVaultClient(endpoint(server.url), policy).post(call.path, call.payload)

    return asyncio.run(post())


both = pytest.mark.parametrize("post", [post_sync, post_async])
CREATE = KeyCall.create(CONTEXT)


def failure(post: Post, server: FaultyServer, policy: RetryPolicy | None = None) -> VaultError:
    with pytest.raises(VaultError) as caught:
        post(server, policy or quick(), CREATE)
    error = caught.value
    assert error.alias == "eu"
    # httpx's exceptions hold the request, and with it the Authorization header.
    assert error.__context__ is None
    assert error.__cause__ is None
    assert not isinstance(error, httpx.HTTPError)
    assert_no_secret("".join(traceback.format_exception(error)))
    return error


def assert_no_secret(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text


# What is sent.


@both
def test_a_call_carries_the_credentials_and_says_who_asks(post, server):
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


def test_the_version_of_what_is_not_installed_is_unknown():
    assert _version("pytest") == pytest.__version__
    assert _version("no-such-distribution") == "unknown"


def test_a_base_url_may_have_a_path(server):
    client = VaultClient(endpoint(f"{server.url}/prefix/"), quick())
    client.post("/vault/v1/keys/data-key", CREATE.payload)
    client.close()
    assert server.seen[0].path == "/prefix/vault/v1/keys/data-key"


# Connections.


def test_20_calls_share_one_connection(server):
    client = VaultClient(endpoint(server.url), quick())
    for _ in range(20):
        client.post(CREATE.path, CREATE.payload)
    assert server.opened == 1
    client.close()
    assert server.wait_until_all_closed()


def test_20_awaited_calls_share_one_connection_and_a_new_loop_gets_its_own(server, recwarn):
    client = AsyncVaultClient(endpoint(server.url), quick())

    async def calls() -> None:
        for _ in range(20):
            await client.post(CREATE.path, CREATE.payload)

    asyncio.run(calls())
    assert server.opened == 1
    assert server.wait_until_all_closed(), "the loop's end closes its connections"
    asyncio.run(calls())
    assert server.opened == 2
    assert client._leases == {}
    assert len(recwarn) == 0


@both
def test_an_error_that_is_retried_does_not_cost_a_connection(post, server):
    server.will(Reply(status=503, content={"error": "later"}), Reply(status=429, content={"error": "later"}))
    post(server, quick(), CREATE)
    assert (len(server.seen), server.opened) == (3, 1)


def test_threads_share_a_client(server):
    client = VaultClient(endpoint(server.url), quick())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.post(CREATE.path, CREATE.payload), range(80)))
    assert len(server.seen) == 80
    assert server.opened <= 8
    assert len(client._leases) == 1
    client.close()


def test_a_client_can_be_used_after_close(server):
    client = VaultClient(endpoint(server.url), quick())
    client.close()
    for _ in range(2):
        client.post(CREATE.path, CREATE.payload)
        client.close()
    assert server.opened == 2


def test_an_async_client_can_be_used_after_aclose(server):
    async def scene() -> None:
        client = AsyncVaultClient(endpoint(server.url), quick())
        await client.aclose()
        for _ in range(2):
            await client.post(CREATE.path, CREATE.payload)
            await client.aclose()

    asyncio.run(scene())
    assert server.opened == 2


def test_close_lets_a_call_that_is_under_way_finish(server):
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


def test_aclose_lets_a_call_that_is_under_way_finish(server):
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


def test_a_client_that_was_retired_in_the_last_moment_is_not_used(server):
    """Between taking it and entering it, another thread may close it; the dict then has none, or a newer one."""
    client = VaultClient(endpoint(server.url), quick())
    with client._client():
        pass
    retired = client._leases[os.getpid()]
    assert retired.retire()
    fresh, take = iter([retired]), client._lease
    client._lease = lambda: next(fresh, None) or (client._leases.clear(), take())[1]  # type: ignore[method-assign]
    assert client.post(CREATE.path, CREATE.payload).content["data_key"] == DATA_KEY
    client.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own_connection(server):
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


def test_entries_of_loops_that_were_closed_without_shutting_down_are_dropped(server):
    client = AsyncVaultClient(endpoint(server.url), quick())
    dead, living = asyncio.new_event_loop(), asyncio.new_event_loop()
    for loop in (dead, living):
        loop.run_until_complete(client.post(CREATE.path, CREATE.payload))
    # Its transport would warn that it was never closed, and rightly so.
    dead.run_until_complete(client._leases[dead].client.aclose())
    dead.close()
    assert list(client._leases) == [dead, living]

    async def held() -> list[Any]:
        await client.post(CREATE.path, CREATE.payload)
        return list(client._leases)

    assert asyncio.run(held())[:-1] == [living]
    living.run_until_complete(living.shutdown_asyncgens())
    living.close()
    assert client._leases == client._lifetimes == {}


# Retries and the deadline.


@both
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(post, server, status):
    server.will(Reply(status=status), Reply(status=status))
    assert post(server, quick(), CREATE).content["data_key"] == DATA_KEY
    assert len(server.seen) == 3


@both
@pytest.mark.parametrize(("status", "kind"), [(408, VaultUnavailable), (429, VaultThrottled), (503, VaultUnavailable)])
def test_what_does_not_pass_is_given_up(post, server, status, kind):
    server.usual = Reply(status=status, content={"error": f"{API_KEY} {DATA_KEY}"})
    error = failure(post, server, quick(max_retries=2))
    assert type(error) is kind
    assert (error.status, error.request_id) == (status, "req_01")
    assert "Gave up after 3 tries." in str(error)
    assert len(server.seen) == 3


@both
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 201, 204, 301, 302, 307, 308])
def test_what_does_not_pass_by_waiting_is_not_tried_again(post, server, status):
    server.usual = Reply(status=status, content={"error": DATA_KEY}, headers={"Location": "/elsewhere"})
    if status == 204:
        server.usual = Reply(status=204, raw=b"")
    error = failure(post, server)
    assert type(error) is VaultRefused
    assert error.status == status
    assert f"HTTP {status}" in str(error)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "refused the credentials"), (403, "Check the API key"), (404, "Check base_url"), (302, "not followed")],
)
def test_a_refusal_says_who_must_do_what(server, status, says):
    server.usual = Reply(status=status)
    assert says in str(failure(post_sync, server))


@both
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(post, server, form):
    wall = 1_700_000_000.0
    # A date has whole seconds only, so the wall clock stands 0.2 s before one.
    after = "0.2" if form == "seconds" else formatdate(wall, usegmt=True)
    server.will(Reply(status=429, headers={"Retry-After": after}))
    began = time.monotonic()
    post(server, quick(wall_clock=lambda: wall - 0.2), CREATE)
    assert time.monotonic() - began >= 0.2
    assert len(server.seen) == 2


@both
@pytest.mark.parametrize(("status", "kind"), [(429, VaultThrottled), (503, VaultUnavailable)])
@pytest.mark.parametrize("after", ["3", "86400", formatdate(1_700_000_003, usegmt=True)])
def test_retry_after_beyond_the_deadline_fails_at_once(post, server, status, kind, after):
    server.usual = Reply(status=status, headers={"Retry-After": after})
    began = time.monotonic()
    error = failure(post, server, quick(timeout=2.0, wall_clock=lambda: 1_700_000_000.0))
    assert time.monotonic() - began < 1
    assert type(error) is kind
    assert "Gave up after 1 try." in str(error)


def test_pauses_are_slept_by_the_clock_that_was_handed_in(server):
    slept: list[float] = []
    server.will(Reply(status=500), Reply(status=500), Reply(status=500))
    policy = RetryPolicy(timeout=5.0, random=lambda: 1.0)
    client = VaultClient(endpoint(server.url), policy, sleep=slept.append)
    client.post(CREATE.path, CREATE.payload)
    client.close()
    assert slept == [0.1, 0.2, 0.4]


def test_coroutines_sleep_by_the_clock_that_was_handed_in(server):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def scene() -> None:
        client = AsyncVaultClient(endpoint(server.url), RetryPolicy(timeout=5.0, random=lambda: 1.0), sleep=sleep)
        await client.post(CREATE.path, CREATE.payload)

    server.will(Reply(status=500), Reply(status=500), Reply(status=500))
    asyncio.run(scene())
    assert slept == [0.1, 0.2, 0.4]


SLOW = {
    "slow to begin": Reply(delay=2),
    "slow between": Reply(pieces=[b" "] * 14, pause=0.15),
    "dripping": Reply(pieces=[b" "] * 200, pause=0.01),
}


@both
@pytest.mark.parametrize("reply", SLOW.values(), ids=SLOW)
def test_a_slow_answer_ends_at_the_deadline(post, server, reply):
    server.usual = reply
    began = time.monotonic()
    error = failure(post, server, quick(timeout=0.2))
    assert 0.19 <= time.monotonic() - began < 1
    assert type(error) is VaultUnavailable
    assert "in time" in str(error)


@both
def test_the_deadline_counts_all_tries_together(post, server):
    server.usual = Reply(status=503, delay=0.08)
    began = time.monotonic()
    error = failure(post, server, quick(timeout=0.2, max_retries=100))
    assert time.monotonic() - began < 1
    assert type(error) is VaultUnavailable
    assert len(server.seen) <= 3


def test_waiting_for_a_connection_counts_too(server):
    """Fixed timeouts for each phase would add up; here each phase has what is left."""
    clock = iter([0.0, 1.5, 1.9, 3.0]).__next__
    timeouts = (
        endpoint(server.url).request("/x", {}, RetryPolicy(timeout=2.0, clock=clock).begin()).extensions["timeout"]
    )
    assert [timeouts.get(phase) for phase in ("pool", "connect", "read")] == pytest.approx([0.5, 0.1, 0.001])


@both
@pytest.mark.parametrize("after", [0, 20])
def test_a_connection_that_breaks_is_tried_again(post, server, after):
    server.will(Reply(reset_after=after))
    assert post(server, quick(), CREATE).content["data_key"] == DATA_KEY
    assert len(server.seen) == 2


@both
def test_a_connection_that_keeps_breaking_is_given_up(post, server):
    server.usual = Reply(reset_after=20)
    error = failure(post, server, quick(max_retries=1))
    assert type(error) is VaultUnavailable
    assert "The connection to the Vault broke. Gave up after 2 tries." in str(error)


@both
def test_the_status_counts_even_if_the_body_breaks(post, server):
    server.usual = Reply(status=403, reset_after=3)
    assert failure(post, server).status == 403


@both
def test_nobody_listens(post, server):
    server.server_close()
    error = failure(post, server, quick(max_retries=1))
    assert type(error) is VaultUnavailable
    assert "The Vault cannot be reached (" in str(error)
    assert error.status is None
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.server_port), 1)


# Redirects.


@both
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(post, server, status):
    with faulty_server() as elsewhere:
        server.usual = Reply(status=status, headers={"Location": f"{elsewhere.url}/vault/v1/keys/data-key"})
        error = failure(post, server)
        assert (type(error), error.status) == (VaultRefused, status)
        assert "redirect" in str(error)
        assert elsewhere.opened == 0


# Answers that are not what was asked for.

NOT_JSON = {
    "cut short": b'{"id": "a"',
    "not JSON": b"<html>" + DATA_KEY.encode(),
    "empty": b"",
    "a list": json.dumps([DATA_KEY]).encode(),
    "a string": json.dumps(DATA_KEY).encode(),
    "not UTF-8": b'{"id": "\xff"}',
    "deeper than the stack": b"[" * 200_000,
    "a number without end": b"1" * 10_000,
}


@both
@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_an_answer_that_is_no_json_object_is_refused(post, server, raw):
    server.usual = Reply(raw=raw)
    error = failure(post, server)
    assert type(error) is VaultRefused
    assert "something that is not a JSON object" in str(error)
    assert len(server.seen) == 1


@both
@pytest.mark.parametrize("kind", ["text/html", "text/plain", "", "application/jsonx"])
def test_an_answer_of_another_media_type_is_refused(post, server, kind):
    server.usual = Reply(headers={"Content-Type": kind})
    assert "something that is not JSON" in str(failure(post, server))


def test_a_media_type_may_have_parameters(server):
    server.usual = Reply(headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert post_sync(server, quick(), CREATE).content["data_key"] == DATA_KEY


@both
def test_an_answer_is_not_read_beyond_its_bound(post, server):
    pieces = [b" " * 65536] * 400
    server.usual = Reply(pieces=pieces)
    error = failure(post, server)
    assert type(error) is VaultRefused
    assert "more than 256 KiB" in str(error)


def test_an_answer_of_exactly_the_bound_is_read(server):
    body = json.dumps({"id": "x"}).encode()
    server.will(Reply(raw=body.ljust(MAX_ANSWER_BYTES)), Reply(raw=body.ljust(MAX_ANSWER_BYTES + 1)))
    assert post_sync(server, quick(), CREATE).content == {"id": "x"}
    assert "more than 256 KiB" in str(failure(post_sync, server))


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("req_01HZX-a.b:c", "req_01HZX-a.b:c"),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        ("has space", None),
        ("<script>", None),
        ("", None),
    ],
)
def test_a_request_id_is_believed_only_if_it_looks_like_one(server, header, shown):
    server.usual = Reply(status=400, headers={"X-Request-ID": header})
    assert failure(post_sync, server).request_id == shown


# Data keys.


def key_from(call: KeyCall, **changes: Any) -> DataKey:
    content = {"id": "dek_1", "data_key": DATA_KEY, "encrypted_keys": BLOB, "context": {"organization_id": TENANT}}
    return call.data_key(Answer({**content, **changes}, "req_9"), alias="eu")


REKEY = KeyCall.rekey(BLOB, CONTEXT)
DECRYPT = KeyCall.decrypt(BLOB)


@pytest.mark.parametrize("call", [CREATE, REKEY, DECRYPT], ids=["create", "rekey", "decrypt"])
def test_a_right_answer_is_a_data_key(call):
    key = key_from(call)
    assert (key.id, key.plaintext, key.encrypted_keys) == ("dek_1", PLAINTEXT, BLOB)


def test_decrypt_keeps_the_encrypted_keys_that_were_asked_about():
    assert key_from(DECRYPT, encrypted_keys="b3RoZXI=", context=None).encrypted_keys == BLOB


WRONG = {
    "no id": {"id": None},
    "empty id": {"id": ""},
    "id too long": {"id": "x" * 129},
    "id with a line feed": {"id": "dek_1\n"},
    "id that is a number": {"id": 7},
    "no key": {"data_key": None},
    "key that is a list": {"data_key": [DATA_KEY]},
    "key of 31 bytes": {"data_key": base64.b64encode(bytes(31)).decode()},
    "key of 33 bytes": {"data_key": base64.b64encode(bytes(33)).decode()},
    "key without padding": {"data_key": DATA_KEY.rstrip("=")},
    "key with a line feed": {"data_key": DATA_KEY + "\n"},
    "key in url-safe base64": {"data_key": base64.urlsafe_b64encode(b"\xff" * 32).decode()},
    "key in hex": {"data_key": PLAINTEXT.hex()},
    "key that is not ASCII": {"data_key": "é" + DATA_KEY[1:]},
}
WRONG_WRAPPING = {
    "no encrypted keys": {"encrypted_keys": None},
    "empty encrypted keys": {"encrypted_keys": ""},
    "encrypted keys that are not base64": {"encrypted_keys": "not base64!"},
    "encrypted keys beyond their bound": {"encrypted_keys": "A" * (64 * 1024 + 4)},
    "no context": {"context": None},
    "another tenant": {"context": {"organization_id": "org_other"}},
    "one item more": {"context": {"organization_id": TENANT, "purpose": "care"}},
    "no item": {"context": {}},
    "context that is a list": {"context": [["organization_id", TENANT]]},
}


@pytest.mark.parametrize("call", [CREATE, REKEY, DECRYPT], ids=["create", "rekey", "decrypt"])
@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_what_is_not_a_data_key_is_refused(call, changes):
    refused(call, changes)


@pytest.mark.parametrize("call", [CREATE, REKEY], ids=["create", "rekey"])
@pytest.mark.parametrize("changes", WRONG_WRAPPING.values(), ids=WRONG_WRAPPING)
def test_a_key_that_is_wrapped_wrongly_or_for_another_context_is_refused(call, changes):
    refused(call, changes)


def refused(call: KeyCall, changes: dict[str, Any]) -> None:
    with pytest.raises(VaultRefused, match="answered something that is not a data key: ") as caught:
        key_from(call, **changes)
    error = caught.value
    assert (error.alias, error.status, error.request_id) == ("eu", 200, "req_9")
    assert error.__context__ is None
    assert_no_secret(str(error))


# Addresses.


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
def test_https_anywhere_and_http_on_this_machine_are_addresses(url):
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
def test_anything_else_is_a_wrong_setting_and_is_not_quoted(url, says):
    with pytest.raises(ImproperlyConfigured) as caught:
        endpoint(url)
    assert str(caught.value).startswith("VAULTS['eu']: base_url must")
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.__context__ is None


@both
def test_plain_http_does_not_go_through_a_proxy_of_the_environment(post, server, monkeypatch):
    """It would read the token and the keys."""
    with faulty_server() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        post(server, quick(), CREATE)
        assert proxy.opened == 0


def test_https_goes_through_a_proxy_of_the_environment_in_a_tunnel(monkeypatch, server):
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
def test_an_environment_that_cannot_be_used_is_a_wrong_setting(monkeypatch, name, value, kind):
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


def test_netrc_does_not_replace_the_credentials(server, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    post_sync(server, quick(), CREATE)
    assert server.seen[0].headers["Authorization"] == f"Bearer {API_KEY}"


# Nothing leaks.


def test_no_secret_is_in_a_repr(server):
    vault_endpoint = endpoint(server.url)
    client, later = VaultClient(vault_endpoint, quick()), AsyncVaultClient(vault_endpoint, quick())
    request = vault_endpoint.request(CREATE.path, CREATE.payload, quick().begin())
    for thing in (vault_endpoint, client, later, request, CREATE, REKEY, DECRYPT):
        assert_no_secret(repr(thing))
    assert repr(client) == "<VaultClient of <Endpoint 'eu' at 127.0.0.1>>"
    assert repr(later) == "<AsyncVaultClient of <Endpoint 'eu' at 127.0.0.1>>"


@both
def test_no_secret_is_in_any_log_at_any_level(post, server, caplog):
    caplog.set_level(logging.DEBUG)
    leaky = {"error": f"{API_KEY} {DATA_KEY} {BLOB}"}
    server.will(Reply(status=503, content=leaky), Reply(reset_after=5))
    for call in (CREATE, DECRYPT, REKEY):
        post(server, quick(), call)
    server.usual = Reply(status=401, content=leaky)
    failure(post, server)
    messages = [record.getMessage() for record in caplog.records]
    assert any("VAULTS['eu']: The Vault cannot answer now (HTTP 503). Trying again in" in text for text in messages)
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    for text in [*messages, *map(repr, (record.args for record in caplog.records))]:
        assert_no_secret(text)


@both
@pytest.mark.parametrize(
    "reply", [Reply(status=500), Reply(status=401), Reply(raw=DATA_KEY.encode()), Reply(reset_after=9)]
)
def test_no_frame_of_a_traceback_has_the_api_key_or_a_data_key_as_a_local_variable(post, server, reply):
    """Error trackers send the local variables of every frame."""
    server.usual = reply
    error = failure(post, server, quick(max_retries=1))
    ours = our_local_variables(error)
    assert "tries" in ours
    for secret in (API_KEY, DATA_KEY, repr(PLAINTEXT)):
        assert secret not in ours


def test_many_threads_closing_and_calling_never_see_anything_but_answers(server):
    client = VaultClient(endpoint(server.url), quick(timeout=5, max_retries=0))
    stop = threading.Event()

    def keep_closing() -> None:
        while not stop.wait(0.003):
            client.close()

    closer = threading.Thread(target=keep_closing)
    closer.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.post(CREATE.path, CREATE.payload), range(150)))
    finally:
        stop.set()
        closer.join()
        client.close()
    assert {answer.content["data_key"] for answer in answers} == {DATA_KEY}
