"""Rows whose ``__str__`` reads a value that does not open: the pages of the admin name them all the same."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from django.apps import apps
from django.db.models import Model

from vault_fields.admin.reasons import ERRORS
from vault_fields.fields.groups import all_groups_of
from vault_fields.patches import wrap

__all__ = ["naming_rows", "strictly"]

_MARK = "_vault_fields_name_hook"

_is_naming: ContextVar[bool] = ContextVar("vault_fields_is_naming", default=False)


def naming_rows() -> AbstractContextManager[None]:
    """
    Let ``str(row)`` be Django's own "Patient object (1)" where ``__str__`` of the model reads a value that does not
    open.

    Titles, links, messages and the log call ``str`` deep inside Django. Attributes still read as everywhere else.
    """
    _hook_names()
    return _set(is_naming=True)


def strictly() -> AbstractContextManager[None]:
    """Let ``str(row)`` fail again within the block, where the caller reports the reason, or may store the text."""
    return _set(is_naming=False)


@contextmanager
def _set(*, is_naming: bool) -> Iterator[None]:
    token = _is_naming.set(is_naming)
    try:
        yield
    finally:
        _is_naming.reset(token)


@functools.cache
def _hook_names() -> None:
    for model in _models_that_may_read():
        if model.__str__ is not Model.__str__:
            wrap(model, "__str__", _str, mark=_MARK)


def _str(original: Callable[[Model], str], self: Model) -> str:
    if not _is_naming.get():
        return original(self)
    try:
        return original(self)
    except ERRORS:
        return Model.__str__(self)


def _models_that_may_read() -> list[type[Model]]:
    """Return the models with encrypted fields, and those related to them over any number of rows."""
    models = set(apps.get_models(include_auto_created=True))
    found = {model for model in models if all_groups_of(model)}
    while True:
        more = {model for model in models - found if found & set(_targets(model))}
        if not more:
            return sorted(found, key=lambda model: len(model.__mro__))
        found |= more


def _targets(model: type[Model]) -> list[Any]:
    return [field.related_model for field in model._meta.get_fields() if field.is_relation]
