"""The values of encrypted fields that some frames hold, and how a report may spell them."""

import html
import json
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from types import FrameType, FunctionType, MemberDescriptorType, ModuleType, SimpleNamespace, TracebackType
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

from django.apps import apps
from django.db.models import Model, QuerySet, Value
from django.forms import BaseForm
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

from vault_fields.fields.attempts import Attempt
from vault_fields.fields.groups import encrypted_fields
from vault_fields.fields.sealed import Pending, Sealed

__all__ = ["Found", "attributes", "evaluated", "frames_of", "is_named", "items", "may_show_values", "names_of_fields"]

# Shorter texts occur everywhere in a report.
_SHORTEST = 4
# A report may cut a text off; this many characters identify it.
_LONGEST = 100
_DEEPEST = 16
# From a variable over the attributes of objects: enough to reach the row of a form of a view.
_ATTRIBUTES = 3
# A report must not take minutes where a frame holds everything that a process has. The nearest objects come first.
_MOST = 20_000
_PLAIN = str | bytes | int | float | None | type | ModuleType | FunctionType
_MACHINERY = sys.stdlib_module_names | {"django", "sentry_sdk", "vault_fields"}
_EXACT = int | float | Decimal | date | time | UUID


def _is_machinery(kind: type) -> bool:
    """Whether such objects lead everywhere, and only to values that are found on shorter ways."""
    top = kind.__module__.partition(".")[0]
    return top in _MACHINERY and not issubclass(kind, BaseForm | HttpRequest | SimpleNamespace | BaseException)


def names_of_fields() -> set[str]:
    return {
        name for model in apps.get_models() for field in encrypted_fields(model) for name in (field.name, field.attname)
    }


def is_named(name: object, names: Collection[str]) -> bool:
    """Whether this is the name of an encrypted field, also with a form's prefix, with a lookup, or private."""
    return isinstance(name, str) and name.rpartition("-")[2].lstrip("_").partition("__")[0] in names


def may_show_values(model: type[Model], seen: frozenset[type[Model]] = frozenset()) -> bool:
    """Whether ``__str__`` can reach encrypted values: those of the row, or of a row that its foreign keys lead to."""
    if next(iter(encrypted_fields(model)), None) is not None:
        return True
    related = {field.related_model for field in model._meta.concrete_fields if field.is_relation}
    seen |= {model}
    return any(isinstance(each, type) and each not in seen and may_show_values(each, seen) for each in related)


def evaluated(value: Any) -> Any:
    """Return the object behind a lazy object, if it is known already. Nothing is evaluated to be shown."""
    while issubclass(type(value), LazyObject) and value._wrapped is not empty:
        value = value._wrapped
    return value


def items(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Return the items of a mapping; with all values of a name where it has several, as forms have."""
    return list(dict.items(value) if isinstance(value, dict) else value.items())


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object. No property is evaluated."""
    held = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        for name, member in vars(cls).items():
            if isinstance(member, MemberDescriptorType):
                with suppress(AttributeError):
                    held[name] = member.__get__(value)
    return held


def frames_of(error: BaseException | None) -> Iterator[tuple[FrameType, int]]:
    """Yield all frames of an exception, of its causes, and of the members of a group, each with its line."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        pending += each.__cause__, each.__context__
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions
        traceback: TracebackType | None = each.__traceback__
        while traceback is not None:
            yield traceback.tb_frame, traceback.tb_lineno
            traceback = traceback.tb_next


class Found:
    """
    The values of rows, and the values under names of fields, in some variables. The report itself is not searched.
    """

    def __init__(
        self,
        names: Collection[str],
        frames: Iterable[Mapping[str, Any]],
        report: Any = None,
        running: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._names = names
        self._texts: set[str] = set()
        self._exact: set[Any] = set()
        # The nearest first, so that each is seen while most of the depth is left. They are kept alive: ids are reused.
        self._seen: dict[int, Any] = {id(report): report}
        self._pending: deque[tuple[Any, int, int]] = deque()
        self._look(frames, _MOST)
        # Of frames that still run, the first are the nearest, and the last are the server's.
        most = len(self._seen) + _MOST
        for variables in running:
            self._look([variables], most)
        self._needles = tuple({needle for text in self._texts for needle in _spellings(text[:_LONGEST])})
        self._seen.clear()

    def _look(self, frames: Iterable[Mapping[str, Any]], most: int) -> None:
        self._pending.extend((variables, _DEEPEST, _ATTRIBUTES) for variables in frames)
        while self._pending and len(self._seen) < most:
            self._visit(*self._pending.popleft())
        self._pending.clear()

    def stand_in(self, shown: str) -> bool:
        return any(needle in shown for needle in self._needles)

    def are(self, value: Any) -> bool:
        """Whether it is a number, or another value that is not a text, taken from an encrypted one."""
        return isinstance(value, _EXACT) and not isinstance(value, bool) and value in self._exact

    def _visit(self, value: Any, depth: int, deep: int) -> None:
        value = evaluated(value)
        if depth == 0 or issubclass(type(value), _PLAIN | LazyObject) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Attempt):
            self._take(attributes(value)["_value"])
        elif isinstance(value, Model):
            self._visit_row(value, depth, deep)
        elif isinstance(value, QuerySet):
            self._pending.append((value._result_cache, depth - 1, deep))
        elif isinstance(value, Mapping):
            self._visit_names(items(value), depth, deep)
        elif isinstance(value, list | tuple | set | frozenset | deque):
            if isinstance(value, tuple) and len(value) == 2 and is_named(value[0], self._names):
                self._take(value[1])
            self._visit_names(zip(getattr(value, "_fields", range(len(value))), value, strict=False), depth, deep)
        elif deep and not _is_machinery(type(value)):
            self._visit_names(attributes(value).items(), depth, deep - 1)

    def _visit_names(self, pairs: Iterable[tuple[Any, Any]], depth: int, deep: int) -> None:
        for name, each in pairs:
            if is_named(name, self._names):
                self._take(each)
            self._pending.append((each, depth - 1, deep))

    def _visit_row(self, row: Model, depth: int, deep: int) -> None:
        columns = {field.attname for field in row._meta.concrete_fields} if may_show_values(type(row)) else None
        for name, held in list(vars(row).items()):
            # A value that is no column was annotated, and may be a column under another name.
            if name in self._names or (columns is not None and name not in columns and not name.startswith("_")):
                self._take(held)
        for cache in (row._state.fields_cache, vars(row).get("_prefetched_objects_cache")):
            self._pending.append((cache, depth - 1, deep))

    def _take(self, held: Any) -> None:
        pending = [held]
        while pending:
            each = evaluated(pending.pop())
            if issubclass(type(each), LazyObject):
                continue
            if isinstance(each, Pending | Value):
                pending.append(each.value)
            elif isinstance(each, Sealed):
                pending.append(each.opened.value if each.opened is not None else None)
            elif isinstance(each, str):
                if len(each.strip("*")) >= _SHORTEST:  # A value that is hidden already is not looked for.
                    self._texts.add(each)
            elif isinstance(each, _EXACT):
                if not isinstance(each, int | float | Decimal) or abs(each) >= 10 ** (_SHORTEST - 1):
                    self._exact.add(each)
            elif isinstance(each, Mapping | list | tuple | set | frozenset) and id(each) not in self._seen:
                self._seen[id(each)] = each
                pending += [part for _, part in items(each)] if isinstance(each, Mapping) else each


def _spellings(text: str) -> Iterator[str]:
    """
    Yield a text as it is, and as it stands within the ``repr`` of a text or of its holder, in JSON, HTML and a URL.
    """
    bare = text.encode("utf-8", "surrogatepass")
    for form in {
        text,
        html.escape(text),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        quote(bare),
        quote_plus(bare),
    }:
        yield form
        # Which quotes are escaped depends on the text around them.
        escaped = repr("'\"" + form)[4:-1]
        yield escaped
        yield escaped.replace("\\'", "'")
