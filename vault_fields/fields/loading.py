"""
Instances of rows, made without assigning each column by itself.

``Model.from_db`` calls the constructor, which assigns one attribute after the other; those of encrypted fields have to
look at what is assigned, and at what was there before. A row of the database needs none of that. Where a model leaves
the making of its instances to Django, its columns are put where the constructor would have put them.
"""

from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import django
from django.db.models import Field, Model
from django.db.models.base import ModelState
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import post_init, pre_init

from vault_fields.fields.sealed import Sealed
from vault_fields.patches import CONSTRUCTORS

__all__ = ["PutAsLoaded", "install_loading"]

_DJANGOS = "django.db.models.base"

_MARK = "_vault_fields_loading"


class PutAsLoaded(DeferredAttribute):
    """The attribute of a column that is held in an instance's ``__dict__`` as the database gave it."""


def install_loading(cls: type[Model]) -> None:
    """Let a model that leaves ``from_db`` to Django make its instances here."""
    original: Any = cls.from_db
    if django.VERSION[:2] in CONSTRUCTORS and _is_djangos(original.__func__, "Model.from_db"):
        cls.from_db = classmethod(_from_db_of(cls))  # type: ignore[assignment]


def _from_db_of(owner: type[Model]) -> Callable[..., Model]:
    """Return the ``from_db`` of one class, for it and the classes that inherit from it."""

    def from_db(cls: type[Model], /, db: str | None, field_names: Any, values: Sequence[Any], **options: Any) -> Model:
        try:
            columns = _columns[cls]
        except KeyError:
            columns = _columns[cls] = _loadable_columns(cls, owner)
        if (
            columns is None
            or columns.constructor is not cls.__init__
            or not len(columns.names) == len(values) == len(field_names)
            or _is_listened_to(cls)
        ):
            return _next(cls, owner)(cls, db, field_names, values, **options)
        for position in columns.encrypted:
            value = values[position]
            if value is not None and (value.__class__ is not Sealed or value.keys is None):
                # It did not come from a query that selected its companion, or from no query.
                return _next(cls, owner)(cls, db, field_names, values, **options)
        instance = cls.__new__(cls)
        data = instance.__dict__
        state: Any = ModelState()
        data["_state"] = state
        data.update(zip(columns.names, values))  # noqa: B905 - they are as many.
        state.adding = False
        state.db = db
        if (mode := options.get("fetch_mode")) is not None:
            state.fetch_mode = mode  # Since Django 6.1.
        return instance

    setattr(from_db, _MARK, True)
    return from_db


def _next(cls: type[Model], owner: type[Model]) -> Callable[..., Model]:
    """Return the ``from_db`` that ``super()`` would find from ``owner``: a mixin's, or Django's."""
    return next(_methods_behind(cls, owner))


def _methods_behind(cls: type[Model], owner: type[Model]) -> Iterator[Callable[..., Model]]:
    behind = cls.__mro__[cls.__mro__.index(owner) + 1 :]
    return (vars(each)["from_db"].__func__ for each in behind if "from_db" in vars(each))


class _Columns(NamedTuple):
    """The attributes of a model's columns, and which of them are encrypted, by their places."""

    names: tuple[str, ...]
    encrypted: tuple[int, ...]
    # The constructor that was looked at. Another package may wrap it later.
    constructor: object


# By model; None where its own code decides how its instances are made.
_columns: WeakKeyDictionary[type[Model], _Columns | None] = WeakKeyDictionary()


def _loadable_columns(cls: Any, owner: type[Model]) -> _Columns | None:
    # Django's constructor calls those of classes that stand behind ``Model``.
    behind = cls.__mro__[cls.__mro__.index(Model) + 1 : -1]
    is_djangos = (
        _is_djangos(cls.__init__, "Model.__init__")
        and all(hasattr(each, _MARK) or _is_djangos(each, "Model.from_db") for each in _methods_behind(cls, owner))
        and not any("__init__" in vars(each) for each in behind)
        and cls.__new__ is object.__new__
        and cls.__setattr__ is object.__setattr__
        and type(cls).__call__ is type.__call__
    )
    fields: Sequence[Field[Any, Any]] = cls._meta.concrete_fields
    if not is_djangos or cls._meta.abstract or not all(_is_put_as_loaded(cls, field) for field in fields):
        return None
    encrypted = [place for place, field in enumerate(fields) if getattr(field, "is_encrypted", False)]
    return _Columns(tuple(field.attname for field in fields), tuple(encrypted), cls.__init__)


def _is_put_as_loaded(cls: type[Model], field: Any) -> bool:
    attribute = next((vars(each)[field.attname] for each in cls.__mro__ if field.attname in vars(each)), None)
    return type(attribute) in (DeferredAttribute, ForeignKeyDeferredAttribute) or isinstance(attribute, PutAsLoaded)


def _is_djangos(function: Any, name: str) -> bool:
    """Whether a function is Django's own. ``functools.wraps`` copies names, but neither globals nor code."""
    return (
        isinstance(function, FunctionType)
        and function.__globals__["__name__"] == _DJANGOS
        and function.__code__.co_qualname == name
    )


def _is_listened_to(cls: type[Model]) -> bool:
    return bool(pre_init.receivers or post_init.receivers) and (
        pre_init.has_listeners(cls) or post_init.has_listeners(cls)
    )
