"""The ends of the relation paths of a key context, as they are now, for rows that were read together."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.db.models.constants import LOOKUP_SEP

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.bindings import Binding
from vault_fields.fields.context import follow
from vault_fields.fields.groups import Group

__all__ = ["PathEnds"]


class PathEnds:
    """
    Ends of paths for the rows of one query. The database is asked once for each path, when the first row needs it.

    ``rows`` are the values of the columns that the group's context starts from, in the order of ``group.bindings``.
    """

    def __init__(self, group: Group, using: str | None, rows: Iterable[tuple[Any, ...]] = ()) -> None:
        self._group = group
        self._using = using
        self._rows = rows
        self._ends: dict[str, dict[str | None, str | None]] = {}

    def lead_to(self, name: str, root: str | None, end: str | None) -> bool:
        """Whether the path of the item ``name`` is one over relations that leads from ``root`` to ``end``."""
        path = self._group.source.paths.get(name, "")
        if LOOKUP_SEP not in path or root is None or end is None:
            return False
        ends = self._ends.setdefault(name, {})
        if root not in ends:
            ends |= self._ask(name, path, root)
        return ends[root] == end

    def _ask(self, name: str, path: str, root: str) -> dict[str | None, str | None]:
        position, binding = next(each for each in enumerate(self._group.bindings) if each[1].name == name)
        try:
            binding.text(root)
        except KeyContextError:
            return {root: None}  # The column does not accept the value, so there is no such row.
        ends: dict[str | None, str | None] = dict.fromkeys({root, *self._roots(position, binding)})
        field: Any = binding.field
        rest = path.partition(LOOKUP_SEP)[2]
        target = field.target_field.attname
        related = field.related_model._base_manager.using(self._using)
        if relations := rest.rpartition(LOOKUP_SEP)[0]:
            related = related.select_related(relations)
        for row in related.filter(**{f"{target}__in": [key for key in ends if key is not None]}):
            try:
                ends[binding.text(getattr(row, target))] = follow(row, rest)
            except KeyContextError:
                continue  # The path leads nowhere from there.
        return ends

    def _roots(self, position: int, binding: Binding) -> Iterable[str | None]:
        for row in self._rows:
            with suppress(KeyContextError):  # Its own value reports that, if it is read.
                yield binding.text(row[position])
