"""Writers that are killed, and what is found afterwards."""

import time
from dataclasses import dataclass
from random import Random
from typing import Any, Self

from tests.chaos.crew import Crew
from tests.chaos.engines import Engine
from tests.chaos.journal import Oracle
from tests.chaos.world import HANGS, World

__all__ = ["Figures", "found", "killed_writers", "looked_at"]

WRITERS = 3
MAINTAINER = 3


@dataclass
class Figures:
    """What an experiment did, and what is left of it. A row of the table in the documentation."""

    experiment: str
    vault: str
    database: str
    processes: int
    disturbances: str
    acknowledged: int
    given_up: int
    read: int
    lost: int
    longest: float
    longest_call: float
    memory: str = "–"

    @classmethod
    def of(cls, oracle: Oracle, found: "Found", **said: Any) -> Self:
        return cls(
            acknowledged=oracle.acknowledged.total(),
            given_up=oracle.given_up.total(),
            read=found.values,
            lost=len(found.problems),
            longest=oracle.longest,
            longest_call=oracle.longest_call,
            **said,
        )


def killed_writers(world: World, engine: Engine, chosen: Random, kills: int) -> str:
    """
    Kill one writer after the other, or the one who maintains, each after so many lines of its journal.

    Every fourth time the vault too. Says what was done.
    """
    vault_kills = 0
    crew = Crew(world)
    for slot in range(WRITERS):
        crew.start("writer", slot)
    crew.start("maintainer", MAINTAINER)
    for turn in range(1, kills + 1):
        victim = chosen.choice(crew.members)
        victim.await_entries(chosen.randint(3, 40) if victim.role == "writer" else chosen.randint(1, 4))
        # Within whatever it does then.
        time.sleep(chosen.uniform(0, 0.02))
        crew.replace(victim)
        if turn % 3 == 0:
            engine.rotate(chosen)
        if engine.can_be_killed and turn % 4 == 0:
            engine.kill()
            vault_kills += 1
    for member in crew.members:
        # Nobody was stopped for good by what happened to others.
        member.await_entries(2)
    kills += len(crew.members)
    crew.kill_all()
    return f"{kills} kills" + (f", {vault_kills} of the vault" if vault_kills else "")


@dataclass
class Found:
    problems: list[str]
    rows: int
    values: int


def found(world: World, *, encrypted: bool = False) -> Found:
    """What a new process finds in the database."""
    return Found(**world.call("check", encrypted))


def looked_at(world: World) -> tuple[Oracle, Found]:
    """What is there right after the kills, and when all that was interrupted was run again."""
    first = found(world)
    assert not first.problems, report(first.problems)
    world.call("command", "vault_encrypt", "testapp.Legacy")
    world.call("command", "vault_rekey", "--all", "--rewrap")
    second = found(world, encrypted=True)
    assert not second.problems, report(second.problems)
    assert second.rows == first.rows
    oracle = world.oracle()
    assert oracle.acknowledged["create"], "nothing was acknowledged"
    assert oracle.longest < HANGS
    return oracle, second


def report(problems: list[str]) -> str:
    return "\n".join([f"{len(problems)} problems", *problems[:20]])
