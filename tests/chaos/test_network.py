"""A network that fails between a project and a served vault: calls end in time, and what was acknowledged is there."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.crew import Crew
from tests.chaos.engines import Served
from tests.chaos.experiment import MAINTAINER, WRITERS, Figures, looked_at
from tests.chaos.sizes import FAULTS, SEED
from tests.chaos.wire import FAULTS as KINDS, Wire
from tests.chaos.world import HANGS, new_world

# Seconds: the deadline of one operation of the vault, and what the machine may add to it before that means "it hangs".
TIMEOUT = 2.0
SLACK = 60.0

SHARE = 0.2


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb"])
def test_calls_end_in_time_and_nothing_is_lost(
    database: str, database_url: Callable[[str], str], tmp_path: Path, table: list[Figures]
) -> None:
    seed = f"{SEED} network {database}"
    served = Served(tmp_path, timeout=TIMEOUT)
    try:
        with Wire(served.url, seed, share=0) as wire:
            served.entry["OPTIONS"]["base_url"] = wire.url
            with new_world(tmp_path, seed, database_url(database), {"default": served.entry}) as world:
                crew = Crew(world)
                writers = [crew.start("writer", slot) for slot in range(WRITERS)]
                crew.start("maintainer", MAINTAINER)
                for writer in writers:
                    writer.await_entries(20)
                wire.share = SHARE
                _await_faults(wire)
                wire.share = 0
                # Nobody was stopped for good.
                for writer in writers:
                    writer.await_entries(20)
                crew.kill_all()
                oracle, found = looked_at(world)
    finally:
        served.stop()
    assert oracle.given_up.keys() & {"VaultUnavailable", "NoAnswerInTime"}, "no fault reached a writer"
    assert oracle.longest_call < TIMEOUT + SLACK
    done = f"{wire.faults.total()} faults of the network"
    said = {"experiment": "network", "vault": "served", "database": database}
    table.append(Figures.of(oracle, found, **said, processes=4, disturbances=done))


def _await_faults(wire: Wire) -> None:
    """So many, and every kind among them."""
    deadline = time.monotonic() + HANGS
    while wire.faults.total() < FAULTS or len(wire.faults) < len(KINDS):
        assert time.monotonic() < deadline, f"only these faults came about: {dict(wire.faults)}"
        time.sleep(0.05)
