"""
What Django's serializers get of an encrypted field: what is stored.

Two hooks, on Django's own classes. ``Serializer.serialize`` is what every serializer runs in: meanwhile fields answer
with what is stored, and companions count as fields to serialize. ``_value_from_field`` is where the serializers of
JSON, YAML and Python objects ask for a value, and write numbers and booleans as they are. A Django whose serializers
do not have them is refused: a fixture must not hold a value in the clear.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.base import Serializer
from django.core.serializers.python import Serializer as PythonSerializer

from vault_fields.runtime.frames import forget

__all__ = ["install_serializing", "is_serialized", "is_serializing", "require_signature"]

_MARK = "_vault_fields_hook"

# The names of the fields that the running serializer was asked for, () for all; None while none is running.
_names: ContextVar[tuple[str, ...] | None] = ContextVar("vault_fields_serialized", default=None)


def is_serializing() -> bool:
    """Whether one of Django's serializers is at work here."""
    return _names.get() is not None


def is_serialized(name: str) -> bool:
    """Whether a running serializer takes this field too."""
    names = _names.get()
    return names is not None and (not names or name in names)


def install_serializing() -> None:
    """Wrap the methods, each once."""
    _wrap(Serializer, "serialize", ["self", "queryset"], _serialize)
    _wrap(PythonSerializer, "_value_from_field", ["self", "obj", "field"], _value_from_field)


def require_signature(cls: type, name: str, parameters: list[str]) -> Any:
    """The method of one of Django's classes, if it begins with the parameters that its hook knows."""
    method = getattr(cls, name, None)
    found = list(inspect.signature(method).parameters) if callable(method) else []
    if found[: len(parameters)] != parameters:
        raise ImproperlyConfigured(
            f"This release of vault_fields does not know Django {django.get_version()}: {cls.__module__}."
            f"{cls.__qualname__}.{name}({', '.join(parameters)}) is not there, and values would be written in the "
            "clear. Upgrade django-vault-fields, or use a Django that it supports."
        )
    return method


def _wrap(cls: type, name: str, parameters: list[str], hook: Callable[..., Any]) -> None:
    original = require_signature(cls, name, parameters)
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def hooked(*args: Any, **kwargs: Any) -> Any:
        try:
            return hook(original, *args, **kwargs)
        except BaseException as error:
            forget(error)
            del args, kwargs  # The rows, which may be called by their values.
            raise

    setattr(hooked, _MARK, True)
    setattr(cls, name, hooked)


def _serialize(
    original: Callable[..., Any],
    self: Any,
    queryset: Any,
    *args: Any,
    fields: Iterable[str] | None = None,
    **kwargs: Any,
) -> Any:
    fields = None if fields is None else list(fields)
    token = _names.set(tuple(fields or ()))
    try:
        return original(self, queryset, *args, fields=fields, **kwargs)
    finally:
        _names.reset(token)


def _value_from_field(original: Callable[..., Any], self: Any, obj: Any, field: Any) -> Any:
    return field.value_to_string(obj) if getattr(field, "is_encrypted", False) else original(self, obj, field)
