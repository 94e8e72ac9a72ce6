"""
Rewriting of values because the declaration of their field changes: another companion, or another type.

Every row is written by itself, its values and its companions together, if it is as it was read. A row that cannot be
rewritten is reported and left as it is, and the others go on. Running it again writes nothing that is finished.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.core.exceptions import FieldError
from django.db import DEFAULT_DB_ALIAS

from vault_fields.exceptions import DecryptionError, EnvelopeError
from vault_fields.fields.batch import Batch
from vault_fields.fields.companion import CompanionField
from vault_fields.fields.groups import Group, encrypted_fields, group_of, group_under
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import located, open_sealed
from vault_fields.fields.sealed import Pending, Sealed
from vault_fields.fields.sealing import seal
from vault_fields.rows.row import Row, open_together
from vault_fields.rows.walk import BATCH_SIZE, ROW_ERRORS, Change, StoredRows
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.stored import companion as companion_format, envelope as envelope_format

__all__ = ["RewriteReport", "convert_column", "move_to_companion"]

OnProblem = Callable[[str], object]


@dataclass(slots=True)
class RewriteReport:
    """The numbers of rows that were looked at, that were written, and that could not be rewritten."""

    label: str
    examined: int = 0
    written: int = 0
    failed: int = 0


@forgetful
def move_to_companion(
    fields: Sequence[Encrypted],
    companion: str,
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: OnProblem,
) -> RewriteReport:
    """
    Let the values of these fields, which are in one table, open with the keys in the column ``companion``.

    They still open with those in the companions that the fields are declared with: both columns get one text. A text
    that is already in one of them is copied. Where the fields of a row have several data keys, its values are
    encrypted again under the first.

    Costs nothing for what is copied; otherwise one ``decrypt`` for each data key that is not cached. Raises
    ``FieldError`` for an impossible declaration, and ``VaultUnavailable``.
    """
    return _Move(fields, companion, using, on_problem).over_all_rows(batch_size, progress)


@forgetful
def convert_column(
    field: Encrypted,
    convert: Callable[[str], str],
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: OnProblem,
) -> RewriteReport:
    """
    Replace each value of a text field by the result of ``convert``, which leaves its own earlier results alone.

    Data keys stay. Costs one ``decrypt`` for each that is not cached. Raises ``VaultUnavailable``.
    """
    return _Conversion(field, convert, using, on_problem).over_all_rows(batch_size, progress)


class _Rewrite:
    """One walk over the rows of a table."""

    title: str

    def __init__(self, group: Group, using: str, on_problem: OnProblem, besides: Iterable[str] = ()) -> None:
        self.group = group
        self.report = RewriteReport(f"{group.model._meta.label}.{group.companion}")
        self._on_problem = on_problem
        self._rows = StoredRows(group, using, besides)
        self._new_keys = NewKeys()

    def over_all_rows(self, batch_size: int, progress: Progress) -> RewriteReport:
        with progress(f"{self.title} {self.report.label}", self._rows.count) as advance:
            for batch in self._rows.batches(batch_size):
                due = batch
                while due:
                    # Somebody else wrote to some of them in the meantime: their present content counts.
                    written, due = self._rows.write(self.columns, self.changes(due))
                    self.report.written += written
                self.report.examined += len(batch)
                advance(len(batch))
        return self.report

    @property
    def columns(self) -> list[str]:
        """The names of the columns that are written."""
        names = [member.attname for member in self.group.members]
        return [self.group.companion, *names, *sorted(self.group.index_names)]

    @abstractmethod
    def changes(self, rows: Sequence[Row]) -> list[Change]: ...

    def sealed(self, rows: Sequence[Row]) -> list[Row]:
        """Return those of the rows that could be sealed: all at once, or one by one if some cannot."""
        try:
            seal([(row.instance, self.group) for row in rows], self._new_keys, follow=False)
        except ROW_ERRORS:
            return [row for row in rows if self._is_sealed(row)]
        return list(rows)

    def _is_sealed(self, row: Row) -> bool:
        with self.reporting() as outcome:
            seal([(row.instance, self.group)], self._new_keys, follow=False)
            outcome.succeeded = True
        return outcome.succeeded

    @contextmanager
    def reporting(self) -> "Iterator[_Outcome]":
        """Report a row that fails, and go on with the others; an unavailable Vault ends the operation."""
        outcome = _Outcome()
        try:
            yield outcome
        except ROW_ERRORS as error:
            self.report.failed += 1
            self._on_problem(str(error))


@dataclass(slots=True)
class _Outcome:
    succeeded: bool = False


class _Move(_Rewrite):
    """
    The rewriting of values to another companion.

    The value itself tells which of the columns holds its keys, and not the declaration: processes that know either
    declaration may have written to the table, and so may an earlier run.
    """

    title = "Moving values to"

    def __init__(self, fields: Sequence[Encrypted], companion: str, using: str, on_problem: OnProblem) -> None:
        model = fields[0].model
        local = model._meta.local_concrete_fields
        self._companions = [column.name for column in local if isinstance(column, CompanionField)]
        _require_companions(fields, companion, self._companions)
        first = fields[0]
        # Rows that lose one of these companions to the others, or would, are processed too.
        shared = {companion, *(field.companion_name for field in fields)}
        self._concerned = {field for field in encrypted_fields(model) if field.companion_name in shared} | {*fields}
        for field in self._concerned:
            _require_same(first, field, companion)
        alike = tuple(field for field in encrypted_fields(model) if _is_alike(first, field))
        super().__init__(group_under(model, companion, alike), using, on_problem, self._companions)

    @property
    def columns(self) -> list[str]:
        return [*self._companions, *(member.attname for member in self.group.members)]

    def changes(self, rows: Sequence[Row]) -> list[Change]:
        found = []
        for row in rows:
            with self.reporting():
                found.append((row, self._values(row)))
        several = {row: values for row, values in found if len({sealed.keys for sealed in values.values()}) > 1}
        batch = Batch(
            [sealed.keys for values in several.values() for sealed in values.values()], hold=True, goes_on=True
        )
        resealed = {*self.sealed([row for row, values in several.items() if self._are_opened(row, values, batch)])}
        changes = []
        for row, values in found:
            if values and (row not in several or row in resealed) and (change := self._change(row, values)):
                changes.append(change)
        return changes

    def _values(self, row: Row) -> dict[Encrypted, Sealed]:
        """Return the values that have to have one companion from now on, each with its present one."""
        key_id = _key_id(row.companion)
        found = {}
        for member in self.group.members:
            sealed = row.envelope(member)
            # Also those that an operation before this one moved here, which the declarations do not say yet.
            if sealed is not None and (member in self._concerned or _is_pair(sealed, key_id)):
                found[member] = sealed
        for member, sealed in found.items():
            sealed.keys = self._keys(row, member, sealed)
        return found

    def _keys(self, row: Row, member: Encrypted, sealed: Sealed) -> str:
        """Return the text of the companion of a value, out of those in its row."""
        names = [member.companion_name, self.group.companion, *self._companions]
        texts: dict[str | None, None] = dict.fromkeys(row.instance.__dict__[name] for name in names)
        candidates = [text for text in texts if text and _is_pair(sealed, _key_id(text))]
        if not candidates:
            error = EnvelopeError("the value is encrypted, but no companion in its row names its data key.")
            raise located(error, member, row.instance)
        for text in candidates[:-1]:
            # Ids of data keys need not be unique, and a companion may be older than a rekey.
            try:
                open_sealed(member, Sealed(sealed.text, text, sealed.values), row.instance)
            except DecryptionError:
                continue
            return text
        return candidates[-1]

    def _are_opened(self, row: Row, values: dict[Encrypted, Sealed], batch: Batch) -> bool:
        with self.reporting() as outcome:
            for member, sealed in values.items():
                sealed.batch = batch
                sealed.opened = open_sealed(member, sealed, row.instance)
            outcome.succeeded = True
        for member in self.group.members:
            if member not in values:
                # It is none of those that are sealed together: plaintext, say, or a value with another companion.
                row.instance.__dict__[member.attname] = None
        return outcome.succeeded

    def _change(self, row: Row, values: dict[Encrypted, Sealed]) -> Change | None:
        stored = self._rows.as_stored(row)
        new = dict(stored)
        for member in values:
            held = row.instance.__dict__[member.attname]
            new[member.attname] = held.text
            new[member.companion_name] = new[self.group.companion] = held.keys
        return None if new == stored else (row, [new[name] for name in self.columns])


def _require_companions(fields: Sequence[Encrypted], companion: str, companions: Sequence[str]) -> None:
    if companion not in companions:
        raise FieldError(
            f"{fields[0].model._meta.label} has no companion {companion!r} here: MoveToCompanion goes after the "
            f"AddField that makes it, {companion} = CompanionField()."
        )
    for field in fields:
        if field.companion_name not in companions:
            raise FieldError(
                f"{field.label} has its keys in {field.companion_name!r}, which its model does not have here: "
                "MoveToCompanion goes before a RemoveField of that companion, and after an AlterField that tells the "
                "field of a companion that was renamed (keys_field)."
            )


def _require_same(first: Encrypted, other: Encrypted, companion: str) -> None:
    if not _is_alike(first, other):
        raise FieldError(
            f"{first.label} and {other.name} cannot share {companion!r}: one companion holds the data key of one key "
            "context, from one vault, and theirs differ here. Give them the same first, and bring the rows up to date "
            "with RekeyField."
        )


def _is_alike(first: Encrypted, other: Encrypted) -> bool:
    return first.source.is_same(other.source) and first.vault == other.vault


def _key_id(text: str | None) -> str | None:
    """Return the data key that a companion's text names, if it can be read."""
    try:
        return companion_format.decode(text or "").key_id
    except EnvelopeError:
        return None


def _is_pair(sealed: Sealed, key_id: str | None) -> bool:
    try:
        return key_id is not None and envelope_format.decode(sealed.text).key_id == key_id
    except EnvelopeError:
        return False  # Opening the value reports more.


class _Conversion(_Rewrite):
    """The rewriting of values of one field to another type."""

    title = "Converting"

    def __init__(self, field: Encrypted, convert: Callable[[str], str], using: str, on_problem: OnProblem) -> None:
        super().__init__(group_of(field), using, on_problem)
        self.report.label = field.label
        self._field = field
        self._convert = convert

    @forgetful
    def changes(self, rows: Sequence[Row]) -> list[Change]:
        open_together(rows)
        due = []
        for row in rows:
            held = row.instance.__dict__[self._field.attname]
            if not isinstance(held, Sealed):
                continue
            with self.reporting():
                opened = held.opened = open_sealed(self._field, held, row.instance)
                value = self._convert(opened.text)
                if value != opened.text:
                    row.instance.__dict__[self._field.attname] = Pending(value, held)
                    due.append(row)
        return [(row, [row.companion, *map(row.text, self.group.members), *row.hashes()]) for row in self.sealed(due)]
