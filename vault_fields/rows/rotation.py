"""
Rotation of index keys: new ones, hashes made with them, and in the end the deletion of the old ones.

A rotation is under way while a key has two generations, and each run takes it further. An old key is deleted when a
walk over all rows found nothing to change, and nobody is left who may write a hash that was made with it. See
``docs/decisions/0135-an-old-index-key-outlives-its-users.md``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field as dataclass_field
from datetime import datetime, timedelta
from time import sleep
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import UniqueConstraint
from django.utils import timezone

from vault_fields.fields.blindindex import IndexField
from vault_fields.fields.groups import Group
from vault_fields.fields.indexing import HASH_AGE
from vault_fields.fields.indexkeys import SETTLING, Wanted, index_key_model, require_index_key, stored_key
from vault_fields.rows.reindex import ReindexReport, Scope, reindex_group
from vault_fields.rows.walk import BATCH_SIZE, ROW_ERRORS
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.stored import companion as companion_format
from vault_fields.text.counting import counted

__all__ = ["LEAST_GRACE", "RotationReport", "rotate_index_keys"]

# Instances keep hashes that they read for half of it; the rest is for the transactions that save them.
LEAST_GRACE = timedelta(seconds=2 * HASH_AGE)

_Keys = Mapping[Wanted, Sequence[Any]]


@dataclass(slots=True)
class RotationReport:
    """The numbers of index keys that got a new generation, lost their old ones, and still have them."""

    label: str = "vault_fields.IndexKey"
    begun: int = 0
    finished: int = 0
    waiting: int = 0
    # When the old generations of those that wait can be deleted, in ISO format.
    again_after: str | None = None
    # The primary keys of the index keys that could not be rotated.
    left_alone: list[Any] = dataclass_field(default_factory=list)

    def __str__(self) -> str:
        again = f" Run it again after {self.again_after} to delete what they replace." if self.again_after else ""
        return (
            f"{self.label}: {counted(self.begun, 'index key was', 'index keys were')} made, the old ones of "
            f"{self.finished} deleted, those of {self.waiting} kept, {len(self.left_alone)} failed.{again}"
        )


@forgetful
def rotate_index_keys(
    groups: Iterable[Group],
    *,
    using: str,
    items: Mapping[str, str],
    grace: timedelta,
    offline: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: Callable[[str], object],
    on_report: Callable[[Group, ReindexReport], object],
) -> RotationReport:
    """
    Begin a rotation of the index keys whose contexts have these ``items``, or take the one that is under way further.

    ``groups`` are all that have an index in the database. ``offline`` says that nobody else writes to it: nothing is
    waited for. Costs one ``create`` for each key that is made, and for the rows what ``reindex_group`` costs. Raises
    ``ImproperlyConfigured`` where a rotation with writers would undo the uniqueness of a field, and
    ``VaultUnavailable``; run again, it goes on.
    """
    groups = [group for group in groups if group.index_names]
    if not offline:
        _require_not_unique(groups)
    run = _Rotation(using, items, on_problem)
    keys = run.under_way()
    if not keys:
        run.begin(offline)
        keys = run.under_way()
    if keys and not offline:
        _settle(keys)
    began = timezone.now()
    scope = Scope(keys)
    for group in groups if keys else ():
        report = reindex_group(
            group, using=using, scope=scope, batch_size=batch_size, progress=progress, on_problem=on_problem
        )
        on_report(group, report)
    for wanted, generations in keys.items():
        run.finish(wanted, generations, scope, None if offline else began - grace)
    if (first := run.rewritten_at) is not None:
        run.report.again_after = (first + grace).isoformat(timespec="seconds")
    return run.report


def _require_not_unique(groups: Iterable[Group]) -> None:
    for group in groups:
        for member in group.members:
            for index in group.indexes[member.name]:
                if _is_unique(group, index):
                    raise ImproperlyConfigured(
                        f"{member.label} is unique by its index {index.name!r}, and while there are two generations of "
                        "an index key the database would let in a second row with an equal value. Stop what writes to "
                        "the database, and add --offline."
                    )


def _is_unique(group: Group, index: IndexField) -> bool:
    names = {index.name, index.of} if index.index_name is None else {index.name}
    meta = group.model._meta
    together = [each.fields for each in meta.constraints if isinstance(each, UniqueConstraint)]
    return index.unique or any(names & set(fields) for fields in (*together, *meta.unique_together))


def _settle(keys: _Keys) -> None:
    """Wait until every lookup that is under way knows the new keys."""
    newest = max(generations[0].created_at for generations in keys.values())
    sleep(max(0.0, (newest + SETTLING - timezone.now()).total_seconds()))


class _Rotation:
    """One run over the index keys of a database."""

    def __init__(self, using: str, items: Mapping[str, str], on_problem: Callable[[str], object]) -> None:
        self.report = RotationReport()
        # The latest time at which the rows of a key that waits had been rewritten.
        self.rewritten_at: datetime | None = None
        self._rows = index_key_model()._base_manager.using(using)
        self._using = using
        self._items = items.items()
        self._on_problem = on_problem

    def under_way(self) -> _Keys:
        """Return the keys that have more than one generation, the newest first."""
        return {wanted: rows for wanted, rows in self._stored().items() if len(rows) > 1}

    def begin(self, offline: bool) -> None:
        """Give every key a new generation: all of them at once, so that a run which is interrupted has begun none."""
        made = []
        for wanted, (row, *_) in self._stored(report=True).items():
            try:
                new, _ = stored_key(wanted, row.generation + 1)
            except ROW_ERRORS as error:
                self._leave_alone(row, error)
                continue
            if offline:
                new.created_at -= SETTLING  # Nobody is there who might not know it.
            made.append(new)
        with transaction.atomic(self._using):
            self._rows.bulk_create(made)
        self.report.begun = len(made)

    def finish(self, wanted: Wanted, generations: Sequence[Any], scope: Scope, until: datetime | None) -> None:
        """Delete the old generations of a key, if its rows had been rewritten before ``until``, or ever for None."""
        newest = generations[0]
        is_clean = wanted not in scope.written and newest.rewritten_at is not None
        if wanted in scope.left_alone:
            self.report.waiting += 1
        elif until is None or (is_clean and newest.rewritten_at <= until):
            same = self._rows.filter(vault=newest.vault, context_hash=newest.context_hash)
            same.filter(generation__lt=newest.generation).delete()
            self.report.finished += 1
        else:
            if not is_clean:
                newest.rewritten_at = timezone.now()
                self._rows.filter(pk=newest.pk).update(rewritten_at=newest.rewritten_at)
            self.rewritten_at = max(newest.rewritten_at, self.rewritten_at or newest.rewritten_at)
            self.report.waiting += 1

    def _stored(self, *, report: bool = False) -> _Keys:
        found: dict[Wanted, list[Any]] = {}
        for row in self._rows.order_by("-generation", "pk"):
            try:
                said = companion_format.decode(row.companion)
                require_index_key(said, row.context_hash, row.generation)
            except ROW_ERRORS as error:
                if report:
                    self._leave_alone(row, error)
                continue
            if said.context.items() >= self._items:
                found.setdefault(Wanted(row.vault, said.context), []).append(row)
        return found

    def _leave_alone(self, row: Any, error: Exception) -> None:
        self.report.left_alone.append(row.pk)
        self._on_problem(f"vault_fields.IndexKey (pk={row.pk}): {error}")
