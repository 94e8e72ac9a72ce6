"""Rows as the database has them: the bare text of encrypted columns, with a lock or without one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from django.db import connections
from django.db.models import F, Lookup, Model, QuerySet, TextField
from django.db.models.expressions import Col

from vault_fields.fields.bindings import kept_class

__all__ = ["Bare", "StoredColumns"]


class StoredColumns:
    """
    A reader of some columns of a model's rows, and its primary key; those of parents too. No manager hides any row.

    Rows come in the order of the primary key, so that several writers lock them in one order.
    """

    def __init__(self, model: type[Model], attnames: Iterable[str], using: str) -> None:
        meta = model._meta
        names = {*attnames, *(field.attname for field in meta.pk_fields)}
        self.using = using
        self.queryset: QuerySet[Model] = QuerySet(model, using=using).order_by("pk")
        # In the order in which ``from_db`` takes them.
        self.columns = [field for field in meta.concrete_fields if field.attname in names]
        self.attnames = [field.attname for field in self.columns]
        # Those that are read as they are stored, whatever class their field has.
        self.bare = {field.attname for field in self.columns if _is_encrypted(field)}
        self._meta = meta

    def read(self, queryset: Any) -> Iterator[tuple[Any, ...]]:
        """Return the values of ``attnames``, a tuple for each row of the queryset."""
        names = [Bare(name) if name in self.bare else name for name in self.attnames]
        return iter(queryset.values_list(*names))

    def lock(self, pks: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """
        Yield the same for the rows with these keys, locked: nobody else writes to them until the transaction ends.
        """
        self._forbid_writes()
        for some in self._portions(pks):
            self._lock_topmost(some)
            yield from self.read(self._with_keys(some).select_for_update())

    def _with_keys(self, pks: Sequence[Any]) -> Any:
        are_bare = kept_class(self._meta.pk) is int and all(type(pk) is int for pk in pks)
        if are_bare and connections[self.using].vendor == "postgresql":
            return self.queryset.filter(_AmongIntegers(F("pk"), pks))
        return self.queryset.filter(pk__in=pks)

    def of(self, instances: Sequence[Model], *, lock: bool = False) -> dict[int, Mapping[str, Any]]:
        """
        Return the stored columns of each instance by its ``id()``, without those whose row is gone.

        One query for each portion of keys that the database takes as parameters; with a lock and inheritance, two.
        """
        if lock:
            self._forbid_writes()
        pks = [instance.pk for instance in instances]
        found: dict[Any, Mapping[str, Any]] = {}
        for some in self._portions(pks):
            if lock:
                self._lock_topmost(some)
            found |= self._by_pk(self.queryset.filter(pk__in=some), lock=lock)
        rows: dict[int, Mapping[str, Any]] = {}
        for instance in instances:
            row = found.get(self._loaded_pk(instance.pk))
            if row is None:
                # The key may have another spelling in memory than the one that is loaded.
                row = next(iter(self._by_pk(self.queryset.filter(pk=instance.pk), lock=lock).values()), None)
            if row is not None:
                rows[id(instance)] = row
        return rows

    def _by_pk(self, queryset: Any, *, lock: bool) -> dict[Any, Mapping[str, Any]]:
        rows = map(self.row, self.read(_locked(queryset, lock)))
        return {self.pk(row): row for row in rows}

    def row(self, values: tuple[Any, ...]) -> Mapping[str, Any]:
        """Return the values that were read, by ``attnames``."""
        return dict(zip(self.attnames, values, strict=True))

    def pk(self, row: Mapping[str, Any]) -> Any:
        values = tuple(row[field.attname] for field in self._meta.pk_fields)
        return values if len(values) > 1 else values[0]

    def _loaded_pk(self, pk: Any) -> Any:
        # The database has taken it for a key by now.
        if isinstance(pk, tuple):
            return tuple(map(_loaded, self._meta.pk_fields, pk))
        return _loaded(self._meta.pk, pk)

    def _portions(self, pks: Sequence[Any]) -> Iterator[Sequence[Any]]:
        # Where the database limits parameters, a composite key takes several each.
        limit = connections[self.using].features.max_query_params or len(pks) or 1
        size = max(limit // len(self._meta.pk_fields), 1)
        return (pks[start : start + size] for start in range(0, len(pks), size))

    @cached_property
    def _topmost(self) -> list[tuple[Any, bool]]:
        """
        The tables of the rows' uppermost parts, if they are others, and whether the rows have the same keys.
        """
        model: Any = self._meta.concrete_model
        meta = model._meta
        roots = {parent._meta.concrete_model for parent in meta.all_parents if not parent._meta.parents}
        return [
            (root, all(link.primary_key and link.target_field.primary_key for link in _links(meta, root)))
            for root in sorted(roots - {model}, key=lambda root: root._meta.db_table)
        ]

    def _lock_topmost(self, pks: Sequence[Any]) -> None:
        """
        Lock the rows from the top down, as Django writes them. A join would lock each in an order of its own.

        See ``docs/decisions/0112-a-parents-row-is-locked-first.md``.
        """
        if not connections[self.using].features.has_select_for_update:
            return
        for root, has_same_keys in self._topmost:
            keys = pks if has_same_keys else self.queryset.filter(pk__in=pks).order_by().values(root._meta.pk.attname)
            rows: QuerySet[Any] = QuerySet(root, using=self.using).filter(pk__in=keys)
            list(rows.order_by("pk").select_for_update().values_list("pk"))

    def _forbid_writes(self) -> None:
        """Take the lock of the whole database, and wait for it, where rows cannot be locked, as in SQLite."""
        connection = connections[self.using]
        if not connection.features.has_select_for_update:
            # A transaction that began by reading could be refused its first write instead, if somebody wrote since.
            quote = connection.ops.quote_name
            # A proxy has no column of its own.
            model: Any = self._meta.concrete_model
            first = model._meta.local_concrete_fields[0]
            column = quote(first.column)
            with connection.cursor() as cursor:
                cursor.execute(
                    f"UPDATE {quote(self._meta.db_table)} SET {column} = {column} WHERE 1 = 0"  # noqa: S608
                )


class Bare(F):
    """The bare text of an encrypted column, which queries otherwise refuse or open."""

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
        column: Any = super().resolve_expression(*args, **kwargs)
        text = TextField(name=column.target.name, db_column=column.target.column)
        text.set_attributes_from_name(column.target.name)
        text.model = column.target.model
        return Col(column.alias, text)


class _AmongIntegers(Lookup):
    """``IN`` with all keys in one parameter, which costs a small part of one parameter each."""

    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        sql, parameters = self.process_lhs(compiler, connection)
        return f"{sql} = ANY(%s::bigint[])", (*parameters, list(self.rhs))


def _locked(queryset: Any, lock: bool) -> Any:
    return queryset.select_for_update() if lock else queryset


def _links(meta: Any, ancestor: Any) -> Iterator[Any]:
    """Yield the links that lead from a model to one that it inherits from."""
    while meta.concrete_model is not ancestor:
        link = meta.get_ancestor_link(ancestor)
        yield link
        meta = link.remote_field.model._meta.concrete_model._meta


def _loaded(field: Any, value: Any) -> Any:
    convert: Callable[[Any], Any] = field.to_python
    return convert(value)


def _is_encrypted(field: Any) -> bool:
    return getattr(field, "is_encrypted", False)
