"""The circuit of one customer's key: who may ask, who waits, and who is told at once."""

import threading
import time

import pytest

from vault_fields.embedded.customer.circuits import MAX_CALLS_AT_ONCE, PAUSE, Circuit
from vault_fields.exceptions import KeyRevoked, VaultUnavailable
from vault_fields.runtime.deadline import NoAnswerInTime


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(clock=clock)


def silence(circuit: Circuit) -> None:
    with pytest.raises(NoAnswerInTime, match="silent for ever"), circuit.turn(5):
        raise NoAnswerInTime("It was silent for ever.")


def test_after_a_time_out_nobody_asks_for_a_while(circuit: Circuit, clock: Clock) -> None:
    silence(circuit)
    clock.now += PAUSE - 1
    with pytest.raises(VaultUnavailable, match=r"silent a moment ago and is asked again in 1 s.*silent for ever"):
        circuit.turn(5).__enter__()


def test_then_one_at_a_time_finds_out_whether_it_answers_again(circuit: Circuit, clock: Clock) -> None:
    silence(circuit)
    clock.now += PAUSE
    with circuit.turn(5), pytest.raises(VaultUnavailable, match="being asked now by another call"):
        circuit.turn(5).__enter__()
    with circuit.turn(5), circuit.turn(5):
        pass


def test_a_probe_that_is_not_answered_starts_the_while_anew(circuit: Circuit, clock: Clock) -> None:
    silence(circuit)
    clock.now += PAUSE
    silence(circuit)
    with pytest.raises(VaultUnavailable, match="asked again in 5 s") as raised:
        circuit.turn(5).__enter__()
    assert raised.value.retry_after == PAUSE


@pytest.mark.parametrize("answer", [KeyRevoked("no"), VaultUnavailable("Connection refused."), ValueError("x")])
def test_any_answer_is_one(circuit: Circuit, clock: Clock, answer: Exception) -> None:
    silence(circuit)
    clock.now += PAUSE
    for _ in range(2):
        with pytest.raises(type(answer)), circuit.turn(5):
            raise answer


def test_an_interrupted_probe_leaves_it_to_the_next(circuit: Circuit, clock: Clock) -> None:
    silence(circuit)
    clock.now += PAUSE
    with pytest.raises(KeyboardInterrupt), circuit.turn(5):
        raise KeyboardInterrupt
    with circuit.turn(5):
        pass


def test_only_so_many_are_under_way_and_the_others_wait_no_longer_than_they_may(circuit: Circuit) -> None:
    turns = [circuit.turn(60) for _ in range(MAX_CALLS_AT_ONCE)]
    for turn in turns:
        turn.__enter__()
    with pytest.raises(NoAnswerInTime, match="8 other calls wait for its provider"):
        circuit.turn(0.01).__enter__()
    turns.pop().__exit__(None, None, None)
    with circuit.turn(0.01):
        pass


def test_who_waits_for_a_turn_is_told_when_there_is_no_answer(circuit: Circuit) -> None:
    turns = [circuit.turn(60) for _ in range(MAX_CALLS_AT_ONCE)]
    for turn in turns:
        turn.__enter__()
    told: list[Exception] = []

    def wait() -> None:
        try:
            circuit.turn(60).__enter__()
        except VaultUnavailable as error:
            told.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not circuit._changed._waiters:  # type: ignore[attr-defined]
        time.sleep(0.001)
    error = NoAnswerInTime("It was silent.")
    assert turns.pop().__exit__(NoAnswerInTime, error, None) is False
    waiting.join(30)
    assert "it was not asked" in str(told[0])


def test_a_call_that_had_hardly_any_time_tells_nothing(clock: Clock) -> None:
    circuit = Circuit(patience=1.0, clock=clock)
    with pytest.raises(NoAnswerInTime), circuit.turn(0.5):
        raise NoAnswerInTime("It was silent.")
    with pytest.raises(NoAnswerInTime), circuit.turn(5):
        raise NoAnswerInTime("It was silent.")
    with pytest.raises(VaultUnavailable, match="it was not asked"):
        circuit.turn(5).__enter__()
