"""Everything at once, in the threads of one process, for a while: nothing fails, and nothing grows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.engines import Embedded
from tests.chaos.experiment import Figures, looked_at
from tests.chaos.sizes import SECONDS, SEED
from tests.chaos.world import new_world

# What a process may grow by in two thirds of the time: beyond what caches hold, which are filled in the first third.
MAX_GROWTH = 48 << 20
# What an event in the keystore takes at the most, and its write-ahead log.
EVENT, LOG = 4 << 10, 8 << 20


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb"])
def test_operations_of_every_kind_neither_fail_nor_grow(
    database: str, database_url: Callable[[str], str], tmp_path: Path, table: list[Figures]
) -> None:
    seed = f"{SEED} soak {database}"
    engine = Embedded(tmp_path)
    with new_world(tmp_path, seed, database_url(database), {"default": engine.entry}) as world:
        before, after = world.call("soak", SECONDS)
        oracle, found = looked_at(world)
    assert after["resident"] - before["resident"] < MAX_GROWTH
    assert after["files"] - before["files"] < 16
    assert after["threads"] == before["threads"]
    changes = 2 * oracle.acknowledged["disable and enable a KEK"] + oracle.acknowledged["rotate a KEK"]
    assert changes, "no key was disabled"
    assert after["keystore"] < LOG + EVENT * changes
    said = {"experiment": f"soak of {SECONDS:g} s", "vault": "embedded", "database": database, "processes": 1}
    grown = (after["resident"] - before["resident"]) / 1e6
    memory = f"{before['resident'] / 1e6:.0f} MB {grown:+.1f} MB, keystore {after['keystore'] / 1e3:.0f} kB"
    table.append(Figures.of(oracle, found, **said, disturbances=f"{changes} changes of a KEK", memory=memory))
