"""
Where Django gives a field no say, and a half-written group would lose data.

``_save_table`` is wrapped on each model class that has encrypted fields: it writes a group all or none whatever
``update_fields`` says. The others are wrapped on Django's own classes, when the first such model is made:
``Model.refresh_from_db`` copies values without opening them, beneath whatever a model makes of it;
``QuerySet.bulk_create`` has an upsert that would write a value without its companion, and ``QuerySet.bulk_update``
reads plain attributes and shows the rows to no field. A queryset class for these models would not do: related managers,
custom managers and historical models make querysets of their own. ``AddField``, and ``RemoveField`` when it is
reversed, refuse what databases would do in ways of their own: existing rows cannot get a default, which would stand
there in the clear.
Models without encrypted fields go straight through. Each hook has its test in ``tests/fields``.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import FieldError
from django.db.migrations.operations import AddField, RemoveField
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable

from vault_fields.fields.groups import all_groups_of
from vault_fields.fields.saving import (
    HeldBack,
    handed_over,
    prepare_fixture,
    prepare_rows,
    prepare_save,
    require_matched_context,
)
from vault_fields.fields.sealed import Handover, Sealed

__all__ = ["install_hooks"]

_MARK = "_vault_fields_hook"
_HELD = "vault_fields_held_back"


def install_hooks(cls: type[Model]) -> None:
    """Wrap the methods, each once: a subclass inherits what its parents got."""
    _wrap(cls, "_save_table", _save_table)
    _wrap(Model, "refresh_from_db", _refresh_from_db)
    _wrap(QuerySet, "bulk_create", _bulk_create)
    _wrap(QuerySet, "bulk_update", _bulk_update)
    _wrap(AddField, "database_forwards", _add_field)
    _wrap(RemoveField, "database_backwards", _put_back_field)


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
        prepare_fixture(self, cls, using)
        # It is saved from its attributes; fields are not asked.
        with handed_over([self], _member_names(cls)):
            return original(self, raw, cls, force_insert, force_update, using, update_fields)
    # A row in several tables is saved in several calls, that of its own model last.
    held: HeldBack = vars(self._state).pop(_HELD, None) or HeldBack([self], type(self), update_fields, using)
    try:
        update_fields = prepare_save(self, cls, update_fields, using)
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
    if not all_groups_of(type(self)):
        return original(self, using=using, fields=fields, from_queryset=from_queryset)
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
    self._for_write = True
    prepare_rows(objs, self.model, None, self.db)
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
    self._for_write = True
    held = HeldBack(objs, self.model, fields, self.db)
    try:
        names = prepare_rows(objs, self.model, fields, self.db)
        with handed_over(objs, _member_names(self.model)):
            return original(self, objs, [*fields, *sorted(names.difference(fields))], batch_size)
    finally:
        held.restore()


def _add_field(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    _require_no_rows(self, self.field, app_label, schema_editor, from_state)
    return original(self, app_label, schema_editor, from_state, to_state)


def _put_back_field(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    field = to_state.apps.get_model(app_label, self.model_name)._meta.get_field(self.name)
    _require_no_rows(self, field, app_label, schema_editor, from_state)
    return original(self, app_label, schema_editor, from_state, to_state)


def _require_no_rows(operation: Any, field: Any, app_label: str, schema_editor: Any, state: Any) -> None:
    """Refuse to add an encrypted column that must have a value to a table that has rows."""
    if not getattr(field, "is_encrypted", False) or field.null or schema_editor.collect_sql:
        return
    model = state.apps.get_model(app_label, operation.model_name)
    alias = schema_editor.connection.alias
    if operation.allow_migrate_model(alias, model) and model._base_manager.using(alias).exists():
        raise FieldError(
            f"{model._meta.label}.{operation.name} is encrypted for the key context of each row, which a column's "
            "default does not know, and the table has rows: nothing was changed. Add the field with null=True, "
            "give the rows their values with save() or bulk_update() in RunPython, and make it null=False then."
        )


def _member_names(model: type[Model]) -> list[str]:
    return [member.attname for group in all_groups_of(model) for member in group.members]
