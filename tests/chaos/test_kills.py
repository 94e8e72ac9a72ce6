"""Writers and vaults that are killed: what was acknowledged is there, and everything opens."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.chaos.engines import running_engine
from tests.chaos.experiment import Figures, killed_writers, looked_at
from tests.chaos.sizes import KILLS, SEED
from tests.chaos.world import new_world

DATABASES = ["sqlite", "postgres", "mariadb"]
# The cluster's own faults do not depend on the database.
PAIRS = [(engine, database) for engine in ("embedded", "served", "openbao") for database in DATABASES]


@pytest.mark.parametrize(("name", "database"), [*PAIRS, ("cluster", "postgres")])
def test_nothing_that_was_acknowledged_is_lost(
    name: str, database: str, database_url: Callable[[str], str], tmp_path: Path, table: list[Figures]
) -> None:
    seed = f"{SEED} kills {name} {database}"
    with (
        running_engine(name, tmp_path) as engine,
        new_world(tmp_path, seed, database_url(database), {"default": engine.entry}) as world,
    ):
        done = killed_writers(world, engine, Random(seed), KILLS)
        oracle, found = looked_at(world)
    table.append(
        Figures.of(oracle, found, experiment="kills", vault=name, database=database, processes=4, disturbances=done)
    )
