"""
Hooks that wrap methods of Django, where it gives a field no say and a half-written group would lose data.

``_save_table`` is wrapped on each model class that has encrypted fields: it writes a group all or none whatever
``update_fields`` says. On parents of such a class it is wrapped too, and takes along what their children hold. The
others are wrapped on Django's own classes, when the first such model is made. ``Model.refresh_from_db`` copies values
without opening them, beneath whatever a model makes of it. So does the link from a row to the row in its parent's
table. ``queryhooks`` has those of querysets and deletions, and ``migrationhooks`` those of migrations. ``positions``
follows the compiler, to tell where in a query a column is. ``serializing`` lets serializers say that they serialize.

Models without encrypted fields go straight through. Each hook has its test in ``tests/fields``.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.db import router
from django.db.models import Model
from django.db.models.fields.related_descriptors import ForwardOneToOneDescriptor
from django.db.models.query import ModelIterable

from vault_fields.fields.blindindex import note_together
from vault_fields.fields.columns import require_comparable
from vault_fields.fields.generatedpk import awaits_key, insert_first
from vault_fields.fields.groups import all_groups_of, member_names_of
from vault_fields.fields.loaddata import prepare_fixture
from vault_fields.fields.migrationhooks import install_migration_hooks
from vault_fields.fields.parents import take_along
from vault_fields.fields.positions import trace_compilers
from vault_fields.fields.queryhooks import djangos_updates, install_query_hooks
from vault_fields.fields.saving import handed_over, prepare_rows
from vault_fields.fields.sealed import Handover, Sealed
from vault_fields.fields.serializing import install_serializing
from vault_fields.fields.updatefields import PartialWrite
from vault_fields.fields.writtenback import reloading
from vault_fields.patches import wrap

__all__ = ["install_hooks"]

_PARENT_MARK = "_vault_fields_parent_hook"
_WRITE = "vault_fields_partial_write"


def install_hooks(cls: type[Model]) -> None:
    """Wrap the methods, each once: a subclass inherits the wrapped methods of its parents."""
    for parent in cls.__mro__[1:]:  # Options do not know the parents yet.
        if (meta := getattr(parent, "_meta", None)) and not meta.abstract:
            wrap(parent, "_save_table", _save_parent_table, mark=_PARENT_MARK)
    wrap(cls, "_save_table", _save_table)
    wrap(Model, "refresh_from_db", _refresh_from_db)
    wrap(ForwardOneToOneDescriptor, "get_object", _get_object)
    install_query_hooks()
    install_migration_hooks()
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
        with handed_over([self], member_names_of(cls)):
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
    return take_along(self, cls, update_fields, using, *djangos_updates(), save, raw=raw)


def _refresh_from_db(
    original: Callable[..., Any],
    self: Model,
    using: str | None = None,
    fields: Iterable[str] | None = None,
    from_queryset: Any = None,
) -> Any:
    if not (groups := all_groups_of(type(self))):
        return original(self, using=using, fields=fields, from_queryset=from_queryset)
    queryset = type(self)._base_manager.db_manager(using, hints={"instance": self}).all()
    if from_queryset is not None:
        queryset = from_queryset.all()
    queryset._iterable_class = _SealedIterable
    if fields is not None:
        names = set(fields := list(fields))
        # A hash stays beside the value that it was read with.
        together = [name for group in groups for name in group.hashes_of(names)]
        fields += [name for name in together if name not in names]
    else:
        together = [name for group in groups for name in group.index_names]
    with reloading(self):
        result = original(self, using=using, fields=fields, from_queryset=queryset)
    note_together(self, together)
    return result


class _SealedIterable(ModelIterable):  # type: ignore[type-arg]
    """Rows whose attributes are read in order to be copied."""

    def __iter__(self) -> Any:
        for instance in super().__iter__():
            for name in member_names_of(type(instance)):
                held = instance.__dict__.get(name)
                if isinstance(held, Sealed):
                    instance.__dict__[name] = Handover(held)
            yield instance


def _get_object(original: Callable[..., Any], self: Any, instance: Model) -> Any:
    """Return the row of a parent's table, made from its child's content, and sealed as there."""
    link = self.field.remote_field
    with handed_over([instance], member_names_of(link.model) if link.parent_link else ()):
        return original(self, instance)
