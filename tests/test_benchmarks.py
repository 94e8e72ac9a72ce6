"""The benchmarks run: each of their parts, with next to nothing to measure. Nothing here looks at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import summed_up
from benchmarks.fit import exponent
from benchmarks.part import PARTS
from benchmarks.report import Curve, Line, Missing, at_least, at_most, received, send
from benchmarks.timing import Spread, Step, interleaved, ratio, spread

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """All parts on SQLite, where the packages to compare with cannot be imported."""
    absent = tmp_path_factory.mktemp("absent")
    for name in ("encrypted_fields", "django_cryptography", "tink"):
        (absent / f"{name}.py").write_text("raise ImportError('not here')")
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", "--database", "sqlite"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(absent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_part_has_lines_in_the_table(run) -> None:
    rows = [line.split("|") for line in run.stdout.splitlines() if line.startswith("| ")]
    assert {row[1].strip() for row in rows} == {"part", *PARTS}, run.stderr


def test_a_missing_package_is_a_line_and_a_failure(run) -> None:
    assert run.stdout.count("| missing |") == run.stdout.count("ImportError: not here") == 3, run.stdout + run.stderr
    assert run.returncode == 1


def test_what_is_missing_or_missed_is_the_status() -> None:
    missed = Line("x", spread([3.0]), target=at_most(2))
    assert summed_up([missed], is_strict=False) == 0
    assert summed_up([missed], is_strict=True) == 1
    assert summed_up([Missing("x", "not here")], is_strict=False) == 1


@pytest.mark.parametrize(
    "item", [Line("x", spread([3.0]), target=at_most(2)), Missing("x", "y"), Curve("p", "a", "x", [(1, 2)])]
)
def test_what_a_process_sends_is_what_is_received(item, capsys) -> None:
    send(item)
    assert received(capsys.readouterr().out) == item


def test_steps_take_turns_and_warm_up_does_not_count() -> None:
    done = []
    steps = {name: Step(lambda name=name: done.append(name)) for name in "ab"}
    seconds = interleaved(steps, turns=2, clock=iter(range(100)).__next__)
    assert done == ["b", "a", "a", "b", "b", "a"]
    assert seconds == {"a": [1, 1], "b": [1, 1]}


def test_ratios_are_of_one_turn() -> None:
    assert ratio([2, 6, 40], [1, 2, 10]) == Spread(3, 2.5, 3.5)
    assert spread([7]) == Spread(7, 7, 7)


def test_targets_are_bounds_of_the_median() -> None:
    assert at_most(2).is_met(2)
    assert not at_most(2).is_met(2.01)
    assert at_least(2).is_met(2)
    assert not at_least(2).is_met(1.99)
    assert Line("x", spread([1.0]), target=at_least(2)).verdict == "not met"
    assert Line("x", spread([1.0])).verdict == ""


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_upper_half(power) -> None:
    points = [(1, 1e3), (10, 1e3)] + [(10.0**n, 3 * 10 ** (n * power)) for n in range(2, 6)]
    assert exponent(points) == pytest.approx(power)
    assert exponent(points[-2:]) == pytest.approx(power)
