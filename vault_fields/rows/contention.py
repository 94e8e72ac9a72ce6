"""Transactions that the database broke off because of other writers, and that can simply be repeated."""

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DatabaseError, connections

from vault_fields.exceptions import DatabaseBusy

__all__ = ["ATTEMPTS", "repeated"]

ATTEMPTS = 5

# Deadlock, serialization failure, lock timeout: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL = {"40P01", "40001", "55P03"}
# Deadlock, lock wait timeout, and a record that was changed since the transaction began to read.
_MARIADB = {1213, 1205, 1020}
# SQLITE_BUSY and SQLITE_LOCKED, whatever their extended codes add in the higher bits.
_SQLITE = {5, 6}

_Result = TypeVar("_Result")


def repeated(using: str, run: Callable[[], _Result]) -> _Result:
    """
    Call ``run``, whose transaction is its own, again if the database broke it off because of other writers.

    Inside a transaction of the caller it is called once, because that transaction is lost with it. Raises
    ``DatabaseBusy`` in the end.
    """
    attempts = 1 if connections[using].in_atomic_block else ATTEMPTS
    for attempt in range(1, attempts):
        try:
            return run()
        except DatabaseError as error:
            if not _is_broken_off(using, error):
                raise
        _pause(attempt)
    try:
        return run()
    except DatabaseError as error:
        if not _is_broken_off(using, error):
            raise
        tries = "" if attempts == 1 else f", {attempts} times in turn"
        raise DatabaseBusy(
            f"the database {using!r} broke the transaction off because of other writers{tries} (a deadlock, a "
            "serialization failure or a lock that was waited for too long)."
        ) from error


def _is_broken_off(using: str, error: DatabaseError) -> bool:
    cause: Any = error.__cause__
    vendor = connections[using].vendor
    if vendor == "postgresql":
        return getattr(cause, "sqlstate", None) in _POSTGRESQL
    if vendor == "mysql":
        return bool(error.args) and error.args[0] in _MARIADB
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE


def _pause(attempt: int) -> None:
    """Let other writers go first, and do not meet them again in step."""
    time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 - nothing secret about it.
