"""
Processes, servers and networks that fail while rows are written: ``tox run -e chaos``.

``CHAOS_SEED`` repeats a run, as far as its processes meet in the same way; ``CHAOS_KILLS`` says how many processes are
killed in each experiment, ``CHAOS_FAULTS`` how many answers are disturbed, ``CHAOS_SECONDS`` how long each soak is.
"""

import os
from collections.abc import Callable
from dataclasses import fields

import pytest

from tests.chaos.experiment import Figures
from tests.chaos.sizes import FAULTS, KILLS, SECONDS, SEED

_TABLE: list[Figures] = []


@pytest.fixture
def table() -> list[Figures]:
    """What is printed in the end."""
    return _TABLE


@pytest.fixture(scope="session")
def database_url() -> Callable[[str], str]:
    urls = {
        "sqlite": "sqlite://",
        "postgres": os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres"),
        "mariadb": os.environ.get("TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/test"),
    }
    return urls.__getitem__


def pytest_report_header() -> str:
    return f"chaos: CHAOS_SEED={SEED} CHAOS_KILLS={KILLS} CHAOS_FAULTS={FAULTS} CHAOS_SECONDS={SECONDS:g}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TABLE:
        return
    terminalreporter.section(f"CHAOS_SEED={SEED}")
    terminalreporter.write_line("| " + " | ".join(field.name.replace("_", " ") for field in fields(Figures)) + " |")
    terminalreporter.write_line("|" + "---|" * len(fields(Figures)))
    for figures in _TABLE:
        cells = [getattr(figures, field.name) for field in fields(Figures)]
        terminalreporter.write_line("| " + " | ".join(map(_shown, cells)) + " |")


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.1f} s"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
