"""
Hooks in Django, where it gives a field no say and a half-written group would lose data.

``_save_table`` is wrapped on each model class that has encrypted fields: it writes a group all or none whatever
``update_fields`` says. On parents of such a class it is wrapped too, and takes along what their children hold. The
others are wrapped on Django's own classes, when the first such model is made. ``Model.refresh_from_db`` copies values
without opening them, beneath whatever a model makes of it. So does the link from a row to the row in its parent's
table. ``QuerySet.bulk_create`` has an upsert that would write a value without its companion. ``QuerySet.bulk_update``
reads plain attributes and shows the rows to no field. A queryset class for these models would not do: related
managers, custom managers and historical models make querysets of their own. ``AddField``, and ``RemoveField`` when it
is reversed, refuse what databases would do in ways of their own: existing rows cannot get a default, which would be in
the clear. ``AlterField`` refuses to encrypt a column that is no text. ``QuerySet.update`` seals one value for many
rows, and brings values along where their rows move. ``UpdateQuery.update_batch`` moves rows when their tenant is
deleted, and ``Collector.delete`` tells which rows go with it. ``positions`` follows the compiler, to tell where in a
query a column is. ``serializing`` lets serializers say that they serialize. ``schemachange.guard`` judges migrations.

Models without encrypted fields go straight through. Each hook has its test in ``tests/fields``.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from django.db import router, transaction
from django.db.migrations.operations import AddField, AlterField, RemoveField
from django.db.models import Model, QuerySet
from django.db.models.deletion import Collector
from django.db.models.fields.related_descriptors import ForwardOneToOneDescriptor
from django.db.models.query import ModelIterable
from django.db.models.sql import UpdateQuery

from vault_fields.exceptions import MigrationRefused
from vault_fields.fields.brought import reloading
from vault_fields.fields.columns import require_comparable
from vault_fields.fields.conversion import require_text, require_values
from vault_fields.fields.deleting import deleting, release
from vault_fields.fields.fixtures import prepare_fixture
from vault_fields.fields.groups import all_groups_of
from vault_fields.fields.moving import Move
from vault_fields.fields.ownkey import SealedRows, awaits_key, insert_first, rows_to_insert_first
from vault_fields.fields.parents import take_along, take_along_in_bulk, take_along_in_upsert
from vault_fields.fields.partial import PartialWrite
from vault_fields.fields.positions import trace_compilers
from vault_fields.fields.queries import bulk_updating, portions
from vault_fields.fields.saving import (
    handed_over,
    prepare_rows,
    require_matched_context,
)
from vault_fields.fields.sealed import Handover, Sealed
from vault_fields.fields.serializing import install_serializing
from vault_fields.fields.updating import update_encrypted, values_to_seal
from vault_fields.patches import wrap

__all__ = ["guard_migrations", "install_hooks"]

_PARENT_MARK = "_vault_fields_parent_hook"
_WRITE = "vault_fields_partial_write"


@functools.cache
def guard_migrations() -> None:
    """
    Let ``migrate`` refuse migrations that would leave encrypted values without what opens them.

    A process that imports an encrypted field, if only in a migration, is guarded, also once the project has taken the
    application out of ``INSTALLED_APPS``. Imported by name, since the guard is in a layer above the fields.
    """
    import_module("vault_fields.schemachange.guard").install_guard()


def install_hooks(cls: type[Model]) -> None:
    """Wrap the methods, each once: a subclass inherits the wrapped methods of its parents."""
    for parent in cls.__mro__[1:]:  # Options do not know the parents yet.
        if (meta := getattr(parent, "_meta", None)) and not meta.abstract:
            wrap(parent, "_save_table", _save_parent_table, mark=_PARENT_MARK)
    wrap(cls, "_save_table", _save_table)
    wrap(Model, "refresh_from_db", _refresh_from_db)
    wrap(ForwardOneToOneDescriptor, "get_object", _get_object)
    wrap(QuerySet, "bulk_create", _bulk_create)
    wrap(QuerySet, "bulk_update", _bulk_update)
    wrap(AddField, "database_forwards", _add_field)
    wrap(AlterField, "database_forwards", _alter_field)
    wrap(RemoveField, "database_backwards", _put_back_field)
    wrap(QuerySet, "update", _update)
    wrap(UpdateQuery, "update_batch", _update_batch)
    wrap(Collector, "delete", _delete)
    trace_compilers(wrap, require_comparable)
    install_serializing()


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
        # The row is saved from its attributes; fields are not asked.
        with handed_over([self], _member_names(cls)):
            return original(self, raw, cls, force_insert, force_update, using, update_fields)
    if update_fields is None:

        def insert() -> Any:
            return original(self, raw, cls, force_insert, force_update, using, None)

        if awaits_key(self, cls):
            return insert_first(
                [self], cls, using, insert, lambda rows, names: original(self, raw, cls, False, True, using, names)
            )
        prepare_rows([self], type(self), using)
        return insert()
    using = using or router.db_for_write(type(self), instance=self)
    # A row in several tables is saved in several calls, that of its own model last, in one transaction.
    write: PartialWrite | None = vars(self._state).pop(_WRITE, None)
    is_first, write = write is None, write or PartialWrite([self], type(self), update_fields, using)

    def save() -> Any:
        # Django takes an empty set for "all columns". A primary key is never among the updated columns.
        names = write.names(cls) or {cls._meta.pk.name}
        return original(self, raw, cls, force_insert, force_update, using, names)

    try:
        result = write.run(save) if is_first else save()
    except BaseException:
        write.finish()
        raise
    if cls is type(self)._meta.concrete_model:
        write.finish()
    else:
        setattr(self._state, _WRITE, write)
    return result


def _save_parent_table(
    original: Callable[..., Any],
    self: Model,
    raw: bool = False,
    cls: Any = None,
    force_insert: Any = False,
    force_update: bool = False,
    using: str | None = None,
    update_fields: Iterable[str] | None = None,
) -> Any:
    """
    Save a parent's table, and take along what other models that inherit from it hold for the row.

    The instance itself has the values of its own model.
    """

    def save() -> Any:
        return original(self, raw, cls, force_insert, force_update, using, update_fields)

    # For a new row whose key has a default, Django does not ask whether it is there already.
    has_new_key = (
        self._state.adding
        and not (raw or force_update)
        and all(field.has_default() or field.has_db_default() for field in cls._meta.pk_fields)
    )
    if force_insert or has_new_key:
        return save()
    using = using or router.db_for_write(type(self), instance=self)
    return take_along(self, cls, update_fields, using, *_django(), save, raw=raw)


def _django() -> tuple[Callable[..., int], Callable[..., int]]:
    return inspect.unwrap(QuerySet.update), inspect.unwrap(QuerySet.bulk_update)


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
    with reloading(self):
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


def _get_object(original: Callable[..., Any], self: Any, instance: Model) -> Any:
    """Return the row of a parent's table, made from its child's content, and sealed as there."""
    link = self.field.remote_field
    with handed_over([instance], _member_names(link.model) if link.parent_link else ()):
        return original(self, instance)


def _bulk_create(
    original: Callable[..., Any],
    self: Any,
    objs: Iterable[Any],
    batch_size: int | None = None,
    ignore_conflicts: bool = False,
    update_conflicts: bool = False,
    update_fields: Iterable[str] | None = None,
    unique_fields: Iterable[str] | None = None,
) -> Any:
    objs = list(objs)
    update_fields, unique_fields = (None if names is None else list(names) for names in (update_fields, unique_fields))
    create = _bulk_create_encrypted if all_groups_of(self.model) else _unwrapped

    def insert() -> Any:
        return create(
            original, self, objs, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields
        )

    if not update_conflicts:
        return insert()
    self._for_write = True
    return take_along_in_upsert(objs, self.model, update_fields or (), unique_fields or (), self.db, *_django(), insert)


def _unwrapped(original: Callable[..., Any], *args: Any) -> Any:
    return original(*args)


def _bulk_create_encrypted(
    original: Callable[..., Any],
    self: Any,
    objs: list[Any],
    batch_size: int | None,
    ignore_conflicts: bool,
    update_conflicts: bool,
    update_fields: Iterable[str] | None,
    unique_fields: Iterable[str] | None,
) -> Any:
    for obj in objs:
        # Django does this too, but after the contexts are needed.
        obj._prepare_related_fields_for_save(operation_name="bulk_create")
    self._for_write = True
    first = rows_to_insert_first(objs, self.model, self.db, is_upsert=ignore_conflicts or update_conflicts)
    late = {id(obj) for obj in first}
    prepare_rows([obj for obj in objs if id(obj) not in late], self.model, self.db)
    if update_fields:
        update_fields = sorted(require_matched_context(self.model, set(update_fields), unique_fields or ()))

    def insert() -> Any:
        return original(self, objs, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)

    def update(rows: list[Model], names: set[str]) -> None:
        with handed_over(rows, _member_names(self.model)), bulk_updating():
            SealedRows(self.model, using=self.db).bulk_update(rows, sorted(names), batch_size)

    if not first:
        return insert()
    # The caller's earlier writes stay, if it continues after an error.
    with transaction.atomic(self.db):
        return insert_first(first, self.model._meta.concrete_model, self.db, insert, update)


def _bulk_update(
    original: Callable[..., Any], self: Any, objs: Iterable[Any], fields: Iterable[str], batch_size: Any = None
) -> Any:
    if isinstance(self, SealedRows):
        return original(self, objs, fields, batch_size)
    objs, fields = tuple(objs), list(fields)
    groups = all_groups_of(self.model)
    if not any(group.columns & set(fields) or group.context_names & set(fields) for group in groups) or not all(
        obj._is_pk_set() for obj in objs
    ):
        return original(self, objs, fields, batch_size)
    for obj in objs:
        obj._prepare_related_fields_for_save(
            operation_name="bulk_update", fields=[self.model._meta.get_field(name) for name in fields]
        )
    self._for_write = True
    # A companion is written only together with its values.
    named = {name for group in groups if group.companion in fields for name in group.member_names}
    write = PartialWrite(objs, self.model, {*fields, *named}, self.db)

    def update() -> Any:
        names = write.names(*(group.model for group in groups))
        take_along_in_bulk(objs, self.model, fields, self.db, *_django())
        with handed_over(objs, _member_names(self.model)), bulk_updating():
            return original(
                self, objs, [name for name in fields if name in names] + sorted(names.difference(fields)), batch_size
            )

    try:
        return write.run(update)
    finally:
        write.finish()


def _update(original: Callable[..., Any], self: Any, **values: Any) -> Any:
    bulk_update = inspect.unwrap(QuerySet.bulk_update)
    if sealed := values_to_seal(self.model, values):
        self._for_write = True
        return update_encrypted(original, bulk_update, self, values, sealed)
    if move := Move(self, values):
        self._for_write = True
        count, staying = release(self, values, original)
        return count + Move(staying, values).run(original, bulk_update) if count else move.run(original, bulk_update)
    return original(self, **values)


def _update_batch(
    original: Callable[..., Any], self: Any, pk_list: list[Any], values: dict[str, Any], using: str
) -> None:
    """Move rows that get another tenant by a deletion, as with ``on_delete=SET(…)``."""
    rows: Any = QuerySet(self.get_meta().model, using=using)
    if Move(rows, values):
        for some in portions(pk_list):
            rows.filter(pk__in=some).update(**values)
    else:
        original(self, pk_list, values, using)


def _delete(original: Callable[..., Any], self: Any) -> Any:
    with deleting(self):
        return original(self)


def _add_field(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    advice = (
        "Add the field with null=True, give the rows their values with save() or bulk_update() in RunPython, and make "
        "it null=False then."
    )
    _require_no_rows(self, self.field, app_label, schema_editor, from_state, advice)
    return original(self, app_label, schema_editor, from_state, to_state)


def _alter_field(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    require_text(self, app_label, schema_editor, from_state, to_state)
    require_values(self, app_label, schema_editor, from_state, to_state)
    return original(self, app_label, schema_editor, from_state, to_state)


def _put_back_field(
    original: Callable[..., Any], self: Any, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
) -> Any:
    field = to_state.apps.get_model(app_label, self.model_name)._meta.get_field(self.name)
    advice = (
        "Its values went with the column. Before the RemoveField write an AlterField with null=True, and between the "
        "two RunPython whose reverse gives the rows new values with save() or bulk_update()."
    )
    _require_no_rows(self, field, app_label, schema_editor, from_state, advice)
    return original(self, app_label, schema_editor, from_state, to_state)


def _require_no_rows(operation: Any, field: Any, app_label: str, schema_editor: Any, state: Any, advice: str) -> None:
    """Refuse to add an encrypted column that must have a value to a table that has rows."""
    if not getattr(field, "is_encrypted", False) or field.null or schema_editor.collect_sql:
        return
    model = state.apps.get_model(app_label, operation.model_name)
    alias = schema_editor.connection.alias
    if operation.allow_migrate_model(alias, model) and model._base_manager.using(alias).exists():
        raise MigrationRefused(
            f"{model._meta.label}.{operation.name} is encrypted for the key context of each row, which a column's "
            f"default does not know, and the table has rows: nothing was changed. {advice}"
        )


def _member_names(model: type[Model]) -> list[str]:
    return [member.attname for group in all_groups_of(model) for member in group.members]
