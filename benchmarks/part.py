"""
Parts on one database, in a process of their own: ``python -m benchmarks.part NAME,NAME DATABASE SIZE``.

Each has one to itself where times count, so that none runs with what another left in memory.

Lines go to standard output as JSON, for ``benchmarks.__main__``. A part that fails is a line that says so.
"""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["PARTS", "databases"]

PARTS = (
    "reading",
    "writing",
    "lookup",
    "backfill",
    "client",
    "network",
    "server",
    "vault",
    "memory",
    "imports",
    "growth",
)

URLS = {
    "postgres": ("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres"),
    "mariadb": ("TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/test"),
}
# The databases of each part stand here, because a part cannot be imported before the settings know its database.
DATABASES = {
    "reading": ("sqlite", "postgres"),
    "writing": ("sqlite", "postgres"),
    "lookup": ("sqlite", "postgres", "mariadb"),
    "backfill": ("sqlite", "postgres", "mariadb"),
    "network": ("sqlite",),
    "memory": ("sqlite",),
    "growth": ("sqlite", "postgres"),
}
# Where commits wait for the disk, as they do on a server; SQLite is in memory elsewhere, which favours plain rows.
IN_A_FILE = ("backfill",)


def databases(part: str) -> tuple[str, ...]:
    """The databases that a part is measured on; one empty name if it needs none."""
    return DATABASES.get(part, ("",))


def main(parts: str, database: str, size: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        os.environ["BENCH_VAULT"] = str(path / "vault.sqlite3")
        os.environ["DATABASE_URL"] = _url(parts, database, path)

        import django

        django.setup()

        from benchmarks.conditions import load
        from benchmarks.report import Curve, Missing, send
        from benchmarks.sizes import SIZES

        with _keystore(path), _tables(database) as server:
            for part in parts.split(","):
                module: ModuleType = importlib.import_module(f"benchmarks.parts.{part}")
                for item in module.measure(SIZES[size]):
                    if isinstance(item, Curve):
                        send(replace(item, database=database))
                    elif isinstance(item, Missing):
                        send(replace(item, database=database, part=part))
                    else:
                        send(replace(item, database=server, part=part, load=load()))


def _url(parts: str, database: str, directory: Path) -> str:
    if database in URLS:
        name, default = URLS[database]
        return os.environ.get(name, default)
    return f"sqlite:///{directory / 'bench.sqlite3'}" if parts in IN_A_FILE else "sqlite://:memory:"


@contextlib.contextmanager
def _keystore(directory: Path) -> Iterator[None]:
    """The embedded Vault of ``settings.VAULTS``."""
    from django.conf import settings

    from vault_fields.embedded.managed.rootkey import generate_root_key
    from vault_fields.vaults import vaults

    options: dict[str, Any] = settings.VAULTS["local"]
    options["OPTIONS"]["root_key"] = generate_root_key()
    vault: Any = vaults["local"]
    vault.service.create_keystore()
    yield
    vault.close()


@contextlib.contextmanager
def _tables(database: str) -> Iterator[str]:
    """A database with the tables of the models; its name and version."""
    if not database:
        yield ""
        return
    from django.db import connection

    creation: Any = connection.creation
    name = connection.settings_dict["NAME"]
    creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield f"{database} {_version(connection)}"
    finally:
        creation.destroy_test_db(name, verbosity=0)


def _version(connection: Any) -> str:
    if connection.vendor == "sqlite":
        return "file" if connection.settings_dict["NAME"].endswith("bench.sqlite3") else "memory"
    if connection.vendor == "postgresql":
        return f"{connection.pg_version // 10000}.{connection.pg_version % 10000}"
    return ".".join(map(str, connection.mysql_version[:2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
