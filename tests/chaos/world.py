"""One experiment's data: a directory, a database of its own, a vault; and processes that work with them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import environ

from tests.chaos.journal import Oracle

__all__ = ["HANGS", "World", "database_at", "new_world"]

ROOT = Path(__file__).parents[2]

# Seconds that nothing takes, however slow the machine: longer only means that something hangs.
HANGS = 300


class World:
    """Processes are made by a nursery; see there."""

    def __init__(self, directory: Path, seed: str, database: dict[str, Any], vaults: dict[str, Any]) -> None:
        self.directory, self.seed = directory, seed
        world = write_world(directory / "world.json", database, vaults, seed=seed)
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            cwd=ROOT,
            env=environment_of(world),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, **order: Any) -> int:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        answer = self._nursery.stdout.readline()
        assert answer, "the process that forks the others ended"
        return int(answer)

    def call(self, name: str, *arguments: Any) -> Any:
        """What a new process returns, which must succeed, and has the time for it."""
        status = self.order(call=name, arguments=arguments)
        assert status == 0, f"{name} ended with status {status}"
        answer = json.loads((self.directory / "answer").read_text("utf-8"))
        assert "raised" not in answer, f"{name} {arguments}:\n{answer['raised']}"
        return answer["returned"]

    def close(self) -> None:
        # Whoever is left notices that its parent is gone.
        self._nursery.kill()
        self._nursery.communicate()

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
    """One with tables, a few tenants and a few rows in it. A database that is not there is an error."""
    with closing(World(directory, seed, database_at(url, directory), vaults)) as world:
        world.call("create")
        try:
            yield world
        finally:
            # After a failure some are still at work.
            world.order(kill=0)
            world.call("drop")
