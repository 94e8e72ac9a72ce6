"""
Hooks in Django's querysets and deletions, which write many rows and show them to no field.

``QuerySet.bulk_create`` has an upsert that would write a value without its companion. ``QuerySet.bulk_update`` reads
plain attributes. A queryset class for models with encrypted fields would not do: related managers, custom managers and
historical models make querysets of their own. ``QuerySet.update`` seals one value for many rows, and brings values
along where their rows move. ``UpdateQuery.update_batch`` moves rows when their tenant is deleted, and
``Collector.delete`` tells which rows go with it.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from django.db import transaction
from django.db.models import Model, QuerySet
from django.db.models.deletion import Collector
from django.db.models.sql import UpdateQuery

from vault_fields.fields.deleting import deleting, release
from vault_fields.fields.generatedpk import SealedRows, insert_first, rows_to_insert_first
from vault_fields.fields.groups import all_groups_of, member_names_of
from vault_fields.fields.moving import Move
from vault_fields.fields.parents import take_along_in_bulk, take_along_in_upsert
from vault_fields.fields.queries import bulk_updating, portions
from vault_fields.fields.saving import handed_over, prepare_rows, require_matched_context
from vault_fields.fields.unique import conflict_columns
from vault_fields.fields.updatefields import PartialWrite
from vault_fields.fields.updating import update_encrypted, values_to_seal, with_hashes
from vault_fields.patches import wrap

__all__ = ["djangos_updates", "install_query_hooks"]


def install_query_hooks() -> None:
    """Wrap the methods, each once."""
    wrap(QuerySet, "bulk_create", _bulk_create)
    wrap(QuerySet, "bulk_update", _bulk_update)
    wrap(QuerySet, "update", _update)
    wrap(UpdateQuery, "update_batch", _update_batch)
    wrap(Collector, "delete", _delete)


def djangos_updates() -> tuple[Callable[..., int], Callable[..., int]]:
    """Return ``QuerySet.update`` and ``QuerySet.bulk_update`` without their hooks."""
    return inspect.unwrap(QuerySet.update), inspect.unwrap(QuerySet.bulk_update)


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
    return take_along_in_upsert(
        objs, self.model, update_fields or (), unique_fields or (), self.db, *djangos_updates(), insert
    )


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

    matched = unique_fields and conflict_columns(self.model, list(unique_fields))

    def insert() -> Any:
        return original(self, objs, batch_size, ignore_conflicts, update_conflicts, update_fields, matched)

    def update(rows: list[Model], names: set[str]) -> None:
        with handed_over(rows, member_names_of(self.model)), bulk_updating():
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
        take_along_in_bulk(objs, self.model, fields, self.db, *djangos_updates())
        written = [name for name in fields if name in names] + sorted(names.difference(fields))
        if not written:
            # None of these was loaded, and each row keeps what it has. Django's method takes no empty list.
            rows = self.using(self.db)
            return sum(rows.filter(pk__in=[obj.pk for obj in some]).count() for some in portions(objs))
        with handed_over(objs, member_names_of(self.model)), bulk_updating():
            return original(self, objs, written, batch_size)

    try:
        return write.run(update)
    finally:
        write.finish()


def _update(original: Callable[..., Any], self: Any, **values: Any) -> Any:
    bulk_update = inspect.unwrap(QuerySet.bulk_update)
    if sealed := values_to_seal(self.model, values):
        self._for_write = True
        return update_encrypted(original, bulk_update, self, values, sealed)
    values = with_hashes(self.model, values)
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
