"""
What a writer says, on the disk, before and after what it does; and the oracle that knows from it what must be stored.

A line of a journal is JSON. ``doing`` has the rows that an operation is about to leave behind, ``done`` says that it
was acknowledged, ``gave_up`` that it raised an error that may be, ``broke`` one that may not. A process that was killed
leaves a ``doing`` without an end.
"""

import json
import os
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.calls import Calls

__all__ = ["Broken", "Journal", "Oracle", "entries"]

# What a row is to hold, by the names of columns, as far as an operation says it; None is a row that is to be gone.
Change = Mapping[str, Any] | None


class Broken(AssertionError):
    """Something that must hold does not."""


class Journal:
    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._number = 0

    def say(self, **entry: Any) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def operation(
        self, what: str, rows: Mapping[str, Change], may_raise: tuple[type[Exception], ...], calls: Calls
    ) -> Iterator[None]:
        """Around what leaves ``rows`` behind. Of the errors that may be, the caller is told too."""
        self._number += 1
        self.say(doing=self._number, what=what, rows=rows)
        began = time.monotonic()
        try:
            yield
        except may_raise as error:
            seconds = time.monotonic() - began
            self.say(gave_up=self._number, error=type(error).__name__, seconds=seconds, call=calls.longest)
            raise
        except BaseException:
            self.say(broke=self._number, error=traceback.format_exc())
            raise
        self.say(done=self._number, seconds=time.monotonic() - began, call=calls.longest)


def entries(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a journal: whoever was killed may have left a part of one."""
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


@dataclass
class Row:
    """What may stand in a row: first what was acknowledged, and then what was not."""

    there: list[bool] = field(default_factory=lambda: [False])
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def certain(self) -> dict[str, Any] | None:
        """The columns of a row that must be there and can hold one thing only."""
        if not all(self.there) or any(value != values[0] for values in self.columns.values() for value in values[1:]):
            return None
        return {name: values[0] for name, values in self.columns.items()}


class Oracle:
    """Each row has one writer at a time, so that the order of what was acknowledged for it is known."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.acknowledged: Counter[str] = Counter()
        self.given_up: Counter[str] = Counter()
        self.broken: list[str] = []
        self.longest = 0.0
        self.longest_call = 0.0

    @classmethod
    def of(cls, journals: Iterable[Path]) -> "Oracle":
        """What the journals say; those of one writer in the order in which its processes ran."""
        oracle = cls()
        for path in journals:
            oracle.read(entries(path))
        return oracle

    def read(self, said: Iterable[Mapping[str, Any]]) -> None:
        """The entries of one process."""
        doing: dict[str, Any] = {"what": "", "rows": {}}
        for entry in said:
            self.longest = max(self.longest, entry.get("seconds", 0.0))
            self.longest_call = max(self.longest_call, entry.get("call", 0.0))
            if "doing" in entry:
                doing = dict(entry)
                self._expect(doing["rows"])
            elif "done" in entry:
                self._acknowledge(doing["rows"])
                self.acknowledged[doing["what"]] += 1
            elif "gave_up" in entry:
                self.given_up[entry["error"]] += 1
            elif "broke" in entry:
                self.broken.append(f"{doing['what']}: {entry['error']}")

    def _expect(self, rows: Mapping[str, Change]) -> None:
        for name, change in rows.items():
            row = self.rows.setdefault(name, Row())
            row.there.append(change is not None)
            for column, value in (change or {}).items():
                row.columns.setdefault(column, []).append(value)

    def _acknowledge(self, rows: Mapping[str, Change]) -> None:
        for name, change in rows.items():
            row = self.rows[name]
            row.there = [change is not None]
            for column, value in (change or {}).items():
                row.columns[column] = [value]

    def certain(self) -> dict[str, dict[str, Any]]:
        """The rows that must be there, with all that they hold."""
        found = {name: row.certain() for name, row in self.rows.items()}
        return {name: columns for name, columns in found.items() if columns is not None}

    def problems(self, stored: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        """What is stored and must not be, or must be and is not. A value that did not open is an exception."""
        for name, row in self.rows.items():
            columns = stored.get(name)
            if columns is None:
                if all(row.there):
                    yield f"lost: {name} was acknowledged, and is not there"
                continue
            if not any(row.there):
                yield f"undone: {name} is there, and its end was acknowledged"
                continue
            for column, allowed in row.columns.items():
                value = columns[column]
                if isinstance(value, Exception):
                    yield f"closed: {name} {column}: {type(value).__name__}: {value}"
                elif value not in allowed:
                    yield f"lost: {name} {column} is not what was acknowledged, nor what was being written"
        for name in stored.keys() - self.rows.keys():
            yield f"foreign: nobody wrote {name}"
