"""The hider, which takes the values of encrypted fields out of what a report is about to show."""

import copy
import re
from collections import UserList, deque
from collections.abc import ItemsView, Iterable, KeysView, Mapping, ValuesView
from types import SimpleNamespace
from typing import Any

from django.apps import apps
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable
from django.utils.functional import LazyObject
from django.utils.tree import Node

from vault_fields.fields.attempts import Attempt
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.columns import EncryptedCol
from vault_fields.fields.sealed import Opened, Pending, Sealed
from vault_fields.reporting.finding import (
    Found,
    attributes,
    evaluated,
    is_named,
    items,
    may_show_values,
    names_of_fields,
)

__all__ = ["HIDDEN", "Hider", "has_field"]

HIDDEN = "********************"

_DEEPEST = 16
# As many as Django shows of a queryset.
_ROWS = 20
# The values of values() are not in the frames: showing such a queryset runs its query.
_ROWS_OF_VALUES = re.compile(r"<\w*QuerySet \[(?![<\]])")
_NOTHING_SHOWN: Any = object.__repr__
_SEQUENCES: Any = (list, tuple, set, frozenset, deque, UserList, KeysView, ValuesView, ItemsView)
# Dataclasses, pydantic, attrs, msgspec: they show what they hold.
_RECORDS = ("__dataclass_fields__", "__pydantic_fields__", "__fields__", "__attrs_attrs__", "__struct_fields__")


class _Shown:
    """A text that shows without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Hider:
    """A filter that knows the names of all encrypted fields, and the values found in some variables."""

    def __init__(
        self, frames: Iterable[Mapping[str, Any]], report: Any = None, running: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self._names = names_of_fields()
        self._found = Found(self._names, frames, report, running)
        self._parameters = re.compile(
            rf"(^|[?&])((?:\w+-)*(?:{'|'.join(map(re.escape, sorted(self._names)))})(?:__\w+)?=)[^&#\s'\"]+"
        )
        self._rows = re.compile(rf"<(?:{'|'.join(_rows_of())}): (?!\d+>|\w+ object \(|not loaded>)")
        self._hidden = 0

    def without_names(self) -> "Hider":
        """Return a hider that knows only the values."""
        hider = copy.copy(self)
        hider._names = set()
        return hider

    def is_named(self, name: object) -> bool:
        return is_named(name, self._names)

    def mapping(self, variables: Mapping[Any, Any], *, beside: bool = False, depth: int = _DEEPEST) -> dict[Any, Any]:
        return {
            self.value(name, depth): self._hide()
            if self.is_named(name) or (beside and not issubclass(type(value), Model | EncryptedField))
            else self.value(value, depth)
            for name, value in items(variables)
        }

    def cleaned(self, value: Any) -> tuple[Any, bool]:
        """Return the part of a value that may be shown, and whether that is less than all of it."""
        before = self._hidden
        return self.value(value), self._hidden > before

    def value(self, value: Any, depth: int = _DEEPEST) -> Any:
        """Return the part of a value that may be shown: the value itself, if nothing of it is hidden."""
        if depth == 0:
            return self._hide()
        before, held = self._hidden, evaluated(value)
        cleaned = self._cleaned(held, depth - 1)
        return value if self._hidden == before else cleaned

    def _cleaned(self, value: Any, depth: int) -> Any:
        if issubclass(type(value), LazyObject):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Model) and may_show_values(type(value)):
            return self._hide(f"<{type(value).__name__}: {value.pk}>")
        if isinstance(value, QuerySet):
            return self._queryset(value)
        if isinstance(value, Mapping):
            return self.mapping(value, depth=depth)
        if isinstance(value, _SEQUENCES):
            return self._sequence(value, depth)
        if isinstance(value, Node):
            # Conditions of a query, which are pairs of names and values.
            before = self._hidden
            self._sequence(value.children, depth)
            return value if self._hidden == before else HIDDEN
        return self._object(value, depth)

    def _hide(self, shown: str | None = None) -> Any:
        self._hidden += 1
        return HIDDEN if shown is None else _Shown(shown)

    def _text(self, text: str) -> str:
        if _ROWS_OF_VALUES.search(text) or self._rows.search(text) or self._found.stand_in(text):
            self._hidden += 1
            return HIDDEN
        text, count = self._parameters.subn(rf"\1\2{HIDDEN}", text)
        self._hidden += count
        return text

    def _sequence(self, parts: Any, depth: int) -> Any:
        is_pair = isinstance(parts, tuple) and len(parts) == 2 and self.is_named(parts[0])
        if is_pair or has_field(parts):
            return (parts[0], self._hide()) if is_pair else self._hide()
        names = getattr(parts, "_fields", None)
        if isinstance(parts, tuple) and names:
            return self._hide_record(parts, dict(zip(names, parts, strict=False)), depth)
        hidden = [self.value(part, depth) for part in parts]
        for kind in (tuple, set, frozenset):
            if isinstance(parts, kind):
                return kind(hidden)
        return hidden

    def _queryset(self, rows: QuerySet[Any]) -> Any:
        if not issubclass(rows._iterable_class, ModelIterable):
            return self._hide()
        if not may_show_values(rows.model):
            return rows
        if rows._result_cache is None:
            return self._hide(f"<{type(rows).__name__} [<{rows.model.__name__}: not loaded>]>")
        shown = [repr(self.value(row)) for row in rows._result_cache[:_ROWS]]
        more = ["..."] if len(rows._result_cache) > _ROWS else []
        return self._hide(f"<{type(rows).__name__} [{', '.join(shown + more)}]>")

    def _object(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if isinstance(value, Sealed | Pending | Opened | Attempt) or kind.__repr__ is _NOTHING_SHOWN:
            return value
        if self._found.are(value):
            return self._hide()
        if any(hasattr(kind, mark) for mark in _RECORDS) or isinstance(value, SimpleNamespace):
            return self._hide_record(value, attributes(value), depth)
        return self._hide_shown(value)

    def _hide_record(self, value: Any, held: Mapping[str, Any], depth: int) -> Any:
        before = self._hidden
        self.mapping(held, depth=depth)
        # Other contents of it may not show at all.
        return self._hide_shown(value) if self._hidden == before else _Shown(f"<{type(value).__name__}: {HIDDEN}>")

    def _hide_shown(self, value: Any) -> Any:
        try:
            shown = repr(value)
        except Exception:  # noqa: BLE001 - a project's own. What it would show is not known, nor what its error says.
            return self._hide()
        before = self._hidden
        text = self._text(shown)
        return value if self._hidden == before else text if text == HIDDEN else _Shown(text)


def has_field(values: Iterable[Any]) -> bool:
    return any(issubclass(type(value), EncryptedField | EncryptedCol) for value in values)


def _rows_of() -> list[str]:
    return sorted({model.__name__ for model in apps.get_models() if may_show_values(model)})
