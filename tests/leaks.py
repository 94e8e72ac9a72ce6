"""What an exception carries with it: in the frames of its tracebacks, in itself, and in what it came from."""

import base64
import functools
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType, TracebackType
from typing import Any

PACKAGE = "vault_fields"
DEPTH = 6


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, its causes and contexts, also those that nobody is shown."""
    pending, seen = [error], set()
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        pending += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]


def our_frames(traceback: TracebackType | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and local variables of the frames of the package, and of all that it called but Django and the project."""
    is_called = False
    while traceback is not None:
        frame = traceback.tb_frame
        module = frame.f_globals.get("__name__", "")
        top = module.partition(".")[0]
        is_called = is_called or top == PACKAGE
        if is_called and (top not in {"django", "tests", "testproject"} or module == "django.views.decorators.debug"):
            yield f"{module}.{frame.f_code.co_name}:{traceback.tb_lineno}", frame.f_locals
        traceback = traceback.tb_next


def leaks(error: BaseException, secrets: Iterable[str | bytes]) -> list[str]:
    """Where any of the secrets stands. Asserts that the exception went through the package at all."""
    needles = tuple({needle for secret in secrets for needle in _spellings(secret)})
    found, frames = [], 0
    for each in chain(error):
        name = type(each).__name__
        found += [f"{name}: {text}" for text in (str(each), repr(each)) if any(n in text for n in needles)]
        found += [f"{name}.{key}" for key, value in vars(each).items() if holds(value, needles)]
        found += [f"{name}.args" for value in each.args if holds(value, needles)]
        for attribute in ("doc", "object"):  # Those of json and of codecs are no part of their arguments.
            if holds(getattr(each, attribute, None), needles):
                found.append(f"{name}.{attribute}")
        for place, variables in our_frames(each.__traceback__):
            frames += 1
            found += [f"{name} in {place}: {key}" for key, value in dict(variables).items() if holds(value, needles)]
    assert frames, "It did not go through the package."
    return found


def holds(value: Any, needles: tuple[str, ...], depth: int = DEPTH, seen: set[int] | None = None) -> bool:
    """Whether a value is one of these texts, has it in it, or shows it; looks into containers and our own objects."""
    seen = set() if seen is None else seen
    if id(value) in seen or depth < 0:
        return False
    seen.add(id(value))
    if isinstance(value, str):
        return any(needle in value for needle in needles)
    if isinstance(value, bytes | bytearray | memoryview):
        return any(needle in spelling for spelling in _spellings(bytes(value)) for needle in needles)
    if isinstance(value, int | float | type | None):
        return False
    return any(needle in _shown(value) for needle in needles) or any(
        holds(part, needles, depth - 1, seen) for part in _parts(value)
    )


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, FunctionType):
        return [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
    if type(value).__module__.partition(".")[0] == PACKAGE:
        slots = [slot for cls in type(value).__mro__ for slot in getattr(cls, "__slots__", ())]
        names = [*getattr(value, "__dict__", {}), *slots]
        return [object.__getattribute__(value, name) for name in names if _has(value, name)]
    return []


def _has(value: Any, name: str) -> bool:
    try:
        object.__getattribute__(value, name)
    except AttributeError:
        return False
    return True


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - that of a query set runs its query, which fails as the read did: nothing shows.
        return ""


def _spellings(secret: str | bytes) -> list[str]:
    if isinstance(secret, str):
        return [secret]
    return [secret.hex(), base64.b64encode(secret).decode(), repr(secret), secret.decode("latin-1")]
