"""Attributes that the library reads for itself, whatever fetch mode (Django 6.1) the caller's query has."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import Model

__all__ = ["fetched", "unblocked"]


@contextmanager
def unblocked(instance: Model) -> Iterator[None]:
    """
    Let what is deferred be fetched. ``FETCH_RAISE`` is about what the caller reads: whoever has a value may open it.

    Where peers are fetched together, they still are.
    """
    state: Any = instance._state
    mode = getattr(state, "fetch_mode", None)
    if mode is None or mode.track_peers:
        yield
        return
    from django.db.models import FETCH_ONE  # Not there before Django 6.1.

    state.fetch_mode = FETCH_ONE
    try:
        yield
    finally:
        state.fetch_mode = mode


def fetched(instance: Model, name: str) -> Any:
    """An attribute of an instance; a relation that is fetched for it has the caller's fetch mode."""
    state: Any = instance._state
    is_cached = name in state.fields_cache
    with unblocked(instance):
        value = getattr(instance, name)
    if isinstance(value, Model) and not is_cached and hasattr(state, "fetch_mode"):
        value._state.fetch_mode = state.fetch_mode
    return value
