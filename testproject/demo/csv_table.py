"""Read a table that somebody else wrote: a tenant column and secret columns from a CSV file."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vault_fields.keys import MAX_VALUE_LENGTH

__all__ = ["Table", "TableError", "read_table"]

DELIMITERS = (",", ";", "\t", "|")

# The marks that spreadsheets put at the beginning of a file to name its encoding.
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class TableError(Exception):
    """The file cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Table:
    """The rows that can be used, and how many cannot, by reason and with the first line where it happened."""

    tenant: str
    secrets: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left_out: Counter[str] = field(default_factory=Counter)
    first_line: dict[str, int] = field(default_factory=dict)

    @property
    def tenants(self) -> set[str]:
        return {row[0] for row in self.rows}


def read_table(path: Path, *, tenant: str, secrets: Sequence[str], encoding: str | None = None) -> Table:
    """Each row as ``(tenant, *secrets)``. Takes UTF-8, or what a mark in the file or ``encoding`` names."""
    if repeated := [name for name, count in Counter([tenant, *secrets]).items() if count > 1]:
        raise TableError(f"{repeated[0]!r} is named twice: the tenant and each secret are columns of their own.")
    text = _decode(path, encoding)
    if not text.strip():
        raise TableError(f"{path} is empty.")
    wanted = (tenant, *secrets)
    delimiter, header = _header(path, text, wanted)
    positions = [header.index(name) for name in wanted]
    table = Table(tenant, tuple(secrets), [])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    previous_limit = csv.field_size_limit(len(text) + 1)
    try:
        next(reader)
        for cells in reader:
            if not cells:
                continue
            if reason := _why_not(cells, header, positions[0]):
                table.left_out[reason] += 1
                table.first_line.setdefault(reason, reader.line_num)
            else:
                table.rows.append(tuple(cells[position] for position in positions))
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num}: {error}. Is a quotation mark missing?") from None
    finally:
        csv.field_size_limit(previous_limit)
    if not table.rows:
        reasons = "; ".join(f"{reason} in {count}" for reason, count in table.left_out.items())
        raise TableError(f"{path} has no row that can be used{f': {reasons}' if reasons else ''}.")
    return table


def _decode(path: Path, encoding: str | None) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from None
    if encoding is None:
        encoding = next((name for mark, name in MARKS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except LookupError:
        raise TableError(f"Python knows no encoding {encoding!r}.") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path}, line {line}: this is not {encoding}. Say what it is: --encoding cp1252, for example."
        ) from None


def _header(path: Path, text: str, wanted: Sequence[str]) -> tuple[str, list[str]]:
    """The delimiter under which the first line has the wanted columns, and the names in that line."""
    candidates = []
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        except csv.Error:
            continue
        candidates.append((delimiter, names))
    for delimiter, names in candidates:
        if set(wanted) <= set(names):
            if repeated := [name for name in wanted if names.count(name) > 1]:
                raise TableError(f"{path} has several columns named {repeated[0]!r}: which one is meant is not clear.")
            return delimiter, names
    _, names = max(candidates, key=lambda candidate: len(candidate[1]))
    missing = [name for name in wanted if name not in names]
    raise TableError(
        f"{path} has no column {', '.join(map(repr, missing))}. It has: {', '.join(map(repr, names))}. "
        "Names are compared exactly."
    )


def _why_not(cells: list[str], header: list[str], tenant: int) -> str | None:
    if len(cells) != len(header):
        return "too many or too few cells"
    if not cells[tenant].strip():
        return "no tenant"
    if len(cells[tenant]) > MAX_VALUE_LENGTH:
        return f"a tenant of over {MAX_VALUE_LENGTH} characters"
    return None
