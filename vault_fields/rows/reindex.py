"""
Hashes for the rows of an index: those that are missing, as after an index was declared, and those that are wrong.

Every value is opened and its hash made again, so that it also finds hashes that somebody gave to another row, and
those of a normalization that was changed since. Rows that others write meanwhile are left as they are and looked at
again. What is finished stays; run again, it writes nothing twice.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field as dataclass_field
from typing import Any

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connections, transaction

from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.groups import Group
from vault_fields.fields.indexing import WithoutKey, index_key_name, write_indexes
from vault_fields.fields.indexkeys import Wanted
from vault_fields.rows.row import Row, open_together
from vault_fields.rows.walk import BATCH_SIZE, ROW_ERRORS, Change, StoredRows
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.stored import companion as companion_format
from vault_fields.text.counting import counted

__all__ = ["ReindexReport", "Scope", "reindex_group"]


@dataclass(slots=True)
class ReindexReport:
    """The numbers of rows of a table, by their hashes: right ones, missing ones, wrong ones, and those that failed."""

    label: str
    dry_run: bool = False
    right: int = 0
    missing: int = 0
    wrong: int = 0
    # The primary keys of the rows whose values do not open, or occur twice.
    left_alone: list[Any] = dataclass_field(default_factory=list)

    def __str__(self) -> str:
        done = "would be " if self.dry_run else ""
        return (
            f"{self.label}: {counted(self.right, 'row has its hash', 'rows have their hashes')}, {self.missing} "
            f"missing and {self.wrong} wrong {done}written, {len(self.left_alone)} failed."
        )


class Scope:
    """The index keys whose hashes a walk is about, and those of them that have rows which it wrote or left alone."""

    def __init__(self, names: Iterable[Wanted]) -> None:
        self.names = frozenset(names)
        self.written: set[Wanted] = set()
        self.left_alone: set[Wanted] = set()


@forgetful
def reindex_group(
    group: Group,
    *,
    using: str = DEFAULT_DB_ALIAS,
    rebuild: bool = False,
    dry_run: bool = False,
    scope: Scope | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: Callable[[str], object],
) -> ReindexReport:
    """
    Give every row with a value its hash. ``on_problem`` is called for each row whose value does not open, or
    is that of another row where it may occur only once.

    A hash beside no value is taken away. With ``rebuild``, index keys that are lost are replaced. In a dry run nothing
    is written, and hashes without an index key are missing or wrong. With a ``scope``, other rows are left out. Costs
    one ``decrypt`` for each data key that is not cached, and one query for each batch; besides, one ``decrypt`` or one
    ``create`` for each key context. Raises ``VaultUnavailable``; the rows before stay written.
    """
    run = _Run(group, using, on_problem, rebuild=rebuild, dry_run=dry_run, scope=scope)
    with progress(f"Indexing {run.report.label}", run.rows.count) as advance:
        for batch in run.rows.batches(batch_size):
            due = run.due(batch)
            while due:
                # Somebody else wrote to these in the meantime: their present content counts.
                due = run.due(run.written(due))
            advance(len(batch))
    return run.report


class _Run:
    """One walk over the rows of a group."""

    def __init__(
        self,
        group: Group,
        using: str,
        on_problem: Callable[[str], object],
        *,
        rebuild: bool,
        dry_run: bool,
        scope: Scope | None,
    ) -> None:
        self.report = ReindexReport(f"{group.model._meta.label}.{group.companion}", dry_run)
        self.rows = StoredRows(group, using)
        self._group = group
        self._using = using
        self._on_problem = on_problem
        self._without_key: WithoutKey = "leave" if dry_run else "replace" if rebuild else "make"
        self._scope = scope
        self._names = sorted(group.index_names)
        self._members = [member for member in group.members if group.indexes[member.name]]

    def due(self, rows: Sequence[Row]) -> list[Row]:
        return [
            row
            for row in rows
            if (any(map(row.is_encrypted, self._members)) or any(self._stored(row)))
            and (self._scope is None or self._in_scope(row, self._scope))
        ]

    def _in_scope(self, row: Row, scope: Scope) -> frozenset[Wanted]:
        """Return the index keys, of those that a walk is about, that the hashes of a row may have been made with."""
        try:
            context = companion_format.decode(row.companion or "").context
        except EnvelopeError:
            return scope.names  # Whose it is cannot be told.
        indexes = [index for member in self._members for index in self._group.indexes[member.name]]
        return scope.names & {index_key_name(index, self._group, context) for index in indexes}

    def _stored(self, row: Row) -> list[Any]:
        return [row.read(name) for name in self._names]

    def written(self, rows: Sequence[Row]) -> list[Row]:
        """Write the hashes of these rows where they differ; return those that others wrote meanwhile."""
        missing: list[Change] = []
        wrong: list[Change] = []
        for row in self._without_problems(rows):
            found, hashes = self._stored(row), row.hashes()
            if found == hashes:
                self.report.right += 1
            elif any(old not in {None, new} for old, new in zip(found, hashes, strict=True)):
                wrong.append((row, hashes))
            else:
                missing.append((row, hashes))
        if self.report.dry_run:
            self.report.missing += len(missing)
            self.report.wrong += len(wrong)
            return []
        if self._scope is not None:
            for row, _ in (*missing, *wrong):
                self._scope.written |= self._in_scope(row, self._scope)
        count, changed = self._write(missing)
        self.report.missing += count
        count, others = self._write(wrong)
        self.report.wrong += count
        return changed + others

    def _write(self, changes: Sequence[Change]) -> tuple[int, list[Row]]:
        """Write these rows, except for those whose value another row has already, and which may occur only once."""
        try:
            # The transaction of somebody else goes on after a conflict.
            with transaction.atomic(self._using) if connections[self._using].in_atomic_block else nullcontext():
                return self.rows.write(self._names, changes)
        except IntegrityError:
            pass  # It names the hash, and no row.
        if len(changes) == 1:
            return self._write_without(*changes[0])
        middle = len(changes) // 2
        written, others = self._write(changes[:middle]), self._write(changes[middle:])
        return written[0] + others[0], written[1] + others[1]

    def _write_without(self, row: Row, hashes: Sequence[Any]) -> tuple[int, list[Row]]:
        self._leave_alone(
            row,
            f"{self.report.label} (pk={row.pk!r}): another row has its value, or its hash, and may be the only "
            "one. This row has no hash now. Run the command again, and change one of the two if it says so again.",
        )
        # It is not to be found by a value that it does not have.
        found = [self.rows.as_stored(row)[name] for name in self._names]
        _, changed = self.rows.write(
            self._names, [(row, [old if old == new else None for old, new in zip(found, hashes, strict=True)])]
        )
        return 0, changed

    def _leave_alone(self, row: Row, problem: str) -> None:
        self.report.left_alone.append(row.pk)
        if self._scope is not None:
            self._scope.left_alone |= self._in_scope(row, self._scope)
        self._on_problem(problem)

    def _without_problems(self, rows: Sequence[Row]) -> list[Row]:
        open_together(rows)
        with suppress(*ROW_ERRORS):
            self._hash(rows)
            return list(rows)
        fine = []  # Go one by one, to find out which rows it is.
        for row in rows:
            try:
                self._hash([row])
            except ROW_ERRORS as error:
                self._leave_alone(row, str(error))
            else:
                fine.append(row)
        return fine

    def _hash(self, rows: Sequence[Row]) -> None:
        for row in rows:
            for name in self._names:
                row.instance.__dict__.pop(name, None)  # A hash that is not there is made again.
        write_indexes([(row.instance, self._group) for row in rows], self._using, without_key=self._without_key)
