"""One experiment's data: a directory, a database of its own, a vault; and processes that work with them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environ

from tests.chaos.journal import Oracle

__all__ = ["HANGS", "World", "database_at", "new_world"]

ROOT = Path(__file__).parents[2]

# Seconds that nothing takes, however slow the machine: longer only means that something hangs.
HANGS = 300


class World:
    def __init__(self, directory: Path, seed: str, database: dict[str, Any], vaults: dict[str, Any]) -> None:
        self.directory, self.seed = directory, seed
        self._file = write_world(directory / "world.json", database, vaults, seed=seed)

    def environment(self) -> dict[str, str]:
        return environment_of(self._file)

    def run(self, *arguments: str) -> str:
        """The output of ``python -m …``, which must succeed, and has the time for it."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=self.environment() | {"CHAOS_PATIENT": "1"},
            capture_output=True,
            text=True,
            timeout=2 * HANGS,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def journal(self, slot: int, incarnation: int) -> Path:
        return journal_in(self.directory, slot, incarnation)

    def oracle(self) -> Oracle:
        return Oracle.of(journals_in(self.directory))


def write_world(path: Path, database: dict[str, Any], vaults: dict[str, Any], **more: Any) -> Path:
    """The file that ``tests.chaos.settings`` reads."""
    said = {"directory": str(path.parent), "database": database, "vaults": vaults, "server": {}, **more}
    path.write_text(json.dumps(said), "utf-8")
    return path


def environment_of(world: Path) -> dict[str, str]:
    return os.environ | {
        "CHAOS_WORLD": str(world),
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "PYTHONPATH": str(ROOT),
    }


def journal_in(directory: Path, slot: int, incarnation: int) -> Path:
    return directory / f"{slot:03}.{incarnation:03}.journal"


def journals_in(directory: Path, slot: int | None = None) -> list[Path]:
    return sorted(directory.glob("*.journal" if slot is None else f"{slot:03}.*.journal"))


def database_at(url: str, directory: Path) -> dict[str, Any]:
    """Of a server, a database of its own; of SQLite, a file in the directory."""
    if url.startswith("sqlite"):
        name = str(directory / "db.sqlite3")
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": name,
            "OPTIONS": {"timeout": 60},
            "TEST": {"NAME": name},
        }
    name = f"test_vault_fields_{os.environ.get('TOX_ENV_NAME', 'chaos')}"
    charset = {"CHARSET": "utf8mb4"} if url.startswith("mysql") else {}
    return {**environ.Env.db_url_config(url), "NAME": name, "TEST": {"NAME": name, **charset}}


@contextmanager
def new_world(directory: Path, seed: str, url: str, vaults: dict[str, Any]) -> Iterator[World]:
    """One with tables and a few tenants in it. A database that is not there is an error."""
    world = World(directory, seed, database_at(url, directory), vaults)
    world.run("tests.chaos.tables", "create")
    try:
        yield world
    finally:
        world.run("tests.chaos.tables", "drop")
