"""Filtered events of Sentry."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from vault_fields.reporting.finding import frames_of
from vault_fields.reporting.hiding import HIDDEN, Hider

__all__ = ["before_send"]

# The variables of these frames do not help the project.
_LEFT_OUT = {"django", "vault_fields"}
# This frame calls us, and holds the event itself.
_CALLERS = {"sentry_sdk", "vault_fields"}
# Parts of Sentry's own: they have names of their own, and a field may have the same name as one of them.
_CONTEXTS = {
    "app",
    "browser",
    "cloud_resource",
    "culture",
    "device",
    "gpu",
    "os",
    "otel",
    "profile",
    "runtime",
    "trace",
}
_KEPT = {
    "environment",
    "event_id",
    "level",
    "modules",
    "platform",
    "release",
    "sdk",
    "start_timestamp",
    "timestamp",
    "type",
}
# As deep as Sentry goes.
_DEEPEST, _WIDEST, _LONGEST = 5, 10, 1024


def before_send(event: Any, hint: Mapping[str, Any]) -> Any:
    """
    Return the event without the values of encrypted fields, for ``sentry_sdk.init(before_send=…)``.

    The variables of Django's own frames, and of this package's, are left out. Those of other frames are read from the
    frames themselves, and not from Sentry's text: the frames are those of the exception, or still run.
    """
    error = (hint.get("exc_info") or (None, None))[1]
    failed, running = [*frames_of(error)], [*_running(sys._getframe(1))]
    hider = Hider((frame.f_locals for frame, _ in failed), event, (frame.f_locals for frame, _ in running))
    places: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for frame, line in [*failed, *running]:
        places.setdefault((str(Path(frame.f_code.co_filename).absolute()), line), []).append(frame.f_locals)
    for shown in _frames_in(event):
        if (shown.get("module") or "").partition(".")[0] in _LEFT_OUT:
            shown.pop("vars", None)
        elif shown.get("vars"):
            held = places.get((shown.get("abs_path") or "", shown.get("lineno") or 0), [])
            shown["vars"] = {name: _variable(hider, name, each, held) for name, each in shown["vars"].items()}
    _hide_names(hider, event)
    values_only = hider.without_names()
    for name in event.keys() - _KEPT:
        event[name] = values_only.value(event[name])
    return event


def _running(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _CALLERS:
            yield frame, frame.f_lineno
        frame = frame.f_back


def _frames_in(event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the frames of every stack trace: of exceptions, of members of groups, of threads, and of a message."""
    holders: list[Mapping[str, Any]] = [event, *_values(event.get("exception")), *_values(event.get("threads"))]
    for holder in holders:
        for name in ("stacktrace", "raw_stacktrace"):
            yield from (holder.get(name) or {}).get("frames") or ()


def _values(part: Any) -> Iterable[Any]:
    """Return the values of Sentry's lists, and of its lists that are called "values"."""
    values = part.get("values") if isinstance(part, Mapping) else part
    return [each for each in values or () if isinstance(each, Mapping)]


def _variable(hider: Hider, name: str, shown: Any, held: list[Mapping[str, Any]]) -> Any:
    if hider.is_named(name):
        return HIDDEN
    found = [hider.cleaned(variables[name]) for variables in held if name in variables]
    if not any(is_hidden for _, is_hidden in found):
        return hider.value(shown)
    # If a function called itself, the frames cannot be told apart.
    return _spelled(found[0][0]) if len(found) == 1 else HIDDEN


def _spelled(value: Any, depth: int = _DEEPEST) -> Any:
    """Return a value as Sentry writes it: dicts and lists down to some depth, and texts of the rest."""
    if depth and isinstance(value, Mapping):
        return {str(name): _spelled(each, depth - 1) for name, each in list(value.items())[:_WIDEST]}
    if depth and isinstance(value, list | tuple):
        return [_spelled(each, depth - 1) for each in value[:_WIDEST]]
    return value if value == HIDDEN else repr(value)[:_LONGEST]


def _hide_names(hider: Hider, event: dict[str, Any]) -> None:
    request = event.get("request") or {}
    if isinstance(request.get("query_string"), list):
        request["query_string"] = [tuple(each) for each in request["query_string"]]
    places: list[tuple[Any, str]] = [
        (event, "extra"),
        (event, "tags"),
        (event, "user"),
        (event.get("logentry") or {}, "params"),
    ]
    places += [(request, name) for name in ("cookies", "data", "query_string")]
    for name, context in (event.get("contexts") or {}).items():
        if name not in _CONTEXTS:
            places.append((event["contexts"], name))
            if hider.is_named(name):
                event["contexts"][name] = dict.fromkeys(context or (), HIDDEN)
        elif isinstance(context, Mapping):
            places.append((context, "data"))
    places += [(each, "data") for part in ("breadcrumbs", "spans") for each in _values(event.get(part))]
    for holder, name in places:
        if holder.get(name):
            holder[name] = hider.value(holder[name])
