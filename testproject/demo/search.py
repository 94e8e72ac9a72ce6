"""Search a whole database for plaintext."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["MIN_BYTES", "PlaintextSearch", "database_files", "dump", "schema", "strings"]

# A shorter value can occur in a database by chance: "2019" does in dates, "M" everywhere.
MIN_BYTES = 8


class PlaintextSearch:
    """
    A set of plaintext values to look for in bytes.

    Each is looked for as it is, in UTF-8, and as JSON escapes it. ``values`` are those looked for; those shorter than
    ``MIN_BYTES`` in UTF-8 are counted in ``short``, those that stand in what stays readable in ``readable``.
    """

    def __init__(self, values: Iterable[str], *, readable: bytes = b"") -> None:
        distinct = set(values) - {""}
        long_enough = {value for value in distinct if len(value.encode()) >= MIN_BYTES}
        # The same bytes may stand in a column that nobody encrypts, and would be found there rightly.
        known = {value for value in long_enough if any(form in readable for form in _forms(value))}
        self.values = frozenset(long_enough - known)
        self.short = len(distinct) - len(long_enough)
        self.readable = len(known)
        self._by_head: dict[bytes, list[tuple[bytes, str]]] = defaultdict(list)
        for value in self.values:
            for form in _forms(value):
                self._by_head[form[:MIN_BYTES]].append((form, value))

    def found_in(self, blobs: Iterable[bytes]) -> set[str]:
        """The values that occur in any of ``blobs``."""
        found: set[str] = set()
        for blob in blobs:
            # One pass for all values: only where the first bytes of some are, the rest of those is compared.
            heads = self._by_head.keys()
            for start in range(len(blob) - MIN_BYTES + 1):
                if (head := blob[start : start + MIN_BYTES]) in heads:
                    found.update(value for form, value in self._by_head[head] if blob.startswith(form, start))
        return found


def dump(connection: BaseDatabaseWrapper) -> dict[tuple[str, str], bytes]:
    """Every value of every table, by table and column, as raw SQL returns it."""
    columns: dict[tuple[str, str], list[bytes]] = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            names = [description[0] for description in cursor.description]
            columns |= {(table, name): [] for name in names}
            for row in cursor:
                for name, value in zip(names, row, strict=True):
                    columns[table, name].append(_raw(value))
    return {column: b"\0".join(values) for column, values in columns.items()}


def schema(connection: BaseDatabaseWrapper) -> bytes:
    """The names that a database holds whatever is in its tables, and those of which every companion is made."""
    names = ['{"v":2,"vault":"default","id":"","keys":"","context":{"","row":{"","proof":"']
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            names += [table, *(column.name for column in connection.introspection.get_table_description(cursor, table))]
        if connection.vendor == "sqlite":
            cursor.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
            names += [statement for (statement,) in cursor.fetchall()]
    return "\0".join(names).encode()


def database_files(settings: Mapping[str, Any]) -> list[bytes]:
    """The bytes of an SQLite database with its journals; nothing for a database on a server."""
    if "sqlite" not in settings["ENGINE"]:
        return []
    path = Path(settings["NAME"])
    return [file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")) if file.is_file()]


def strings(value: Any) -> Iterator[str]:
    """The string itself, or every string in a JSON value but the names of its members."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from strings(member)


def _forms(value: str) -> set[bytes]:
    # PostgreSQL writes JSON without escaping other scripts, SQLite and MariaDB keep what Django wrote.
    texts = (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    return {form for text in texts if len(form := text.encode()) >= MIN_BYTES}


def _raw(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return str(value).encode()
