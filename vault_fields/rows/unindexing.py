"""Deletion of the hashes of values that nobody can read any more, because the key of their context item is gone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS

from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.groups import Group
from vault_fields.rows.row import Row
from vault_fields.rows.walk import BATCH_SIZE, Change, StoredRows
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.stored import companion as companion_format

__all__ = ["UnindexReport", "delete_hashes"]


@dataclass(slots=True)
class UnindexReport:
    """The numbers of rows of an item whose hashes were deleted, and were left because their values still open."""

    label: str
    deleted: int = 0
    left: int = 0


@forgetful
def delete_hashes(
    group: Group,
    name: str,
    value: str,
    *,
    is_gone: Callable[[str, str], bool],
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
) -> UnindexReport:
    """
    Delete the hashes of rows that were encrypted for a context item, where the vault refuses their keys.

    ``is_gone`` is called with the vault and the encrypted keys of a row. What is finished stays; run again, it writes
    nothing twice.
    """
    report = UnindexReport(f"{group.model._meta.label}.{group.companion}")
    rows = StoredRows(group, using)
    names = sorted(group.index_names)

    def due(found: Sequence[Row]) -> list[Change]:
        changes: list[Change] = []
        for row in found:
            if all(row.read(each) is None for each in names):
                continue
            try:
                said = companion_format.decode(row.companion or "")
            except EnvelopeError:
                continue  # Whose it is cannot be told.
            if said.context.get(name) != value:
                continue
            if is_gone(said.vault, said.encrypted_keys):
                changes.append((row, [None] * len(names)))
            else:
                report.left += 1
        return changes

    with progress(f"Deleting hashes of {report.label}", rows.count) as advance:
        for batch in rows.batches(batch_size):
            changes = due(batch)
            while changes:
                written, changed = rows.write(names, changes)
                report.deleted += written
                changes = due(changed)
            advance(len(batch))
    return report
