"""The budget of calls: how many at once, how many in a minute, and what becomes of those that come too late."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client.calls import API_KEY, CREATE, quick
from vault_fields.backends.workos import HOSTED_CALLS_PER_MINUTE, WorkOSVault
from vault_fields.client import AsyncVaultClient, Budget, Endpoint, VaultClient
from vault_fields.exceptions import VaultThrottled


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_sixth_is_there_at_once_and_the_rest_comes_evenly(clock) -> None:
    budget = Budget(600, clock=clock)
    assert [budget.turn(0.0) for _ in range(100)] == [(0.0, True)] * 100
    assert [budget.turn(60.0) for _ in range(3)] == [(pytest.approx(n * 60 / 500), True) for n in (1, 2, 3)]


def test_there_are_never_more_in_a_minute(clock) -> None:
    budget, made = Budget(60, clock=clock), []
    for pause in (0.0, 0.4, 3.1, 0.0, 17.0) * 300:
        clock.sleep(pause / 10)
        wait, has_turn = budget.turn(5.0)
        if has_turn:
            made.append(clock.now + wait)
    assert len(made) > 300
    assert max(sum(begin <= each < begin + 60 for each in made) for begin in made) <= 60


def test_who_has_no_time_to_wait_takes_nothing_from_the_others(clock) -> None:
    budget = Budget(60, clock=clock)
    for _ in range(10):
        budget.turn(0.0)
    wait, has_turn = budget.turn(0.5)
    assert (wait, has_turn) == (pytest.approx(1.2), False)
    clock.sleep(wait)
    assert budget.turn(0.0) == (pytest.approx(0.0), True)


def test_what_is_not_spent_is_there_later_but_no_more_than_the_bucket_holds(clock) -> None:
    budget = Budget(60, clock=clock)
    clock.sleep(3600)
    assert sum(budget.turn(0.0)[1] for _ in range(100)) == 10


def endpoint(url: str, clock: Clock) -> Endpoint:
    return Endpoint(url, alias="eu", headers={}, budget=Budget(60, clock=clock))


def test_threads_and_coroutines_share_it_and_wait_for_their_turn(server, clock) -> None:
    shared = endpoint(server.url, clock)
    client = VaultClient(shared, quick(), sleep=clock.sleep)
    later = AsyncVaultClient(shared, quick(), sleep=clock.asleep)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: client.post(CREATE.path, CREATE.payload), range(6)))

    async def calls() -> None:
        for _ in range(6):
            await later.post(CREATE.path, CREATE.payload)

    asyncio.run(calls())
    client.close()
    assert len(server.seen) == 12
    assert clock.now == pytest.approx(1002.4)


def test_beyond_the_deadline_the_vault_is_not_asked(server, clock) -> None:
    client = VaultClient(endpoint(server.url, clock), quick(timeout=1.0), sleep=clock.sleep)
    for _ in range(10):
        client.post(CREATE.path, CREATE.payload, timeout=60)
    with pytest.raises(VaultThrottled, match=r"in 1\.2 s, after the deadline.* Host: 127\.0\.0\.1:") as caught:
        client.post(CREATE.path, CREATE.payload)
    client.close()
    assert (caught.value.alias, caught.value.retry_after) == ("eu", pytest.approx(1.2))
    assert len(server.seen) == 10


def test_a_call_waits_for_its_turn(server, clock) -> None:
    client = VaultClient(endpoint(server.url, clock), quick(timeout=60), sleep=clock.sleep)
    for _ in range(12):
        client.post(CREATE.path, CREATE.payload)
    client.close()
    assert len(server.seen) == 12
    assert clock.now == pytest.approx(1002.4)


def test_the_hosted_vault_has_the_budget_that_is_documented_and_another_none() -> None:
    hosted, other = WorkOSVault(api_key=API_KEY), WorkOSVault(api_key=API_KEY, base_url="https://vault.example")
    assert hosted._budget is not None
    assert sum(hosted._budget.turn(0.0)[1] for _ in range(1200)) >= HOSTED_CALLS_PER_MINUTE // 6
    assert other._budget is None
    own = WorkOSVault(api_key=API_KEY, max_calls_per_minute=60)._budget
    assert own is not None
    assert own._size == 10


@pytest.mark.parametrize("value", [0, 59, 100.5, "600", True])
def test_a_budget_that_is_none_is_a_wrong_setting(value) -> None:
    from django.core.exceptions import ImproperlyConfigured

    with pytest.raises(ImproperlyConfigured, match="max_calls_per_minute must be a whole number of at least 60"):
        WorkOSVault(api_key=API_KEY, max_calls_per_minute=value)
