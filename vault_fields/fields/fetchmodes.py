"""Attributes that the library reads for itself, in whatever fetch mode (Django 6.1) the caller's query has."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models
from django.db.models import Model

__all__ = ["fetched", "unblocked"]

# The mode of every query that is not told otherwise; None before Django 6.1, where instances have none either.
_FETCH_ONE = getattr(models, "FETCH_ONE", None)


@contextmanager
def unblocked(instance: Model) -> Iterator[None]:
    """
    Allow deferred attributes to be fetched. ``FETCH_RAISE`` concerns the caller's reads: anyone with a value may open
    it.

    Where peers are fetched together, they still are.
    """
    state: Any = instance._state
    mode = getattr(state, "fetch_mode", None)
    if _may_fetch(mode):
        yield
        return
    state.fetch_mode = _FETCH_ONE
    try:
        yield
    finally:
        state.fetch_mode = mode


def fetched(instance: Model, name: str) -> Any:
    """Return an attribute of an instance; a relation that is fetched for it has the caller's fetch mode."""
    state: Any = instance._state
    is_cached = name in state.fields_cache
    if _may_fetch(getattr(state, "fetch_mode", None)):
        value = getattr(instance, name)
    else:
        with unblocked(instance):
            value = getattr(instance, name)
    if isinstance(value, Model) and not is_cached and hasattr(state, "fetch_mode"):
        value._state.fetch_mode = state.fetch_mode
    return value


def _may_fetch(mode: Any) -> bool:
    return mode is None or mode is _FETCH_ONE or bool(mode.track_peers)
