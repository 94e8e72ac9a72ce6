"""The main job, step by step. Each step says what it finds and fails where that is not so."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.db.models import Model

from testproject.demo.report import DemoFailed, Report
from testproject.demo.search import MIN_BYTES, PlaintextSearch, database_files, dump, schema, strings
from vault_fields.exceptions import KeyContextMismatch
from vault_fields.stored.envelope import is_envelope
from vault_fields.vaults import vaults

__all__ = ["Column", "Story"]

# How many rows of each table are read twice.
PAGE = 500


@dataclass(frozen=True)
class Column:
    """One encrypted column, and the plaintext that went into it by primary key."""

    model: type[Model]
    name: str
    expected: dict[int, Any]

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @property
    def field(self) -> Any:
        return self.model._meta.get_field(self.name)

    @property
    def label(self) -> str:
        return f"{self.table}.{self.field.column}"


class Story(ABC):
    """What happens to any table; the subclasses say which."""

    def __init__(self, report: Report) -> None:
        self.report = report

    @abstractmethod
    def fill(self) -> None:
        """Create the tables as they were before encryption, with rows in them."""

    @abstractmethod
    def encrypt(self) -> None:
        """Run the migrations that encrypt."""

    @abstractmethod
    def columns(self) -> Iterator[Column]: ...

    @abstractmethod
    def two_tenants(self) -> tuple[Column, int, int] | None:
        """A column and two rows of different tenants, or None where there is only one tenant."""

    @abstractmethod
    def what_next(self) -> None:
        """Tell how to go on."""

    def tell(self) -> None:
        """All of it. Raises ``DemoFailed`` at the first thing that is not as it should be."""
        self.report.section("Plaintext rows go in")
        self.fill()
        search = self._search_before()
        self.report.section("A migration encrypts the columns")
        self._encrypt()
        self.report.section("What the database holds, and what the ORM returns")
        self._show_both_sides()
        self._read_everything()
        self.report.section("A row pasted into another tenant is refused")
        self._paste()
        self.report.section("A dump holds no plaintext")
        self._search_after(search)
        self.what_next()

    @property
    def python(self) -> str:
        """The running Python, as one would type it here."""
        path = Path(sys.executable)
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)

    def _search_before(self) -> PlaintextSearch:
        secret = {(column.table, column.name) for column in self.columns()}
        before = dump(connection)
        search = PlaintextSearch(
            (text for column in self.columns() for value in column.expected.values() for text in strings(value)),
            readable=b"\0".join(
                [schema(connection), *(blob for column, blob in before.items() if column not in secret)]
            ),
        )
        # A search that finds nothing later proves something only if it finds everything now.
        found = search.found_in(before.values())
        self.report.require(
            found == search.values,
            f"a search of the database finds all {len(search.values):,} values of {MIN_BYTES} bytes and more",
        )
        return search

    def _encrypt(self) -> None:
        calls, seconds = self._measured(self.encrypt)
        cells = sum(value is not None for column in self.columns() for value in column.expected.values())
        self.report.fact("values encrypted", cells)
        self.report.fact("seconds", f"{seconds:.1f}")
        self.report.fact("data keys asked of the Vault", calls["create"])

    def _show_both_sides(self) -> None:
        for column in self.columns():
            # The longest value that shows as a whole is the easiest to compare.
            pk = max(column.expected, key=lambda pk, column=column: _showable(column.expected[pk]))  # type: ignore[misc]
            self.report.line(column.label)
            self.report.side_by_side(f"  {self._stored(column)[pk]}", str(self._through_orm(column, pk)))
        for column in self.columns():
            stored = self._stored(column)
            if any(
                not is_envelope(stored[pk]) if value is not None else stored[pk] is not None
                for pk, value in column.expected.items()
            ):
                raise DemoFailed(f"every value of {column.label} is encrypted, and NULL is NULL")
        self.report.line()
        self.report.checked("raw SQL sees ciphertext in every cell, and NULL where NULL was")

    def _read_everything(self) -> None:
        vaults["default"].purge()
        cold, _ = self._measured(self._compare)
        self.report.checked("the ORM returns every value as it went in, NULL and empty ones too")
        self.report.fact("Vault calls to read all of it, no key cached", cold["decrypt"])
        self._read_again()

    def _read_again(self) -> None:
        """Some rows twice: all of them may have more keys than are cached, or take longer than keys are kept."""
        cache, started = vaults["default"].cache, time.monotonic()
        vaults["default"].purge()
        cold, _ = self._measured(lambda: self._compare(PAGE))
        warm, _ = self._measured(lambda: self._compare(PAGE))
        self.report.fact(f"Vault calls to read the first {PAGE} rows of each table", cold["decrypt"])
        self.report.fact("Vault calls to read them again", warm["decrypt"])
        if cold["decrypt"] <= cache.max_keys and time.monotonic() - started < cache.max_age:
            self.report.require(warm.total() == 0, "reading again asks the Vault for nothing")
        else:
            self.report.text("VAULT_URL says that fewer keys are kept than that, or for a shorter time than it took.")

    def _compare(self, limit: int | None = None) -> None:
        by_model: dict[type[Model], list[Column]] = {}
        for column in self.columns():
            by_model.setdefault(column.model, []).append(column)
        for model, columns in by_model.items():
            for row in model._default_manager.order_by("pk")[:limit].iterator(chunk_size=2_000):
                for column in columns:
                    if not _same(getattr(row, column.name), column.expected[row.pk]):
                        raise DemoFailed(f"row {row.pk} of {column.label} comes back as it went in")

    def _paste(self) -> None:
        pair = self.two_tenants()
        if pair is None:
            self.report.text("There is only one tenant in this table, so there is no other to paste into.")
            return
        column, source, target = pair
        quote = connection.ops.quote_name
        names = [column.field.column, self._companion(column)]
        assignments = ", ".join(f"{quote(name)} = %s" for name in names)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(map(quote, names))} FROM {quote(column.table)} WHERE id = %s", [source])
            cursor.execute(
                f"UPDATE {quote(column.table)} SET {assignments} WHERE id = %s", [*cursor.fetchone(), target]
            )
            self.report.line(f"UPDATE {column.table} SET {names[0]} = …, {names[1]} = … WHERE id = {target}")
            self.report.text(f"with the two values of row {source}. Reading row {target} then:")
            refusal = None
            try:
                self._through_orm(column, target)
            except KeyContextMismatch as error:
                refusal = error
            transaction.set_rollback(True)
        self.report.line()
        self.report.text(f"KeyContextMismatch: {refusal}")
        self.report.line()
        self.report.require(refusal is not None, "the pasted row does not open")
        self.report.require(
            _same(self._through_orm(column, target), column.expected[target]),
            "undone, the row opens again",
        )

    def _search_after(self, search: PlaintextSearch) -> None:
        blobs = dump(connection)
        leaks = [".".join(column) for column, blob in blobs.items() if search.found_in([blob])]
        self.report.fact(f"distinct values of {MIN_BYTES} bytes and more searched for", len(search.values))
        self.report.fact("kilobytes of SQL dump searched", sum(map(len, blobs.values())) // 1000)
        if leaks:
            raise DemoFailed(f"none of them is anywhere in the database; some are in {', '.join(leaks)}")
        self.report.checked("raw SQL over every column of every table finds none of them")
        if search.short:
            self.report.text(
                f"{search.short:,} shorter values, which occur anywhere by chance, were compared cell by cell above."
            )
        if search.readable:
            self.report.text(f"{search.readable:,} values were left out: they also stand in what stays readable.")
        if connection.vendor == "sqlite":
            self._search_files(search)
        else:
            self.report.text("The server's own files keep deleted text until it is vacuumed or purged.")

    def _search_files(self, search: PlaintextSearch) -> None:
        self.report.text("SQLite, like other databases, leaves deleted text in freed pages of its file until VACUUM:")
        self.report.fact("values that the file itself still held", len(search.found_in(self._files())))
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.execute("VACUUM")
        connection.close()
        files = self._files()
        self.report.require(
            not search.found_in(files),
            f"after VACUUM the {sum(map(len, files)) // 1000:,} kilobytes of it hold none of them",
        )

    def _files(self) -> list[bytes]:
        return database_files(connection.settings_dict)

    def _stored(self, column: Column) -> dict[int, str]:
        quote = connection.ops.quote_name
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id, {quote(column.field.column)} FROM {quote(column.table)}")
            return dict(cursor.fetchall())

    def _companion(self, column: Column) -> str:
        companion: Any = column.model._meta.get_field(column.field.companion_name)
        return str(companion.column)

    def _through_orm(self, column: Column, pk: int) -> Any:
        return getattr(column.model._default_manager.get(pk=pk), column.name)

    def _measured(self, step: Any) -> tuple[Counter[str], float]:
        before = vaults["default"].calls.copy()
        started = time.perf_counter()
        step()
        return vaults["default"].calls - before, time.perf_counter() - started


def _same(one: Any, other: Any) -> bool:
    """Equal and of one type: to Python, 0 equals False and 1 equals 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _showable(value: Any) -> int:
    length = 0 if value is None else len(str(value))
    return length if length <= 34 else 20
