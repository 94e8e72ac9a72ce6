"""The conditions of a run: machine, versions, load."""

import os
import platform
import sqlite3
import ssl
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["conditions", "load"]

PACKAGES = ("Django", "cryptography", "httpx", "psycopg", "mysqlclient", "gunicorn")


def conditions() -> list[str]:
    packages = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    return [
        f"{platform.python_implementation()} {platform.python_version()}, {packages}",
        f"{ssl.OPENSSL_VERSION}, SQLite {sqlite3.sqlite_version}",
        f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores, {_memory()}",
        f"a loop of a million turns takes {_pace() * 1e3:.0f} ms of CPU time",
    ]


def load() -> float:
    """How many processes wanted a core within the last minute, this one among them."""
    return os.getloadavg()[0]


def _pace() -> float:
    """By which absolute times can be compared with those of another machine, or of a less busy hour."""
    started = time.process_time()
    for _ in range(10**6):
        pass
    return time.process_time() - started


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _memory() -> str:
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
