"""
Where Django gives a field no say, and a half-written group would lose data.

Two methods are wrapped on each model class that has encrypted fields: ``_save_table`` writes a group all or none
whatever ``update_fields`` says, and ``refresh_from_db`` copies values without opening them. Two methods are wrapped on
``QuerySet`` itself, when the first such model is made: ``bulk_create``, whose upsert would write a value without its
companion, and ``bulk_update``, which reads plain attributes and shows the rows to no field. A queryset class for these
models would not do: related managers, custom managers and historical models make querysets of their own.
Models without encrypted fields go straight through. Each hook has its test in ``tests/fields/test_hooks.py``.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable

from vault_fields.fields.groups import all_groups_of
from vault_fields.fields.saving import (
    HeldBack,
    handed_over,
    prepare_rows,
    prepare_save,
    require_matched_context,
    take_stored,
)
from vault_fields.fields.sealed import Handover, Sealed

__all__ = ["install_hooks"]

_MARK = "_vault_fields_hook"
_HELD = "vault_fields_held_back"


def install_hooks(cls: type[Model]) -> None:
    """Wrap the methods, each once: a subclass inherits what its parents got."""
    _wrap(cls, "_save_table", _save_table)
    _wrap(cls, "refresh_from_db", _refresh_from_db)
    _wrap(QuerySet, "bulk_create", _bulk_create)
    _wrap(QuerySet, "bulk_update", _bulk_update)


def _wrap(cls: type, name: str, hook: Callable[..., Any]) -> None:
    original = getattr(cls, name)
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def hooked(self: Any, *args: Any, **kwargs: Any) -> Any:
        return hook(original, self, *args, **kwargs)

    setattr(hooked, _MARK, True)
    setattr(cls, name, hooked)


def _save_table(
    original: Callable[..., Any],
    self: Model,
    raw: bool = False,
    cls: Any = None,
    force_insert: Any = False,
    force_update: bool = False,
    using: str | None = None,
    update_fields: Iterable[str] | None = None,
) -> Any:
    if raw:
        take_stored(self, cls)
    # A row in several tables is saved in several calls, that of its own model last.
    held: HeldBack = vars(self._state).pop(_HELD, None) or HeldBack([self], type(self), update_fields)
    try:
        update_fields = prepare_save(self, cls, update_fields)
        # A fixture is saved from its attributes; fields are not asked.
        with handed_over([self] if raw else [], _member_names(cls)):
            result = original(self, raw, cls, force_insert, force_update, using, update_fields)
    except BaseException:
        held.restore()
        raise
    if cls is type(self)._meta.concrete_model:
        held.restore()
    else:
        setattr(self._state, _HELD, held)
    return result


def _refresh_from_db(
    original: Callable[..., Any],
    self: Model,
    using: str | None = None,
    fields: Iterable[str] | None = None,
    from_queryset: Any = None,
) -> Any:
    queryset = type(self)._base_manager.db_manager(using, hints={"instance": self}).all()
    if from_queryset is not None:
        queryset = from_queryset.all()
    queryset._iterable_class = _SealedIterable
    return original(self, using=using, fields=fields, from_queryset=queryset)


class _SealedIterable(ModelIterable):  # type: ignore[type-arg]
    """Rows whose attributes are read in order to be copied."""

    def __iter__(self) -> Any:
        for instance in super().__iter__():
            for name in _member_names(type(instance)):
                held = instance.__dict__.get(name)
                if isinstance(held, Sealed):
                    instance.__dict__[name] = Handover(held)
            yield instance


def _bulk_create(original: Callable[..., Any], self: Any, objs: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    if not all_groups_of(self.model):
        return original(self, objs, *args, **kwargs)
    return _bulk_create_encrypted(original, self, list(objs), *args, **kwargs)


def _bulk_create_encrypted(
    original: Callable[..., Any],
    self: Any,
    objs: list[Any],
    batch_size: int | None = None,
    ignore_conflicts: bool = False,
    update_conflicts: bool = False,
    update_fields: Iterable[str] | None = None,
    unique_fields: Iterable[str] | None = None,
) -> Any:
    for obj in objs:
        # Django does this too, but after the contexts are needed.
        obj._prepare_related_fields_for_save(operation_name="bulk_create")
    prepare_rows(objs, self.model, None)
    if update_fields:
        update_fields = sorted(require_matched_context(self.model, set(update_fields), unique_fields or ()))
    return original(self, objs, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)


def _bulk_update(
    original: Callable[..., Any], self: Any, objs: Iterable[Any], fields: Iterable[str], batch_size: Any = None
) -> Any:
    objs, fields = tuple(objs), list(fields)
    groups = all_groups_of(self.model)
    touched = any(group.columns & set(fields) or group.context_names & set(fields) for group in groups)
    if not touched or not all(obj._is_pk_set() for obj in objs):
        return original(self, objs, fields, batch_size)
    for obj in objs:
        obj._prepare_related_fields_for_save(
            operation_name="bulk_update", fields=[self.model._meta.get_field(name) for name in fields]
        )
    held = HeldBack(objs, self.model, fields)
    try:
        names = prepare_rows(objs, self.model, fields)
        with handed_over(objs, _member_names(self.model)):
            return original(self, objs, [*fields, *sorted(names.difference(fields))], batch_size)
    finally:
        held.restore()


def _member_names(model: type[Model]) -> list[str]:
    return [member.attname for group in all_groups_of(model) for member in group.members]
