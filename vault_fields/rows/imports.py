"""
Import of a column that another library encrypted into an encrypted field beside it, in batches, and the way back.

The old column is read as it is stored, whatever class its field has, and is never written to.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, FieldError, ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import BinaryField, DurationField, JSONField, prefetch_related_objects
from django.utils.timezone import is_naive, make_aware

from vault_fields.exceptions import DecryptionError, EnvelopeError, ValueRefused, VaultError
from vault_fields.fields.encoding import Unencodable, encode
from vault_fields.fields.groups import Group, group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import locate, located, open_sealed
from vault_fields.fields.sealed import Pending, Sealed
from vault_fields.fields.sealing import seal
from vault_fields.fields.types.typed import CanonicalField
from vault_fields.rows.backfill import BackfillReport, OnProblem
from vault_fields.rows.row import Row, open_together
from vault_fields.rows.walk import BATCH_SIZE, ROW_ERRORS, Change, StoredRows
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent

__all__ = ["OldReader", "import_column", "take_back_column"]


# Durations of a database that has no type for them.
_MICROSECONDS = re.compile(r"-?[0-9]+")


class OldReader(Protocol):
    """The part of ``vault_fields.importing.Reader`` that an import calls."""

    def read(self, stored: Sequence[Any], using: str) -> list[Any]:
        """Return a value for each stored content, bytes for a text, or the error why there is none."""


class _Read(NamedTuple):
    """A row with what a reader returned for it."""

    row: Row
    value: Any


class _Old(NamedTuple):
    """A row with the value of its old column, and with the text that our field encrypts for it."""

    row: Row
    value: Any
    text: str


@forgetful
def import_column(
    field: Encrypted,
    *,
    source: str,
    reader: OldReader,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: OnProblem | None = None,
) -> BackfillReport:
    """
    Give ``field`` the value of the old column ``source``, in every row where it is NULL and the old column is not.

    Costs one ``create`` for each key context, for every ``max_rows_per_key`` of its rows. Raises for the first row that
    cannot be imported, or calls ``on_problem`` and goes on, as ``encrypt_column`` does.
    """
    if not field.null:
        raise FieldError(f"{field.label} is not null=True: rows that are not imported yet have no value.")
    if field.writes_plaintext:
        raise ImproperlyConfigured(
            f'{field.label} is declared with migrating="read", and would be written in the clear.'
        )
    run, new_keys = _Run(field, source, reader, "imported", using, on_problem), NewKeys()
    group, attname = run.group, field.attname

    def is_due(row: Row) -> bool:
        return row.text(field) is None and row.read(run.source) is not None

    def sealed(olds: Sequence[_Old]) -> list[_Old]:
        for old in olds:
            old.row.instance.__dict__[attname] = Pending(old.value)
        try:
            seal([(old.row.instance, group) for old in olds], new_keys, follow=False)
        except ROW_ERRORS:
            if on_problem is None:
                raise
        else:
            return list(olds)
        # Nothing was sealed. Go one by one, to find out which rows it is.
        return run.fine(olds, lambda old: seal([(old.row.instance, group)], new_keys, follow=False))

    def prove(old: _Old) -> None:
        """Open what was sealed, as a reader of the row will, and compare it with the old value."""
        held: Sealed = old.row.instance.__dict__[attname]
        again = Sealed(held.text, held.keys, held.values)
        if open_sealed(field, again, old.row.instance).text != old.text:
            raise DecryptionError(f"{locate(field, old.row.instance)}: it does not open to the value of {source!r}.")

    @forgetful
    def convert(rows: Sequence[Row]) -> list[Change]:
        prefetch_related_objects([row.instance for row in rows], *sorted(group.source.relations))
        olds = run.fine(sealed(run.read(rows)), prove)
        return [(row, [row.companion, *map(row.text, group.members), *row.hashes()]) for row, _, _ in olds]

    names = [group.companion, *(member.attname for member in group.members), *sorted(group.index_names)]
    return run.over_all_rows("Importing", is_due, names, convert, batch_size, progress)


@forgetful
def take_back_column(
    field: Encrypted,
    *,
    source: str,
    reader: OldReader,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: OnProblem | None = None,
) -> BackfillReport:
    """
    Empty ``field`` in every row whose old column ``source`` opens to the same value. Nothing else is lost.

    Rows with another value, and rows that have none in the old column, are errors like those of ``import_column``.
    Costs one ``decrypt`` for each data key that is not cached.
    """
    run = _Run(field, source, reader, "emptied again", using, on_problem)
    others = [member for member in run.group.members if member is not field]
    hashes = [index.attname for index in run.group.indexes[field.name]]

    def is_due(row: Row) -> bool:
        return row.text(field) is not None

    def compare(old: _Old) -> None:
        held: Sealed = old.row.instance.__dict__[field.attname]
        if open_sealed(field, held, old.row.instance).text != old.text:
            raise ValueRefused(
                f"{locate(field, old.row.instance)}: the value differs from that of {source!r}. It was changed since, "
                "and would be lost: write it to the old column, or set it to None."
            )

    def require_source(row: Row) -> None:
        if row.read(run.source) is None:
            raise ValueRefused(
                f"{locate(field, row.instance)}: the value is not in {source!r}, and would be lost: write it to the "
                "old column, or set it to None."
            )

    @forgetful
    def convert(rows: Sequence[Row]) -> list[Change]:
        open_together(rows)
        olds = run.fine(run.read(run.fine(rows, require_source)), compare)
        emptied = [None] * (1 + len(hashes))
        return [(row, [row.companion if any(map(row.is_encrypted, others)) else None, *emptied]) for row, _, _ in olds]

    names = [run.group.companion, field.attname, *hashes]
    return run.over_all_rows("Emptying", is_due, names, convert, batch_size, progress)


class _Run:
    """One walk over the rows of a table, and its results."""

    def __init__(
        self,
        field: Encrypted,
        source: str,
        reader: OldReader,
        participle: str,
        using: str,
        on_problem: OnProblem | None,
    ) -> None:
        self.report = BackfillReport(field.label, participle)
        self.group = group_of(field)
        self.source = _source_of(self.group, source)
        self._field = field
        self._reader = reader
        self._using = using
        self._on_problem = on_problem
        self._rows = _RowsWithSource(self.group, using, self.source)

    def over_all_rows(
        self,
        title: str,
        is_due: Callable[[Row], bool],
        names: Sequence[str],
        convert: Callable[[Sequence[Row]], list[Change]],
        batch_size: int,
        progress: Progress,
    ) -> BackfillReport:
        """Let ``convert`` say what to write to the rows of each batch that are due."""
        with progress(f"{title} {self.report.label}", self._rows.count) as advance:
            for batch in self._rows.batches(batch_size):
                due = list(filter(is_due, batch))
                while due:
                    # Somebody else wrote to some in the meantime: their present content counts.
                    written, changed = self._rows.write(names, convert(due))
                    self.report.written += written
                    due = list(filter(is_due, changed))
                self.report.examined += len(batch)
                advance(len(batch))
        return self.report

    def read(self, rows: Sequence[Row]) -> list[_Old]:
        """Return the rows whose old column the reader opens, with its values."""
        if not rows:
            return []
        olds: list[_Old] = []
        values = self._reader.read([row.read(self.source) for row in rows], self._using)
        self.fine(
            [_Read(*each) for each in zip(rows, values, strict=True)],
            lambda read: olds.append(self._old(read.row, read.value)),
        )
        return olds

    def fine(self, items: Sequence[Any], action: Callable[[Any], object]) -> list[Any]:
        """
        Return the items for which the action succeeds. ``on_problem`` is called for each other, or the error is raised.
        """
        fine = []
        for item in items:
            try:
                action(item)
            except ROW_ERRORS as error:
                if self._on_problem is None:
                    raise
                self.report.left_alone.append(item.pk if isinstance(item, Row) else item.row.pk)
                self._on_problem(str(error))
            else:
                fine.append(item)
        return fine

    def _old(self, row: Row, value: Any) -> _Old:
        if isinstance(value, (DecryptionError, VaultError)):
            raise located(value, self._field, row.instance)
        try:
            value = _python_value(self._field, value, self._using)
            text = encode(self._field, value)
            _require_exact(self._field, value, text)
            return _Old(row, value, text)
        except DecryptionError as error:
            raise located(error, self._field, row.instance) from None
        except Unencodable as refused:
            raise ValueRefused(f"{locate(self._field, row.instance)}: the value is refused: {refused}.") from None


class _RowsWithSource(StoredRows):
    """Rows with the bare content of one more column. Each is read again after it was written."""

    def __init__(self, group: Group, using: str, source: str) -> None:
        super().__init__(group, using, [source])
        self._columns.bare.add(source)

    @forgetful
    def _update(self, names: Sequence[str], changes: Sequence[Change]) -> None:
        super()._update(names, changes)
        written = {row.pk: list(values) for row, values in changes}
        for row in [Row(self._shape, stored) for stored in self._columns.lock(list(written))]:
            if [row.read(name) for name in names] != written[row.pk]:
                label = f"{self.group.model._meta.label} (pk={row.pk!r})"
                raise EnvelopeError(f"{label}: the database does not hold what was written to {', '.join(names)}.")


def _source_of(group: Group, name: str) -> str:
    """Return the attribute name of the old column. Raises ``FieldError`` for one that cannot be imported."""
    meta = group.model._meta
    try:
        field: Any = meta.get_field(name)
    except FieldDoesNotExist:
        field = None
    if field is None or not field.concrete or getattr(field, "is_encrypted", False):
        raise FieldError(
            f"{meta.label}.{name} is no old column: the source of an import is a field of the model that this package "
            "does not encrypt, as a TextField or BinaryField."
        )
    attname: str = field.attname
    return attname


def _python_value(field: Encrypted, value: Any, using: str) -> Any:
    """Return the value for the user of our field. Raises ``DecryptionError``, which holds nothing of it."""
    if isinstance(value, bytes) and not isinstance(field, BinaryField):
        value = _text(value)
        if value is None:
            raise DecryptionError("the old value is not UTF-8 text.")
        if isinstance(field, JSONField):
            return field.from_plaintext(value)
    try:
        return _value_of_type(field, value, using)
    except Exception:  # noqa: BLE001 - whatever a type cannot be made of; the error holds the value.
        kind = type(field).__name__
    raise DecryptionError(f"the old value is none for a field of {kind}.")


def _value_of_type(field: Encrypted, value: Any, using: str) -> Any:
    """Return the value of a field, also of what Django writes for it in databases that lack the type."""
    if isinstance(field, DurationField) and _MICROSECONDS.fullmatch(str(value)):
        return timedelta(microseconds=int(value))
    found = field.to_python(value)
    if isinstance(value, str) and isinstance(found, datetime) and settings.USE_TZ and is_naive(found):
        return make_aware(found, connections[using].timezone)
    return found


def _require_exact(field: Encrypted, value: Any, text: str) -> None:
    """Raise ``DecryptionError`` for a value that would be rounded."""
    if isinstance(field, CanonicalField) and field.from_plaintext(text) != value:
        raise DecryptionError(f"the old value is none that a field of {type(field).__name__} has exactly.")


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        # Raised elsewhere: the error holds the plaintext, and would stay in the context of the next one.
        return None
