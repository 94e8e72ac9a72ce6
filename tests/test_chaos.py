"""The experiments of ``tests/chaos`` see what they are to see; they themselves run with ``tox run -e chaos``."""

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Never

import pytest

from tests.chaos.engines import Embedded
from tests.chaos.experiment import found, killed_writers
from tests.chaos.journal import Journal, Oracle, entries
from tests.chaos.world import new_world


class Said:
    """A journal and what its oracle finds wrong with what is stored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path)
        self.calls = NoCalls()

    def acknowledged(self, **rows) -> None:
        with self.journal.operation("write", rows, (), self.calls):
            pass

    def unfinished(self, **rows) -> None:
        self.journal.say(doing=0, what="write", rows=rows)

    def problems(self, **stored):
        return [problem.partition(":")[0] for problem in Oracle.of([self.path]).problems(stored)]


class NoCalls:
    longest = 0.0


@pytest.fixture
def said(tmp_path):
    said = Said(tmp_path / "journal")
    yield said
    said.journal.close()


def test_oracle_finds_an_acknowledged_row_that_is_lost_or_older_or_closed(said) -> None:
    said.acknowledged(row={"text": "first"})
    said.acknowledged(row={"text": "second"})
    assert said.problems(row={"text": "second"}) == []
    assert said.problems(row={"text": "first"}) == ["lost"]
    assert said.problems(row={"text": ValueError("it does not open")}) == ["closed"]
    assert said.problems() == ["lost"]


def test_oracle_takes_what_was_not_acknowledged_for_either_and_nothing_else(said) -> None:
    said.acknowledged(row={"text": "old"})
    said.unfinished(row={"text": "new"}, other={"text": "only"})
    assert said.problems(row={"text": "old"}) == []
    assert said.problems(row={"text": "new"}, other={"text": "only"}) == []
    assert said.problems(row={"text": "third"}) == ["lost"]
    assert said.problems(row={"text": "old"}, other={"text": ValueError()}) == ["closed"]
    assert said.problems() == ["lost"]


def test_oracle_finds_what_was_deleted_and_is_there(said) -> None:
    said.acknowledged(row={"text": "first"})
    said.acknowledged(row=None)
    assert said.problems() == []
    assert said.problems(row={"text": "first"}) == ["undone"]
    assert said.problems(stranger={"text": "?"}) == ["foreign"]


def test_oracle_lets_an_unfinished_delete_be_either(said) -> None:
    said.acknowledged(row={"text": "first"})
    said.unfinished(row=None)
    assert said.problems() == said.problems(row={"text": "first"}) == []
    assert Oracle.of([said.path]).certain() == {}


def test_oracle_reports_what_broke_a_writer(said) -> Never:
    with pytest.raises(ValueError, match="odd"), said.journal.operation("write", {}, (KeyError,), said.calls):
        raise ValueError("odd")
    with pytest.raises(KeyError), said.journal.operation("write", {}, (KeyError,), said.calls):
        raise KeyError("expected")
    oracle = Oracle.of([said.path])
    assert len(oracle.broken) == 1
    assert "odd" in oracle.broken[0]
    assert oracle.given_up == {"KeyError": 1}


def test_half_a_line_of_a_journal_says_nothing(said) -> None:
    said.acknowledged(row={"text": "first"})
    with said.path.open("ab") as journal:
        journal.write(b'{"done')
    assert len(entries(said.path)) == 2
    assert said.problems(row={"text": "first"}) == []


def damage(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(directory / "db.sqlite3")) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount == 1
        connection.commit()


def test_killed_writers_lose_nothing_and_what_is_destroyed_is_found(tmp_path) -> None:
    """A few kills, on SQLite; and then a row of each kind of loss, which a process that knows nothing of it reports."""
    engine = Embedded(tmp_path)
    with new_world(tmp_path, "ordinary", "sqlite://", {"default": engine.entry}) as world:
        assert killed_writers(world, engine, Random("ordinary"), 3) == "7 kills"
        before = found(world)
        assert before.problems == []
        assert before.values > 0

        certain = sorted(name for name in world.oracle().certain() if name.startswith("patient"))
        assert len(certain) >= 4, certain
        gone, altered, swapped, plain = (int(name.partition(" ")[2]) for name in certain[:4])
        damage(
            tmp_path,
            f"DELETE FROM testapp_patient WHERE id = {gone}",
            f"UPDATE testapp_patient SET ssn = substr(ssn, 1, length(ssn) - 4) || 'AAAA' WHERE id = {altered}",
            f"UPDATE testapp_patient SET ssn = notes, ssn_keys = notes_keys WHERE id = {swapped}",
            f"UPDATE testapp_patient SET notes = 'in the clear' WHERE id = {plain}",
        )
        reported = found(world).problems
        for name, kind in ((gone, "lost"), (altered, "closed"), (swapped, "closed"), (plain, "closed")):
            assert any(line.startswith(f"{kind}: patient {name} ") for line in reported), reported
        assert f"in the clear: patient {plain} notes" in reported
        assert len(reported) == 5

        with engine.vault() as vault:
            kek = next(iter(vault.service.keks))
            vault.service.keks.disable(kek.item_name, kek.item_value)
        assert any(": KeyRevoked: " in line for line in found(world).problems)
