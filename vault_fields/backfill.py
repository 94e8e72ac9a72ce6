"""
Encrypts a column that holds plaintext, and decrypts it again, in batches.

Every batch is written by itself. What was done already is left alone, so that an operation that was interrupted goes
on where it stopped when it is run again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.views.decorators.debug import sensitive_variables

from vault_fields import companion as companion_format, envelope as envelope_format
from vault_fields.exceptions import EnvelopeError, ValueRefused
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.groups import group_of
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import locate, located, open_sealed
from vault_fields.fields.sealed import Sealed
from vault_fields.fields.sealing import seal
from vault_fields.progress import Progress, silent
from vault_fields.walk import Change, Row, StoredRows, open_together

__all__ = ["BATCH_SIZE", "BackfillReport", "decrypt_column", "encrypt_column"]

BATCH_SIZE = 1000


@dataclass(slots=True)
class BackfillReport:
    """How many rows of a table an operation looked at, and how many it wrote to."""

    label: str
    participle: str
    examined: int = 0
    written: int = 0

    def __str__(self) -> str:
        return f"{self.label}: {self.participle} {self.written} of {self.examined} rows; the others needed nothing."


def encrypt_column(
    field: EncryptedField, *, using: str = DEFAULT_DB_ALIAS, batch_size: int = BATCH_SIZE, progress: Progress = silent
) -> BackfillReport:
    """
    Encrypt what ``field``, which is ``migrating``, still holds in the clear, and what shares its companion.

    Costs one ``create`` for each key context, for every ``max_rows_per_key`` of its rows, and for each batch one query
    for each relation that the context lies behind. Raises for the first row that cannot be encrypted; the batches
    before it stay written, unless a transaction is open around the call.
    """
    group, new_keys = group_of(field), NewKeys()

    def convert(rows: Sequence[Row]) -> list[Change]:
        seal([(row.instance, group) for row in rows], new_keys)
        return [(row, [row.companion, *map(row.text, group.members)]) for row in rows]

    names = [group.companion, *(member.attname for member in group.members)]
    return _rewrite(field, ("Encrypting", "encrypted"), _is_plaintext, names, convert, using, batch_size, progress)


def decrypt_column(
    field: EncryptedField, *, using: str = DEFAULT_DB_ALIAS, batch_size: int = BATCH_SIZE, progress: Progress = silent
) -> BackfillReport:
    """
    Write every value of ``field``, which is ``migrating``, in the clear again; of JSON, its text.

    Costs one ``decrypt`` for each data key that is not cached. The companion becomes NULL where no value is left that
    needs it. Raises for the first row that cannot be decrypted, as ``encrypt_column`` does.
    """
    group, vendor = group_of(field), connections[using].vendor

    @sensitive_variables("changes")
    def convert(rows: Sequence[Row]) -> list[Change]:
        open_together(rows)
        changes: list[Change] = []
        for row in rows:
            is_shared = any(row.envelope(member) for member in group.members if member is not field)
            changes.append((row, [row.companion if is_shared else None, _plaintext(field, row, vendor)]))
        return changes

    names = [group.companion, field.attname]
    return _rewrite(field, ("Decrypting", "decrypted"), _is_encrypted, names, convert, using, batch_size, progress)


def _rewrite(
    field: EncryptedField,
    verb: tuple[str, str],
    is_due: Callable[[EncryptedField, Row], bool],
    names: Sequence[str],
    convert: Callable[[Sequence[Row]], list[Change]],
    using: str,
    batch_size: int,
    progress: Progress,
) -> BackfillReport:
    if not field.migrating:
        raise ImproperlyConfigured(
            f"{field.label} is not declared with migrating=True, without which a column that is encrypted in part "
            "cannot be read. Set it, run makemigrations, and remove it when everything is encrypted."
        )
    title, participle = verb
    report = BackfillReport(field.label, participle)
    rows = StoredRows(group_of(field), using)
    with progress(f"{title} {field.label}", rows.count) as advance:
        for batch in rows.batches(batch_size):
            due = [row for row in batch if is_due(field, row)]
            while due:
                written, changed = rows.write(names, convert(due))
                report.written += written
                # Somebody else wrote to these in the meantime: what counts is what they hold now.
                due = [row for row in changed if is_due(field, row)]
            report.examined += len(batch)
            advance(len(batch))
    return report


def _is_plaintext(field: EncryptedField, row: Row) -> bool:
    """Whether the value has to be encrypted. Raises ``EnvelopeError`` for one that only looks as if it were."""
    sealed = row.envelope(field)
    if sealed is None:
        return row.text(field) is not None
    try:
        _require_pair(field, sealed)
    except EnvelopeError as error:
        raise located(error, field, row.instance) from None
    return False


def _require_pair(field: EncryptedField, sealed: Sealed) -> None:
    if not sealed.keys:
        raise EnvelopeError(
            f"the value begins like an encrypted one, but {field.companion_name!r} is empty. If it is the user's own "
            "text, change it; otherwise bring the companion back."
        )
    if envelope_format.decode(sealed.text).key_id != companion_format.decode(sealed.keys).key_id:
        raise EnvelopeError(f"the value and {field.companion_name!r} name different data keys.")


def _is_encrypted(field: EncryptedField, row: Row) -> bool:
    return row.envelope(field) is not None


@sensitive_variables("text")
def _plaintext(field: EncryptedField, row: Row, vendor: str) -> str | None:
    sealed = row.envelope(field)
    text = None if sealed is None else open_sealed(field, sealed, row.instance).text
    if vendor == "postgresql" and text is not None and "\0" in text:
        # Encrypted, the database held it; in the clear, it cannot.
        raise ValueRefused(f"{locate(field, row.instance)}: the value holds a NUL, which PostgreSQL's text cannot.")
    return text
