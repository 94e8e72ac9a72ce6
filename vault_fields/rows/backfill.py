"""
Encryption of a column that holds plaintext, and decryption, in batches.

Every batch is written by itself. Finished rows are left alone, so that an operation that was interrupted continues
where it stopped when it is run again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field as dataclass_field
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import prefetch_related_objects

from vault_fields.exceptions import EnvelopeError, ValueRefused
from vault_fields.fields.groups import group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import locate, located, open_sealed
from vault_fields.fields.sealing import examine, seal
from vault_fields.rows.firstseal import FirstSeal
from vault_fields.rows.row import Row, open_together
from vault_fields.rows.walk import BATCH_SIZE, ROW_ERRORS, Change, StoredRows
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.stored import companion as companion_format, envelope as envelope_format
from vault_fields.text.counting import counted

__all__ = ["BackfillReport", "decrypt_column", "encrypt_column"]

# The number of rows left alone that one message names.
MAX_SHOWN = 20

OnProblem = Callable[[str], object]


@dataclass(slots=True)
class BackfillReport:
    """The numbers of rows of a table that an operation looked at, and that it wrote to."""

    label: str
    participle: str
    examined: int = 0
    written: int = 0
    # The number of rows with text in the clear where a companion says that they held an encrypted value.
    beside_keys: int = 0
    # The primary keys of the rows that were left alone, each once.
    left_alone: list[Any] = dataclass_field(default_factory=list)

    def __str__(self) -> str:
        told = f"{self.label}: {self.participle} {self.written:,} of {counted(self.examined, 'row', 'rows')}; "
        if self.left_alone:
            told += f"{counted(len(self.left_alone), 'was', 'were')} left alone ({self.keys_left_alone}), "
        told += "the others needed nothing."
        if self.beside_keys:
            told += (
                f" {counted(self.beside_keys, 'row holds', 'rows hold')} text in the clear beside the keys of an "
                f"encrypted value: a process of "
                "an earlier phase wrote it, or somebody put it in the place of that value."
            )
        return told

    @property
    def keys_left_alone(self) -> str:
        """The first of their primary keys, for messages."""
        shown = ", ".join(map(repr, self.left_alone[:MAX_SHOWN]))
        more = len(self.left_alone) - MAX_SHOWN
        return f"pk={shown} and {more} more" if more > 0 else f"pk={shown}"


@forgetful
def encrypt_column(
    field: Encrypted,
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: OnProblem | None = None,
    dry_run: bool = False,
) -> BackfillReport:
    """
    Encrypt what ``field``, which is ``migrating``, still holds in the clear, and what shares its companion.

    Costs one ``create`` for each key context, for every ``max_rows_per_key`` of its rows, and for each batch one query
    for each relation that the context lies behind. Raises for the first row that cannot be encrypted; the batches
    before it stay written, unless a transaction is open around the call. With ``on_problem`` all others are encrypted:
    it is told of each that is left alone, and why. Raises ``VaultUnavailable`` all the same, unless it is one
    customer's key that does not answer.

    In a dry run nothing is written and the Vault is not asked: the report says what would be encrypted.
    """
    if not field.migrating:
        raise ImproperlyConfigured(
            f"{field.label} is not declared with migrating=True, without which a column that is encrypted in part "
            "cannot be read. Set it, run makemigrations, and remove it when everything is encrypted."
        )
    if field.writes_plaintext:
        raise ImproperlyConfigured(
            f'{field.label} is declared with migrating="read", so that every process goes on writing plaintext. '
            "Deploy migrating=True to all of them, with its migration, and encrypt the rows then."
        )
    group, new_keys = group_of(field), NewKeys()
    first_seal = FirstSeal(group, new_keys)
    run = _Run(field, "would be encrypted:" if dry_run else "encrypted", using, on_problem)

    def sealed(rows: Sequence[Row]) -> list[Row]:
        try:
            seal([(row.instance, group) for row in rows], new_keys, follow=False)
        except ROW_ERRORS:
            if on_problem is None:
                raise
        else:
            return list(rows)
        # Nothing was sealed. Go one by one, to find out which rows it is; what they have in common is known by now.
        return run.without_problems(rows, lambda row: seal([(row.instance, group)], new_keys, follow=False))

    @forgetful
    def convert(rows: Sequence[Row]) -> list[Change]:
        changes, others = first_seal.changes(rows)
        return changes + [
            (row, [row.companion, *map(row.text, group.members), *row.hashes()]) for row in sealed(others)
        ]

    def examined(rows: Sequence[Row]) -> list[Row]:
        prefetch_related_objects([row.instance for row in rows], *sorted(group.source.relations))
        return run.without_problems(rows, lambda row: examine(row.instance, group))

    names = [group.companion, *(member.attname for member in group.members), *sorted(group.index_names)]
    if dry_run:
        return run.over_all_rows("Examining", _is_plaintext, run.counted(examined), batch_size, progress)
    return run.over_all_rows("Encrypting", _is_plaintext, run.writing(names, convert), batch_size, progress)


@forgetful
def decrypt_column(
    field: Encrypted,
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: OnProblem | None = None,
) -> BackfillReport:
    """
    Write every value of ``field`` in the clear again; of JSON, its text.

    Costs one ``decrypt`` for each data key that is not cached. The companion becomes NULL where no value is left that
    needs it. Raises for the first row that cannot be decrypted, or calls ``on_problem``, as ``encrypt_column`` does.
    """
    group, vendor = group_of(field), connections[using].vendor
    hashes = [index.attname for index in group.indexes[field.name]]
    no_hashes = [None] * len(hashes)
    run = _Run(field, "decrypted", using, on_problem)

    @forgetful
    def convert(rows: Sequence[Row]) -> list[Change]:
        open_together(rows)
        changes: list[Change] = []

        def add(row: Row) -> None:
            is_shared = any(row.is_encrypted(member) for member in group.members if member is not field)
            # A hash under a key that a tenant may withdraw has no place beside a value in the clear.
            changes.append((row, [row.companion if is_shared else None, _plaintext(field, row, vendor), *no_hashes]))

        run.without_problems(rows, add)
        return changes

    names = [group.companion, field.attname, *hashes]
    return run.over_all_rows("Decrypting", _is_encrypted, run.writing(names, convert), batch_size, progress)


class _Run:
    """One walk over the rows of a column's table, and its results."""

    def __init__(self, field: Encrypted, participle: str, using: str, on_problem: OnProblem | None) -> None:
        self.report = BackfillReport(field.label, participle)
        self._field = field
        self._on_problem = on_problem
        self._rows = StoredRows(group_of(field), using)

    def over_all_rows(
        self,
        title: str,
        is_due: Callable[[Encrypted, Row], bool],
        step: Callable[[Sequence[Row]], list[Row]],
        batch_size: int,
        progress: Progress,
    ) -> BackfillReport:
        """Let ``step`` process each batch. It returns the rows that were written to meanwhile, as they are now."""
        with progress(f"{title} {self.report.label}", self._rows.count) as advance:
            for batch in self._rows.batches(batch_size):
                due = self._due(is_due, batch)
                if is_due is _is_plaintext:
                    self.report.beside_keys += sum(_is_beside_keys(row) for row in due)
                while due:
                    # Somebody else wrote to these in the meantime: their present content counts.
                    due = self._due(is_due, step(due))
                self.report.examined += len(batch)
                advance(len(batch))
        return self.report

    def writing(
        self, names: Sequence[str], convert: Callable[[Sequence[Row]], list[Change]]
    ) -> Callable[[Sequence[Row]], list[Row]]:
        def write(rows: Sequence[Row]) -> list[Row]:
            written, changed = self._rows.write(names, convert(rows))
            self.report.written += written
            return changed

        return write

    def counted(self, examined: Callable[[Sequence[Row]], list[Row]]) -> Callable[[Sequence[Row]], list[Row]]:
        def count(rows: Sequence[Row]) -> list[Row]:
            self.report.written += len(examined(rows))
            return []

        return count

    def without_problems(self, rows: Sequence[Row], action: Callable[[Row], object]) -> list[Row]:
        """
        Return the rows for which the action succeeds. ``on_problem`` is called for each other, or the error is raised.
        """
        fine = []
        for row in rows:
            try:
                action(row)
            except ROW_ERRORS as error:
                if self._on_problem is None:
                    raise
                self.report.left_alone.append(row.pk)
                self._on_problem(str(error))
            else:
                fine.append(row)
        return fine

    def _due(self, is_due: Callable[[Encrypted, Row], bool], rows: Sequence[Row]) -> list[Row]:
        due: list[Row] = []

        def sort(row: Row) -> None:
            if is_due(self._field, row):
                due.append(row)

        self.without_problems(rows, sort)
        return due


def _is_plaintext(field: Encrypted, row: Row) -> bool:
    """
    Whether the value has to be encrypted, or its envelope spelled anew.

    Raises ``EnvelopeError`` for one that only looks as if it were encrypted.
    """
    text = row.text(field)
    if text is None or not envelope_format.is_envelope(text):
        return text is not None
    try:
        _require_pair(field, text, row.companion)
    except EnvelopeError as error:
        raise located(error, field, row.instance) from None
    return row.is_respelled(field)


def _is_beside_keys(row: Row) -> bool:
    """Whether a companion is left of a value that was encrypted, and no other value explains that it is there."""
    return bool(row.companion) and not any(map(row.is_encrypted, row.group.members))


def _require_pair(field: Encrypted, text: str, keys: str | None) -> None:
    if not keys:
        raise EnvelopeError(
            f"the value begins like an encrypted one, but {field.companion_name!r} is empty. If it is the user's own "
            "text, change it; otherwise bring the companion back."
        )
    if envelope_format.decode(text).key_id != companion_format.decode(keys).key_id:
        raise EnvelopeError(f"the value and {field.companion_name!r} name different data keys.")


def _is_encrypted(field: Encrypted, row: Row) -> bool:
    return row.is_encrypted(field)


@forgetful
def _plaintext(field: Encrypted, row: Row, vendor: str) -> str | None:
    sealed = row.envelope(field)
    text = None if sealed is None else open_sealed(field, sealed, row.instance).text
    if vendor == "postgresql" and text is not None and "\0" in text:
        # Encrypted, the database held it; in the clear, it cannot.
        raise ValueRefused(f"{locate(field, row.instance)}: the value holds a NUL, which PostgreSQL's text cannot.")
    if text is not None and envelope_format.is_envelope(field.stored_text(text)):
        # Encrypted, it was a value like any other; in the clear, it would be taken for an encrypted one.
        raise ValueRefused(f"{locate(field, row.instance)}: the value begins like an encrypted one. Change it first.")
    return text
