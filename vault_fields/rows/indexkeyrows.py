"""The rows of the table of index keys in one database: walked in batches, and written if they are as they were read."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections, router, transaction

from vault_fields.rows.contention import repeated
from vault_fields.rows.presence import has_table

__all__ = ["IndexKeyRow", "IndexKeyRows"]


class IndexKeyRow(NamedTuple):
    """An index key as it is stored."""

    pk: int
    vault: str
    context_hash: str
    generation: int
    companion: str

    @property
    def label(self) -> str:
        return f"vault_fields.IndexKey (pk={self.pk})"


class IndexKeyRows:
    """All index keys of the database ``using``."""

    def __init__(self, using: str) -> None:
        self.using = using

    def exist(self) -> bool:
        """Whether there is one; not where the application is not installed, or its table is missing."""
        if not apps.is_installed("vault_fields"):
            return False
        model = self._model
        if not router.allow_migrate_model(self.using, model):
            return False
        return has_table(connections[self.using], model._meta.db_table) and self._rows.exists()

    def count(self) -> int:
        found: int = self._rows.count()
        return found

    def batches(self, size: int) -> Iterator[list[IndexKeyRow]]:
        after = 0
        while batch := repeated(self.using, partial(self._read, self._rows.filter(pk__gt=after)[:size])):
            yield batch
            after = batch[-1].pk

    def write(self, changes: Sequence[tuple[IndexKeyRow, str]]) -> tuple[int, list[IndexKeyRow]]:
        """
        Give these rows their new companions, where nobody has written to them meanwhile. One transaction.

        Returns how many were written, and the others as they are now, without those that were deleted.
        """
        return repeated(self.using, partial(self._write, changes)) if changes else (0, [])

    def _write(self, changes: Sequence[tuple[IndexKeyRow, str]]) -> tuple[int, list[IndexKeyRow]]:
        with transaction.atomic(self.using, savepoint=False):
            locked = self._rows.filter(pk__in=[row.pk for row, _ in changes]).select_for_update()
            now = {row.pk: row for row in self._read(locked)}
            same = [(row, text) for row, text in changes if now.get(row.pk) == row]
            for row, text in same:
                self._rows.filter(pk=row.pk).update(companion=text)
                del now[row.pk]
        return len(same), list(now.values())

    @property
    def _model(self) -> Any:
        return apps.get_model("vault_fields", "IndexKey")

    @property
    def _rows(self) -> Any:
        return self._model._base_manager.using(self.using).order_by("pk")

    @staticmethod
    def _read(queryset: Any) -> list[IndexKeyRow]:
        return [IndexKeyRow(*row) for row in queryset.values_list(*IndexKeyRow._fields)]
