"""
Hooks that give Django's serializers the stored text of an encrypted field.

Two hooks, on Django's own classes. Every serializer runs in ``Serializer.serialize``: meanwhile fields answer with the
stored text, and companions count as fields to serialize. In ``_value_from_field`` the serializers of JSON, YAML and
Python objects ask for a value, and write numbers and booleans as they are. With a Django whose serializers do not have
them nothing is serialized: a fixture must not hold a value in the clear.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from django.core.serializers.base import Serializer
from django.core.serializers.python import Serializer as PythonSerializer

from vault_fields.patches import is_unknown, require_known_django, wrap

__all__ = ["install_serializing", "is_serialized", "is_serializing"]

# The names of the fields that the running serializer was asked for, () for all; None while none is running.
_names: ContextVar[tuple[str, ...] | None] = ContextVar("vault_fields_serialized", default=None)


def is_serializing() -> bool:
    """Whether one of Django's serializers is running here."""
    return _names.get() is not None


def is_serialized(name: str) -> bool:
    """Whether a running serializer takes this field too."""
    names = _names.get()
    return names is not None and (not names or name in names)


def install_serializing() -> None:
    """Wrap the methods, each once; refuse to serialize with a Django whose serializers are others."""
    wrap(Serializer, "serialize", _serialize)
    wrap(PythonSerializer, "_value_from_field", _value_from_field)
    if is_unknown(Serializer, "serialize") or is_unknown(PythonSerializer, "_value_from_field"):
        # It would write values in the clear.
        setattr(Serializer, "serialize", lambda *args, **kwargs: require_known_django())  # noqa: B010


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
