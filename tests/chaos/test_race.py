"""A hundred processes that need the key of one new tenant in the same moment."""

import fcntl
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.crew import Crew
from tests.chaos.engines import running_engine
from tests.chaos.experiment import Figures
from tests.chaos.journal import entries
from tests.chaos.racer import GUN
from tests.chaos.sizes import SEED
from tests.chaos.world import World, database_at

PROCESSES = 100


@pytest.mark.parametrize("name", ["embedded", "served", "openbao", "cluster"])
def test_hundred_processes_make_one_kek_and_every_key_opens(name: str, tmp_path: Path, table: list[Figures]) -> None:
    with (
        running_engine(name, tmp_path, timeout=120) as engine,
        closing(World(tmp_path, SEED, database_at("sqlite://", tmp_path), {"default": engine.entry})) as world,
    ):
        assert not engine.keks()
        crew = Crew(world)
        with (tmp_path / GUN).open("wb") as gun:
            fcntl.flock(gun, fcntl.LOCK_EX)
            racers = [crew.start("racer", slot) for slot in range(PROCESSES)]
            for racer in racers:
                racer.await_lines(1)
            fcntl.flock(gun, fcntl.LOCK_UN)
            for racer in racers:
                racer.await_lines(4)  # … doing, done, and what it was given.
            crew.kill_all()
        answers = [entries(racer.journal)[-1] for racer in racers]
        assert list(engine.keks().values()) == [1]
        opened = world.call("open")
    expected = {answer["encrypted_keys"]: answer["fingerprint"] for answer in answers}
    assert len(expected) == PROCESSES
    assert opened == expected
    oracle = world.oracle()
    table.append(
        Figures(
            experiment="race for one KEK",
            vault=name,
            database="–",
            processes=PROCESSES,
            disturbances="–",
            acknowledged=PROCESSES,
            given_up=0,
            read=len(opened),
            lost=0,
            longest=oracle.longest,
            longest_call=oracle.longest_call,
        )
    )
