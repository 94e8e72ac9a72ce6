"""The retry policy by itself: its clocks, its sleep and its chance are handed in, so nothing here waits."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from vault_fields.client.retry import RetryPolicy, seconds_until_retry

NOW = 1_700_000_000.0


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def policy(clock: Callable[[], float], **options: object) -> RetryPolicy:
    return RetryPolicy(**{"clock": clock, "random": lambda: 1.0, **options})  # type: ignore[arg-type]


def test_pauses_double_up_to_the_longest() -> None:
    tries = policy(Clock(), timeout=100, max_retries=6).begin()
    assert [tries.pause() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]


def test_a_pause_is_anywhere_between_nothing_and_its_bound() -> None:
    chances = iter([0.0, 0.5])
    tries = policy(Clock(), random=lambda: next(chances)).begin()
    assert [tries.pause(), tries.pause()] == [0.0, 0.1]


def test_real_pauses_differ() -> None:
    pauses = {RetryPolicy().begin().pause() for _ in range(20)}
    assert len(pauses) == 20
    assert all(0 <= pause <= 0.1 for pause in pauses)


def test_no_more_retries_than_allowed() -> None:
    tries = policy(Clock(), max_retries=2).begin()
    assert [tries.pause() is None for _ in range(4)] == [False, False, True, True]
    assert tries.made == 3


def test_no_retry_at_all_with_max_retries_0() -> None:
    assert policy(Clock(), max_retries=0).begin().pause() is None


def test_what_the_server_asks_for_is_the_least_pause() -> None:
    tries = policy(Clock()).begin()
    assert tries.pause(at_least=3.0) == 3.0


def test_the_backoff_stands_where_the_server_asks_for_less() -> None:
    tries = policy(Clock()).begin()
    assert tries.pause(at_least=0.01) == 0.1


@pytest.mark.parametrize("asked", [5.0, 60.0, float("inf")])
def test_no_pause_that_would_reach_the_deadline(asked) -> None:
    tries = policy(Clock(), timeout=5.0).begin()
    assert tries.pause(at_least=asked) is None
    assert tries.made == 1


def test_the_deadline_counts_from_the_beginning_of_the_operation() -> None:
    clock = Clock()
    tries = policy(clock, timeout=5.0).begin()
    clock.time = 4.95
    assert tries.remaining() == pytest.approx(0.05)
    assert tries.pause() is None
    clock.time = 6.0
    assert tries.remaining() == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("header", "seconds"), [("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("0.25", 0.25), ("9" * 400, float("inf"))]
)
def test_retry_after_in_seconds(header, seconds) -> None:
    assert seconds_until_retry(header, NOW) == seconds


def test_retry_after_as_http_date() -> None:
    moment = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=90)
    assert seconds_until_retry(format_datetime(moment, usegmt=True), NOW) == 90.0


def test_retry_after_as_date_without_zone_is_utc() -> None:
    assert seconds_until_retry("Tue, 14 Nov 2023 22:14:50 -0000", NOW) == 90.0


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "soon",
        "-5",
        "1e3",
        "nan",
        "inf",
        "1_0",
        "٣",
        "Tue, 14 Nov 2023 22:13:10 GMT",
        "Tue, 99 Nov 2023 22:13:10 GMT",
        "Tue, 14 Nov 2023 22:13:10 +99999999999999",
    ],
)
def test_retry_after_that_makes_no_sense_or_is_past_asks_for_nothing(header) -> None:
    assert seconds_until_retry(header, NOW) == 0.0


def test_a_retry_begins_when_all_places_were_tried() -> None:
    tries = policy(Clock(), timeout=100, max_retries=1).begin(places=3)
    assert [tries.pause() for _ in range(6)] == [0.0, 0.0, 0.1, 0.0, 0.0, None]


def test_places_are_all_tried_without_retries() -> None:
    tries = policy(Clock(), max_retries=0).begin(places=2)
    assert [tries.pause(), tries.pause()] == [0.0, None]


def test_the_first_of_several_places_leaves_time_to_the_others() -> None:
    clock = Clock()
    tries = policy(clock, timeout=6.0).begin(places=3)
    shares = []
    for _ in range(3):
        shares.append(tries.remaining())
        clock.time += 1.0
        tries.pause()
    assert shares == pytest.approx([2.0, 2.5, 4.0])


def test_what_a_place_asks_for_is_waited_for_before_the_next() -> None:
    assert policy(Clock()).begin(places=2).pause(at_least=3.0) == 3.0


def test_repr_shows_numbers_only() -> None:
    assert repr(RetryPolicy()) == "RetryPolicy(timeout=5.0, max_retries=3, first_pause=0.1, longest_pause=2.0)"
