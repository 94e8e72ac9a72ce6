"""Retries and the deadline over all of them, against a real server that is slow, busy or breaks."""

import asyncio
import socket
import time
from email.utils import formatdate

import pytest

from tests.client.calls import API_KEY, CREATE, both, endpoint, failure, post_sync, quick
from tests.faulty_server import DATA_KEY, Reply
from vault_fields.client import AsyncVaultClient, RetryPolicy, VaultClient
from vault_fields.exceptions import VaultRefused, VaultThrottled, VaultUnavailable


@both
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(post, server, status) -> None:
    server.will(Reply(status=status), Reply(status=status))
    assert post(server, quick(), CREATE).content["data_key"] == DATA_KEY
    assert len(server.seen) == 3


@both
@pytest.mark.parametrize(("status", "kind"), [(408, VaultUnavailable), (429, VaultThrottled), (503, VaultUnavailable)])
def test_what_does_not_pass_is_given_up(post, server, status, kind) -> None:
    server.usual = Reply(status=status, content={"error": f"{API_KEY} {DATA_KEY}"})
    error = failure(post, server, quick(max_retries=2))
    assert type(error) is kind
    assert (error.status, error.request_id) == (status, "req_01")
    assert "Gave up after 3 tries." in str(error)
    assert len(server.seen) == 3


@both
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 201, 204, 301, 302, 307, 308])
def test_what_does_not_pass_by_waiting_is_not_tried_again(post, server, status) -> None:
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
def test_a_refusal_says_who_must_do_what(server, status, says) -> None:
    server.usual = Reply(status=status)
    assert says in str(failure(post_sync, server))


@both
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(post, server, form) -> None:
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
@pytest.mark.parametrize(
    ("after", "seconds"), [("30", 30.0), ("86400", 86400.0), (formatdate(1_700_000_030, usegmt=True), 30.0)]
)
def test_retry_after_beyond_the_deadline_fails_at_once(post, server, status, kind, after, seconds) -> None:
    server.usual = Reply(status=status, headers={"Retry-After": after})
    began = time.monotonic()
    error = failure(post, server, quick(timeout=20.0, wall_clock=lambda: 1_700_000_000.0))
    assert time.monotonic() - began < 60
    assert type(error) is kind
    assert "Gave up after 1 try." in str(error)
    assert error.retry_after == seconds


def test_pauses_are_slept_by_the_clock_that_was_handed_in(server) -> None:
    slept: list[float] = []
    server.will(Reply(status=500), Reply(status=500), Reply(status=500))
    policy = RetryPolicy(timeout=5.0, random=lambda: 1.0)
    client = VaultClient(endpoint(server.url), policy, sleep=slept.append)
    client.post(CREATE.path, CREATE.payload)
    client.close()
    assert slept == [0.1, 0.2, 0.4]


def test_coroutines_sleep_by_the_clock_that_was_handed_in(server) -> None:
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
    "slow to begin": Reply(delay=30),
    "slow between": Reply(pieces=[b" "] * 200, pause=0.15),
    "dripping": Reply(pieces=[b" "] * 3000, pause=0.01),
}


@both
@pytest.mark.parametrize("reply", SLOW.values(), ids=SLOW)
def test_a_slow_answer_ends_at_the_deadline(post, server, reply) -> None:
    server.usual = reply
    began = time.monotonic()
    error = failure(post, server, quick(timeout=0.2))
    assert 0.19 <= time.monotonic() - began < 60
    assert isinstance(error, VaultUnavailable)
    assert "in time" in str(error)


@both
def test_the_deadline_counts_all_tries_together(post, server) -> None:
    server.usual = Reply(status=503, delay=0.08)
    began = time.monotonic()
    error = failure(post, server, quick(timeout=0.2, max_retries=100))
    assert time.monotonic() - began < 60
    assert isinstance(error, VaultUnavailable)
    assert len(server.seen) <= 3


def test_waiting_for_a_connection_counts_too(server) -> None:
    """Fixed timeouts for each phase would add up; here each phase has what is left."""
    clock = iter([0.0, 1.5, 1.9, 3.0]).__next__
    timeouts = (
        endpoint(server.url).request("/x", {}, RetryPolicy(timeout=2.0, clock=clock).begin()).extensions["timeout"]
    )
    assert [timeouts.get(phase) for phase in ("pool", "connect", "read")] == pytest.approx([0.5, 0.1, 0.001])


@both
@pytest.mark.parametrize("after", [0, 20])
def test_a_connection_that_breaks_is_tried_again(post, server, after) -> None:
    server.will(Reply(reset_after=after))
    assert post(server, quick(), CREATE).content["data_key"] == DATA_KEY
    assert len(server.seen) == 2


@both
def test_a_connection_that_keeps_breaking_is_given_up(post, server) -> None:
    server.usual = Reply(reset_after=20)
    error = failure(post, server, quick(max_retries=1))
    assert type(error) is VaultUnavailable
    assert "The connection to the Vault broke. Gave up after 2 tries." in str(error)


@both
@pytest.mark.parametrize("reply", [Reply(status=401), Reply(raw=b"no JSON"), Reply(reset_after=5)])
def test_every_failure_names_the_host_that_was_asked(post, server, reply) -> None:
    server.usual = reply
    assert f" Host: 127.0.0.1:{server.server_port}." in str(failure(post, server, quick(max_retries=0)))


@both
def test_the_status_counts_even_if_the_body_breaks(post, server) -> None:
    server.usual = Reply(status=403, reset_after=3)
    assert failure(post, server).status == 403


@both
def test_nobody_listens(post, server) -> None:
    server.server_close()
    error = failure(post, server, quick(max_retries=1))
    assert type(error) is VaultUnavailable
    assert "The Vault cannot be reached (" in str(error)
    assert f"Gave up after 2 tries. Host: 127.0.0.1:{server.server_port}." in str(error)
    assert error.status is None
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.server_port), 1)
