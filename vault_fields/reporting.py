"""
What error reports may show: Django's debug page and its mails to admins, and the events of Sentry.

The frames of this package are empty by then. Those of Django, and of the project, have what was passed to them.
"""

import copy
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any

from django.apps import apps
from django.db.models import Model, QuerySet, Value
from django.db.models.query import ModelIterable
from django.http import HttpRequest
from django.utils.tree import Node
from django.views.debug import SafeExceptionReporterFilter

from vault_fields.fields.base import EncryptedField
from vault_fields.fields.columns import EncryptedCol
from vault_fields.fields.groups import encrypted_fields
from vault_fields.fields.sealed import Opened, Pending, Sealed

__all__ = ["ReporterFilter", "before_send"]

HIDDEN = "********************"

# Of what is shorter every report is full.
_SHORTEST = 4
_DEEPEST = 16
# What values() gives is not in the frames: whoever shows such a queryset runs its query.
_ROWS_OF_VALUES = re.compile(r"<\w*QuerySet \[(?![<\]])")
_CREDENTIALS = re.compile(r"://[^/\s@]*@")


class ReporterFilter(SafeExceptionReporterFilter):
    """
    For ``DEFAULT_EXCEPTION_REPORTER_FILTER``: Django's, which also hides the values of encrypted fields.

    Hidden are, with ``DEBUG`` too: what stands under the name of an encrypted field, in variables, dicts and forms;
    what stands beside such a field in a frame of Django's; the values of rows wherever they appear; querysets of
    ``values()`` and ``values_list()``; and URLs with credentials in them, in settings and in the environment.
    """

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        if isinstance(cleansed, str) and _CREDENTIALS.search(cleansed):
            return self.cleansed_substitute
        return cleansed

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        parameters: Any = super().get_post_parameters(request)
        hider = _Hider(())
        hidden = [name for name in parameters if hider.is_named(name)]
        if hidden:
            parameters = parameters.copy()
            for name in hidden:
                parameters[name] = self.cleansed_substitute
        return parameters

    def get_traceback_frame_variables(self, request: Any, tb_frame: FrameType) -> Any:
        variables = dict(super().get_traceback_frame_variables(request, tb_frame))
        hider = _Hider([tb_frame.f_locals, *_variables(sys.exception())])
        return hider.mapping(variables, beside=_has_field(tb_frame.f_locals.values())).items()


def before_send(event: Any, hint: Mapping[str, Any]) -> Any:
    """
    For ``sentry_sdk.init(before_send=…)``: the event without the values of encrypted fields.

    The variables of Django's own frames, and of this package's, are left out.
    """
    error = (hint.get("exc_info") or (None, None))[1]
    hider = _Hider(_variables(error))
    for each in event.get("exception", {}).get("values", ()):
        for frame in (each.get("stacktrace") or {}).get("frames", ()):
            if (frame.get("module") or "").partition(".")[0] in {"django", "vault_fields"}:
                frame.pop("vars", None)
            elif "vars" in frame:
                frame["vars"] = hider.value(frame["vars"])
    for holder, name in ((event.get("request", {}), "data"), (event, "extra")):
        if name in holder:
            holder[name] = hider.value(holder[name])
    # Elsewhere names are those of Sentry, and a field may be called like one of them.
    return hider.without_names().value(event)


class _Hider:
    """Knows the names of all encrypted fields, and the values that are found in some frames."""

    def __init__(self, frames: Iterable[Mapping[str, Any]]) -> None:
        self._names = {
            name
            for model in apps.get_models()
            for field in encrypted_fields(model)
            for name in (field.name, field.attname)
        }
        self._texts = {text for variables in frames for text in self._found(variables, _DEEPEST)}

    def without_names(self) -> "_Hider":
        """One that knows the values only."""
        hider = copy.copy(self)
        hider._names = set()
        return hider

    def is_named(self, name: object) -> bool:
        """Whether this is the name of an encrypted field, in a form with a prefix or a lookup too."""
        return isinstance(name, str) and name.rpartition("-")[2].partition("__")[0] in self._names

    def mapping(self, variables: Mapping[Any, Any], *, beside: bool = False, depth: int = _DEEPEST) -> dict[Any, Any]:
        return {
            self.value(name, depth): HIDDEN
            if self.is_named(name) or (beside and not isinstance(value, Model | EncryptedField))
            else self.value(value, depth)
            for name, value in variables.items()
        }

    def value(self, value: Any, depth: int = _DEEPEST) -> Any:
        if depth == 0:
            return HIDDEN
        if isinstance(value, dict):
            return self.mapping(value, depth=depth - 1)
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(value, depth - 1)
        if isinstance(value, Node):
            # Conditions of a query, which are pairs of names and values.
            children = self._sequence(value.children, depth - 1)
            return value if children == value.children else HIDDEN
        return HIDDEN if self._shows(value) else value

    def _sequence(self, parts: Any, depth: int) -> Any:
        is_pair = isinstance(parts, tuple) and len(parts) == 2 and self.is_named(parts[0])
        if is_pair or _has_field(parts):
            return (parts[0], HIDDEN) if is_pair else HIDDEN
        hidden = [self.value(part, depth) for part in parts]
        return hidden if isinstance(parts, list) else tuple(hidden) if isinstance(parts, tuple) else set(hidden)

    def _shows(self, value: Any) -> bool:
        if isinstance(value, QuerySet):
            return not issubclass(value._iterable_class, ModelIterable)
        if isinstance(value, str) and _ROWS_OF_VALUES.search(value):
            return True
        if isinstance(value, Sealed | Pending | Opened | Model) or not self._texts:
            return False
        try:
            shown = value if isinstance(value, str) else repr(value)
        except Exception:  # noqa: BLE001 - a project's own. What it would show is not known, nor what its error says.
            return True
        return any(text in shown for text in self._texts)

    def _found(self, value: Any, depth: int) -> Iterator[str]:
        """The texts of encrypted values: of rows, and under the names of fields."""
        if depth == 0:
            return
        if isinstance(value, Model):
            for name in self._names & vars(value).keys():
                yield from _texts(vars(value)[name])
        elif isinstance(value, Mapping):
            for name, each in list(value.items()):
                yield from _texts(each) if self.is_named(name) else self._found(each, depth - 1)
        elif isinstance(value, list | tuple | set | frozenset):
            for each in value:
                yield from self._found(each, depth - 1)


def _texts(held: Any) -> Iterator[str]:
    if isinstance(held, Pending | Value):
        held = held.value
    elif isinstance(held, Sealed):
        held = held.opened.value if held.opened is not None else None
    if isinstance(held, str):
        if len(held) >= _SHORTEST:
            yield held
    elif isinstance(held, Mapping):
        for each in held.values():
            yield from _texts(each)
    elif isinstance(held, list | tuple | set | frozenset):
        for each in held:
            yield from _texts(each)


def _has_field(values: Iterable[Any]) -> bool:
    return any(isinstance(value, EncryptedField | EncryptedCol) for value in values)


def _variables(error: BaseException | None) -> Iterator[Mapping[str, Any]]:
    """The local variables of all frames of an exception, and of what it came from."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        pending += each.__cause__, each.__context__
        traceback: TracebackType | None = each.__traceback__
        while traceback is not None:
            yield traceback.tb_frame.f_locals
            traceback = traceback.tb_next
