"""
Tracebacks without secrets: they say where a call was, and hold nothing that it worked with.

Error trackers send the local variables of every frame in a traceback. Ours have plaintext, data keys and the keys of
Vaults in them, so the frames are emptied where the exception leaves the package. A frame that still runs cannot be
emptied; ``forgetful`` therefore wraps the functions that others call, and has nothing of its own.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Generator
from types import FunctionType, TracebackType
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["forget", "forgetful", "forgetful_class"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)
E = TypeVar("E", bound=BaseException)

_OURS = __name__.partition(".")[0]

# Modules that get secrets from us as arguments. The variables of the project and of Django stay: they explain the
# fault.
_CALLED = sys.stdlib_module_names | {
    "anyio",
    "asgiref",
    "boto3",
    "botocore",
    "cryptography",
    "h11",
    "httpcore",
    "httpx",
    "urllib3",
}
# One row's values, opened, and the loaders of the query with the keys of the others.
_CONVERTING = "django.db.models.sql.compiler", "apply_converters"


def forget(error: E) -> E:
    """Empty the frames of this package, and of what it called, in the tracebacks of an exception and its causes."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        _clear(each.__traceback__)
        if each.__suppress_context__:
            # Nobody shows it, and it may itself hold the text it is about, as errors of json and of codecs do.
            each.__context__ = None
        pending += each.__cause__, each.__context__
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions
    return error


def forgetful(function: Callable[P, R]) -> Callable[P, R]:
    """Empty every exception that leaves ``function`` of its arguments and results. For functions that others call."""
    wrapper: Any
    if inspect.iscoroutinefunction(function):

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return await function(*args, **kwargs)
            except BaseException as error:
                forget(error)
                del args, kwargs
                raise

    elif inspect.isgeneratorfunction(function):

        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            try:
                return (yield from function(*args, **kwargs))
            except BaseException as error:
                forget(error)
                del args, kwargs
                raise

    else:

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                forget(error)
                del args, kwargs
                raise

    functools.update_wrapper(wrapper, function)
    return cast("Callable[P, R]", wrapper)


def forgetful_class(cls: C) -> C:
    """Make all methods of a class forgetful that others call: those without an underscore, and the constructor."""
    for name, value in list(vars(cls).items()):
        if isinstance(value, FunctionType) and (name == "__init__" or not name.startswith("_")):
            setattr(cls, name, forgetful(value))
    return cls


def _clear(traceback: TracebackType | None) -> None:
    is_called = False
    while traceback is not None:
        frame = traceback.tb_frame
        module: str = frame.f_globals.get("__name__", "")
        top = module.partition(".")[0]
        if top == _OURS:
            is_called = True
        if top == _OURS or (is_called and (top in _CALLED or (module, frame.f_code.co_name) == _CONVERTING)):
            # A frame that still runs is left: its caller empties it, or it holds nothing.
            with contextlib.suppress(RuntimeError):
                frame.clear()
        traceback = traceback.tb_next
