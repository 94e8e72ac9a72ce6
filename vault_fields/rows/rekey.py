"""
Updates of encrypted rows to the key context that they have now, and new data keys for rows.

A row is *current* if its companion was made by the field's vault for the row's context. Otherwise:

- Where the row's own columns are those its values were encrypted for, but the declaration makes another context of
  them now, as by another constant, the row is **rekeyed**: its data key is wrapped for the new context, and only the
  companion is written, with the hashes of an index, which are those of a context.
- Where they lead to another context because of what lies behind a relation, or of what a function makes of them, the
  row was **redirected**. It is reported and left alone, unless the caller accepts it; then it is rekeyed.
- On demand (``rewrap``) rows that are current are rekeyed too: their context is the same, but the keys that wrap for
  it are others. A KEK was rotated, or a customer key took its place.
- Where the declaration starts from other columns than it did, or the field has another vault, the row is
  **re-encrypted**: new data key, new ciphertext.
- Where the row's own columns differ, the row was **moved**, or somebody pasted the values. It is reported and left
  alone, unless the caller accepts it; then it is re-encrypted.

A data key that many rows share must not be wrapped for a second tenant: that tenant's keys would then open the rows
that stayed. This is why rows that may part from their peers get new keys; see
``docs/decisions/0011-moved-rows-get-new-keys.md``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field as dataclass_field
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import prefetch_related_objects
from django.db.models.constants import LOOKUP_SEP

from vault_fields.exceptions import (
    KeyContextError,
    KeyContextMismatch,
)
from vault_fields.fields.batch import Batch
from vault_fields.fields.contextdrift import redirection
from vault_fields.fields.groups import Group
from vault_fields.fields.indexing import write_indexes
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import column_names, moved_columns, open_sealed, proven_key
from vault_fields.fields.sealed import Pending
from vault_fields.fields.sealing import seal
from vault_fields.keys import DataKey, KeyContext
from vault_fields.rows.rewrap import Wrappings
from vault_fields.rows.row import Row, open_together
from vault_fields.rows.walk import BATCH_SIZE, ROW_ERRORS, Change, StoredRows
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion
from vault_fields.text.counting import counted
from vault_fields.vaults import vaults

__all__ = ["RekeyReport", "reencrypt_group", "rekey_group"]

OnProblem = Callable[[str], object]


@dataclass(slots=True)
class RekeyReport:
    """The outcome for the rows that have an encrypted value; in a dry run, the outcome to expect."""

    label: str
    dry_run: bool = False
    encrypted: int = 0
    rekeyed: int = 0
    reencrypted: int = 0
    moved: int = 0
    redirected: int = 0
    failed: int = 0
    # The primary keys of the rows that were moved, redirected, or failed.
    left_alone: set[Any] = dataclass_field(default_factory=set)

    @property
    def written(self) -> int:
        return self.rekeyed + self.reencrypted

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        unchanged = "" if self.written else " Nothing was changed."
        return (
            f"{self.label}: of {counted(self.encrypted, 'row', 'rows')} with encrypted values, {self.rekeyed} "
            f"{would}rekeyed, "
            f"{self.reencrypted} {would}re-encrypted, {self.moved} moved and left alone, {self.redirected} redirected "
            f"and left alone, {self.failed} failed.{unchanged}"
        )


@forgetful
def rekey_group(
    group: Group,
    *,
    using: str = DEFAULT_DB_ALIAS,
    accept_moved: bool = False,
    accept_redirected: bool = False,
    rewrap: bool = False,
    dry_run: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: OnProblem,
) -> RekeyReport:
    """
    Bring every row up to date; ``on_problem`` is called for each that is left alone, with the reason.

    With ``rewrap`` data keys that today's keys have not wrapped are wrapped anew for the context that they have. A
    vault that cannot tell rewraps all of them, each time. Hashes of values that get another context are made again.

    Costs one ``decrypt`` for each data key of rekeyed rows that is not cached, for its companion must prove its
    content, and one ``rekey`` for each of their contexts, or what the vault needs to rewrap them; for re-encrypted
    ones what ``reencrypt_group`` costs; nothing for rows that are current, and nothing in a dry run. Raises
    ``VaultUnavailable``; the rows before stay written.
    """
    run = _Run(group, using, on_problem)
    run.accept_moved, run.accept_redirected = accept_moved, accept_redirected
    run.rewrap, run.report.dry_run = rewrap, dry_run
    return run.over_all_rows(run.bring_up_to_date, "Rekeying", batch_size, progress)


@forgetful
def reencrypt_group(
    group: Group,
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: OnProblem,
) -> RekeyReport:
    """
    Give every row a new data key and new ciphertext; ``on_problem`` is called for each that is left alone.

    Costs one ``decrypt`` for each data key that is not cached, and one ``create`` for each key context, for every
    ``max_rows_per_key`` of its rows. Raises ``VaultUnavailable``; the rows before stay written.
    """
    run = _Run(group, using, on_problem)
    return run.over_all_rows(run.reencrypt_those_that_stayed, "Re-encrypting", batch_size, progress)


@dataclass(frozen=True, slots=True, eq=False)
class _Stale:
    """A row that is not current: its present companion, and the context that its companion should have."""

    row: Row
    companion: Companion
    context: KeyContext

    @property
    def is_of_same_context(self) -> bool:
        return self.companion.context == self.context


class _Redirected(KeyContextMismatch):
    """A row whose own columns lead to another context than they did."""


class _Run:
    """One walk over the rows of a group."""

    def __init__(
        self,
        group: Group,
        using: str,
        on_problem: OnProblem,
    ) -> None:
        self.group = group
        self.accept_moved = False
        self.accept_redirected = False
        self.rewrap = False
        self.report = RekeyReport(f"{group.model._meta.label}.{group.companion}")
        self._on_problem = on_problem
        self._rows = StoredRows(group, using)
        self._new_keys = NewKeys()
        self._hashes = sorted(group.index_names)
        self._wrappings = Wrappings(vaults[group.vault])

    def over_all_rows(
        self, step: Callable[[list[Row]], list[Row]], title: str, batch_size: int, progress: Progress
    ) -> RekeyReport:
        """Let ``step`` process each batch. It returns the rows that were written to meanwhile, as they are now."""
        with progress(f"{title} {self.report.label}", self._rows.count) as advance:
            for batch in self._rows.batches(batch_size):
                due = [row for row in batch if row.sealed_members()]
                self.report.encrypted += len(due)
                while due:
                    prefetch_related_objects([row.instance for row in due], *sorted(self.group.source.relations))
                    due = [row for row in step(due) if row.sealed_members()]
                advance(len(batch))
        return self.report

    def bring_up_to_date(self, rows: list[Row]) -> list[Row]:
        to_rekey: list[_Stale] = []
        to_reencrypt: list[Row] = []
        for row in rows:
            with self._reporting(row):
                self._sort(row, to_rekey, to_reencrypt)
        if self.report.dry_run:
            self.report.rekeyed += len(to_rekey)
            self.report.reencrypted += len(to_reencrypt)
            return []
        verified = self._verified(to_rekey)
        self._wrappings.prepare(stale.companion for stale in verified if stale.is_of_same_context)
        rewrapped: dict[_Stale, str] = {}
        for stale, key in verified.items():
            with self._reporting(stale.row):
                rewrapped[stale] = self._rewrapped(stale, key)
        # A hash is one of the context: in another one it is another.
        moving = [stale for stale in rewrapped if self._hashes and not stale.is_of_same_context]
        staying = [stale for stale in rewrapped if stale not in moving]
        changed = self._write_rewrapped([], [(stale.row, [rewrapped[stale]]) for stale in staying])
        hashed = self._hashed(moving)
        changes: list[Change] = [(stale.row, [rewrapped[stale], *stale.row.hashes()]) for stale in hashed]
        changed += self._write_rewrapped(self._hashes, changes)
        return changed + self.reencrypt(to_reencrypt)

    def _write_rewrapped(self, hashes: list[str], changes: list[Change]) -> list[Row]:
        written, changed = self._rows.write([self.group.companion, *hashes], changes)
        self.report.rekeyed += written
        return changed

    def _hashed(self, moving: Sequence[_Stale]) -> list[_Stale]:
        """Give rows the hashes of the context that they will have; return those of which all values open."""
        with suppress(*ROW_ERRORS):
            self._hash(moving)
            return [*moving]
        fine = []  # Go one by one, to find out which rows it is.
        for stale in moving:
            with self._reporting(stale.row):
                self._hash([stale])
                fine.append(stale)
        return fine

    @forgetful
    def _hash(self, moving: Sequence[_Stale]) -> None:
        open_together([stale.row for stale in moving])
        for stale in moving:
            for name in self._hashes:
                stale.row.instance.__dict__.pop(name, None)  # A hash that is not there is made again.
        rows = [(stale.row.instance, self.group) for stale in moving]
        contexts = {id(stale.row.instance): stale.context for stale in moving}
        write_indexes(rows, self._rows.using, contexts=contexts)

    def reencrypt_those_that_stayed(self, rows: list[Row]) -> list[Row]:
        staying = []
        for row in rows:
            with self._reporting(row):
                self._require_stayed(row, row.paired_companion(), *self._derived(row))
                staying.append(row)
        return self.reencrypt(staying)

    def reencrypt(self, rows: list[Row]) -> list[Row]:
        open_together(rows)
        changes: list[Change] = []
        for row in rows:
            with self._reporting(row):
                changes.append((row, self._reencrypted(row)))
        names = [self.group.companion, *(member.attname for member in self.group.members), *self._hashes]
        written, changed = self._rows.write(names, changes)
        self.report.reencrypted += written
        return changed

    @contextmanager
    def _reporting(self, row: Row) -> Iterator[None]:
        """Report a row that fails, and go on with the others; an unavailable Vault ends the operation."""
        try:
            yield
        except KeyContextMismatch as error:
            if isinstance(error, _Redirected):
                self.report.redirected += 1
            else:
                self.report.moved += 1
            self.report.left_alone.add(row.pk)
            self._on_problem(str(error))
        except ROW_ERRORS as error:
            self.report.failed += 1
            self.report.left_alone.add(row.pk)
            self._on_problem(str(error))

    def _sort(self, row: Row, to_rekey: list[_Stale], to_reencrypt: list[Row]) -> None:
        """Put the row into one of the two lists, or into neither if it is current. Calls no Vault."""
        group = self.group
        companion = row.paired_companion()
        columns, context = self._derived(row)
        # A path that ends where it did does not move the row, wherever it begins.
        names = [
            name
            for name in moved_columns(companion, group, [*columns.values()], group.source.now_outside())
            if LOOKUP_SEP not in group.source.paths.get(name, "") or companion.context.get(name) != context.get(name)
        ]
        if names and not self.accept_moved:
            raise KeyContextMismatch(
                f"{row.label}: {column_names(names, group)} of the row differs from that of the "
                "value; it was left alone. If the row was moved on purpose, add --accept-moved."
            )
        self._require_stayed(row, companion, columns, context)
        if names or companion.row != columns or companion.vault != group.vault:
            to_reencrypt.append(row)
        elif companion.context != context or (self.rewrap and not self._is_current(row, companion)):
            to_rekey.append(_Stale(row, companion, context))

    def _is_current(self, row: Row, companion: Companion) -> bool:
        with row.locating():
            return self._wrappings.is_current(companion)

    def _derived(self, row: Row) -> tuple[dict[str, str | None], KeyContext]:
        """Return the row's own columns, and the context that they lead to."""
        try:
            columns = {each.name: each.text(getattr(row.instance, each.attname)) for each in self.group.bindings}
            return columns, self.group.source.derive(row.instance)
        except KeyContextError as error:
            raise KeyContextError(f"{row.label}: {error}") from None

    def _require_stayed(
        self, row: Row, companion: Companion, columns: dict[str, str | None], context: KeyContext
    ) -> None:
        """Refuse a row that was redirected, unless that is accepted."""
        problem = "" if self.accept_redirected else redirection(self.group, companion, columns, context)
        if problem:
            raise _Redirected(f"{row.label}: {problem}")

    def _verified(self, to_rekey: list[_Stale]) -> dict[_Stale, DataKey]:
        """
        Return the data keys of those whose companions prove to belong to them.

        The content of a companion decides whose keys will open the data key from now on. Without its proof, anyone who
        can write to the table could have a tenant's data key wrapped for another.
        """
        batch = Batch([stale.row.companion for stale in to_rekey], hold=True, goes_on=True)
        verified = {}
        for stale in to_rekey:
            with self._reporting(stale.row), stale.row.locating():
                verified[stale] = proven_key(stale.row.companion or "", stale.companion, batch)
        return verified

    def _rewrapped(self, stale: _Stale, key: DataKey) -> str:
        """Return the new text of the companion."""
        with stale.row.locating():
            if stale.is_of_same_context:
                new = self._wrappings.rewrapped(stale.companion, key)
            else:
                new = self._wrappings.rekeyed(stale.companion, stale.context, key)
        return companion_format.encode(new)

    @forgetful
    def _reencrypted(self, row: Row) -> list[Any]:
        """Return the new texts of the companion and of every value."""
        for member in row.sealed_members():
            sealed = row.instance.__dict__[member.attname]
            opened = open_sealed(member, sealed, row.instance, accept_moved=self.accept_moved)
            # As if it were assigned to a new row, which has no data key to keep.
            row.instance.__dict__[member.attname] = Pending(opened.value)
        seal([(row.instance, self.group)], self._new_keys)
        return [row.companion, *map(row.text, self.group.members), *row.hashes()]
