"""The check of ``__str__`` and ``__repr__``: their text ends up in logs and in the admin's history."""

import dis
import functools
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from types import CodeType, FunctionType
from typing import Any

from django.core.checks import CheckMessage, Warning as CheckWarning
from django.db.models import Model
from django.utils.functional import cached_property

from vault_fields.fields.base import EncryptedField

__all__ = ["check_text"]

_SHOWN = {
    "__str__": "The admin stores what it returns in its log table, and exceptions and log messages repeat it",
    "__repr__": "Exceptions, debug pages and log messages repeat what it returns",
}

# Where one of these names is read, a text may be the name of an attribute.
_BY_NAME = {"attrgetter", "format", "format_map", "getattr"}


def check_text(model: type[Model]) -> Iterator[CheckMessage]:
    for method, where in _SHOWN.items():
        function = getattr(model, method)
        if any(getattr(parent, method) is function for parent in (*model._meta.all_parents, Model)):
            continue  # The message goes to the parent.
        fields = {field.label: field for field in _shown(model, function, set())}
        for field in fields.values():
            name = field.name if issubclass(model, field.model) else field.label
            yield CheckWarning(
                f"{method} seems to show the encrypted field {name!r}. {where}: there it stands in the clear.",
                hint="Name the row by something that is not secret, "
                "as in return f'{self._meta.verbose_name} {self.pk}'.",
                obj=model,
                id="vault_fields.W004",
            )


def _shown(model: type[Model], function: Any, seen: set[Any]) -> Iterator[EncryptedField]:
    """
    Yield the encrypted fields that a function of ``model`` seems to read, also through what it calls.

    This is a guess by the names of attributes, whatever object they belong to. So the result is a warning.
    """
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None or (model, code) in seen:
        return
    seen.add((model, code))
    names, steps = _read(code, function.__doc__)
    fields: dict[str, Any] = {field.name: field for field in model._meta.fields}
    for name in sorted(names):
        if isinstance(field := fields.get(name), EncryptedField):
            yield field
        for member in _members(model, name, overridden=name == function.__name__):
            yield from _shown(model, member, seen)
        helper = function.__globals__.get(name)
        if isinstance(helper, FunctionType) and helper.__module__ == function.__module__:
            yield from _shown(model, helper, seen)
    for relation, name in sorted(steps):
        related: Any = getattr(fields.get(relation), "related_model", None)
        # While a relation leads nowhere yet, this is the name of the model.
        if hasattr(related, "_meta"):
            yield from (field for field in related._meta.fields if _is_encrypted(field, name))
            for member in _members(related, name, overridden=False):
                yield from _shown(related, member, seen)


def _is_encrypted(field: Any, name: str) -> bool:
    return isinstance(field, EncryptedField) and field.name == name


def _read(code: CodeType, documentation: str | None) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the names that are read, and the pairs that are read one from the other, as in ``self.patient.name``."""
    names, texts = set(code.co_names), [each for each in code.co_consts if isinstance(each, str)]
    instructions = [each for each in dis.get_instructions(code) if each.opname not in {"CACHE", "EXTENDED_ARG"}]
    attributes = {"LOAD_ATTR", "LOAD_METHOD"}
    steps = {
        (str(first.argval), str(second.argval))
        for first, second in pairwise(instructions)
        if first.opname in attributes and second.opname in attributes
    }
    for inner in code.co_consts:
        if isinstance(inner, CodeType):  # A comprehension, a generator or a lambda.
            inner_names, inner_steps = _read(inner, None)
            names |= inner_names
            steps |= inner_steps
    if names & _BY_NAME:
        names |= {word for text in texts if text != documentation for word in re.findall(r"\w+", text)}
    return names, steps


def _members(model: type[Model], name: str, *, overridden: bool) -> Iterator[Any]:
    """Yield the functions behind a method or property; with ``overridden`` also those that super() finds."""
    found = [vars(cls)[name] for cls in model.__mro__ if name in vars(cls) and cls not in {Model, object}]
    for member in found if overridden else found[:1]:
        yield _function(member)


def _function(member: Any) -> Any:
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property | cached_property):
        return member.func
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member
