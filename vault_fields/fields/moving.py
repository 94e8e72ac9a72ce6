"""
Updates of columns that decide whether values open: the values of the rows are encrypted anew for their new columns.

``QuerySet.update()`` comes here, and so does every write to a parent's table beside the tables that inherit from it. A
write of one child to the row of a parent concerns the other children of that row.

They are opened and sealed for the columns that their rows will have, while no row is locked. Then, in one transaction,
the rows are locked and read again, rows that somebody else wrote meanwhile are sealed once more, and values and
columns are written, all or none. Rows without values cost no Vault call. See
``docs/decisions/0087-update-brings-values-along.md``.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field as dataclass_field
from functools import cached_property, reduce
from time import monotonic
from typing import Any

from django.db import transaction
from django.db.models import ExpressionWrapper, Model, Q, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import Col
from django.db.models.lookups import Lookup

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.barerows import StoredColumns
from vault_fields.fields.bindings import Binding, column_type, compares_exactly
from vault_fields.fields.conflicts import apart_error, leading
from vault_fields.fields.damaged import as_text
from vault_fields.fields.dependents import Holder, depends_on, holders_of, names_of
from vault_fields.fields.deriving import derive_contexts, located_context
from vault_fields.fields.groups import Group
from vault_fields.fields.queries import (
    ROWS_PER_STATEMENT,
    as_assigned,
    bulk_updating,
    is_bulk_updating,
    matching,
    portions,
)
from vault_fields.fields.saving import handed_over
from vault_fields.fields.sealed import Sealed
from vault_fields.fields.sealing import seal
from vault_fields.fields.state import GroupState

__all__ = ["Move"]

_COMPUTED = "vault_fields_new_"


@dataclass(eq=False)
class _Row:
    """A row as it is stored, and an instance to seal for the columns that it will have."""

    holder: Holder
    instance: Model
    stored: Mapping[str, Any]
    own_pk: Any
    # The primary key of the query's row, and the new values of its columns.
    pk: Any
    new: Mapping[str, Any] = dataclass_field(default_factory=dict)
    # The values that were sealed again.
    groups: list[Group] = dataclass_field(default_factory=list)
    # The values derived from rows that the update may change too.
    led: list[Group] = dataclass_field(default_factory=list)

    def is_as(self, other: "_Row") -> bool:
        return (self.stored, self.new) == (other.stored, other.new)


class _Computed(ExpressionWrapper):  # type: ignore[type-arg]
    """An expression that is selected as the type that its column has."""

    @property
    def empty_result_set_value(self) -> Any:
        """The value for a row, if it asks for nothing: not the value 0 that Django takes of the wrapper."""
        return self.expression.empty_result_set_value


class Move:
    """
    One ``update()`` with ``values`` of which some decide whether values open; false if none does. With
    ``only_inheriting``, the rows of the query are the caller's, who writes them afterwards in the same transaction;
    what the models ``besides`` hold is its own affair.

    Costs one ``decrypt`` for all data keys of the rows that hold values, and one ``create`` for each new key context,
    for every ``max_rows_per_key`` rows. Raises what saving the rows would raise, and writes nothing then.
    """

    def __init__(
        self, queryset: Any, values: Mapping[str, Any], *, only_inheriting: bool = False, besides: type[Model] = Model
    ) -> None:
        self._queryset = queryset
        self._values = values
        self._only_inheriting = only_inheriting
        self._model: Any = queryset.model._meta.concrete_model
        named = [field for field in self._model._meta.concrete_fields if not values.keys().isdisjoint(names_of(field))]
        holders = [] if is_bulk_updating() else holders_of(self._model, named, only_inheriting)
        self._holders = [holder for holder in holders if not issubclass(besides, holder.model)]
        self._keys = sorted({holder.key for holder in self._holders} - {"pk"})
        groups = [group for holder in self._holders for group in holder.groups]
        self._led = {group: led for group in groups if (led := list(leading(group, named)))}
        self._fields = [field for field in named if any(depends_on(group, field) for group in groups)]
        # By attribute name: the name under which it was given, and a value or an expression of which each row has its
        # own.
        self._given = {
            field.attname: next(name for name in names_of(field) if name in values) for field in self._fields
        }
        new = {field.attname: as_assigned(field, values[self._given[field.attname]]) for field in self._fields}
        self._computed = {name: value for name, value in new.items() if hasattr(value, "resolve_expression")}
        self._constant = {name: value for name, value in new.items() if name not in self._computed}
        # Sealed values, and the values of expressions for the rows, by primary keys.
        self._known: dict[tuple[type[Model], Any], _Row] = {}
        self._found: Mapping[Any, Mapping[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._holders)

    def concerns(self, pk: Any) -> bool:
        """
        Lock one row, in a transaction, and tell whether values have to come along with it.

        Costs a query, which locks; and one for each model that could hold values, where the row's columns change.
        """
        stored = StoredColumns(self._model, self._given, self._using)
        rows = [stored.row(values) for values in stored.lock([pk])]
        if not any(self._differs(field, row[field.attname]) for row in rows for field in self._fields):
            return False
        # Not the row as it was when the transaction began.
        return any(
            self._all(holder.model).filter(holder.holding, **{holder.link: pk}).select_for_update().exists()
            for holder in self._holders
        )

    def _differs(self, field: Any, stored: Any) -> bool:
        binding = Binding(field.name, field)
        try:
            return field.attname in self._computed or binding.text(stored) != binding.text(
                self._constant[field.attname]
            )
        except KeyContextError:
            return True  # Any of them that has values reports it.

    def run(self, original: Callable[..., int], bulk_update: Callable[..., int]) -> int:
        """Return how many rows were updated. ``original`` and ``bulk_update`` are Django's methods."""
        original(self._queryset.none(), **self._values)  # Raises Django's errors about names, slices and expressions.
        self.prepare()
        try:
            with transaction.atomic(self._using, savepoint=False):
                return self.write(original, bulk_update)
        finally:
            self._queryset._result_cache = None

    def prepare(self) -> None:
        """Read, open and seal, before any row is locked."""
        pks = {} if self._is_simple else self._pks()
        rows = self._in_query(self._holders[0].holding) if self._is_simple else self._of(pks)
        self._seal(rows)
        self._require_apart(rows, pks)
        self._remember(rows)

    def write(self, original: Callable[..., int], bulk_update: Callable[..., int]) -> int:
        """Write the sealed values and the rows' new columns, in a transaction."""
        count = 0
        pks: Mapping[Any, Mapping[str, Any]] = {}
        if self._is_simple:
            # The rest holds a value, or held one: the next statement locks all of it.
            count += original(self._queryset._chain().using(self._using).filter(self._stays), **self._values)
            rows = self._in_query(lock=True)
            pks = {row.pk: {} for row in rows}
        else:
            pks = self._locked()
            rows = self._of(pks, lock=True)
        rows = self._as_sealed(rows)
        self._require_apart(rows, pks)
        self._remember(rows)
        self._write(rows, bulk_update)
        for some, new in () if self._only_inheriting else self._assignments(pks):
            count += original(self._scope(some), **{**self._values, **new})
        return count

    def require_written(self) -> None:
        """Refuse rows that hold values since, or got other columns than they were sealed for. Called afterwards."""
        for row in self._held(self._pks(), lock=True):
            before = self._known.get((row.holder.model, row.own_pk))
            bindings = {binding.attname: binding for group in row.holder.groups for binding in group.all_bindings}
            if before is None or any(
                bindings[name].text(row.stored[name]) != bindings[name].text(value)
                for name, value in before.new.items()
                if name in bindings
            ):
                raise _unexpected(row)

    def require_new(self, seen: set[tuple[type[Model], Any]]) -> None:
        """Refuse a second write to one row: it does not know what the first one wrote."""
        for key in self._known.keys() & seen:
            raise _unexpected(self._known[key])
        seen.update(self._known)

    def _remember(self, rows: Iterable[_Row]) -> None:
        self._known = {(row.holder.model, row.own_pk): row for row in rows}

    @property
    def _using(self) -> str:
        using: str = self._queryset.db
        return using

    def _all(self, model: type[Model]) -> Any:
        return QuerySet(model, using=self._using)

    # The choice of rows.

    @cached_property
    def _is_simple(self) -> bool:
        """Whether the database can decide for every row by itself what is to be done with it."""
        query = self._queryset.query.chain()
        table = query.get_initial_alias()
        return (
            [holder.model for holder in self._holders] == [self._model]
            and not (self._model._meta.parents or self._computed or self._led)
            and all(compares_exactly(field) for field in self._fields)
            and not (query.annotations or query.distinct or query.extra or query.extra_tables)
            and all(_concerns(table, leaf) for leaf in query.where.leaves())
        )

    @property
    def _stays(self) -> Q:
        return ~self._holders[0].holding | Q(**self._constant)

    def _in_query(self, condition: Q | None = None, *, lock: bool = False) -> list[_Row]:
        """Return the rows of the query whose columns change."""
        model, query = self._queryset.model, self._queryset.query.chain()
        rows: Any = QuerySet(model, query=query, using=self._using).order_by("pk").exclude(**self._constant)
        rows = rows.filter(condition) if condition else rows
        return self._read(self._holders[0], rows, lock=lock)

    def _pks(self) -> dict[Any, Mapping[str, Any]]:
        """Return the primary keys of the query's rows, and by them the keys of their rows in the tables of parents."""
        found = matching(self._queryset, self._using).values_list("pk", *self._keys)
        return {pk: dict(zip(self._keys, keys, strict=True)) for pk, *keys in found}

    def _locked(self) -> dict[Any, Mapping[str, Any]]:
        """Return the same for those rows, locked: nobody else writes to them until the transaction ends."""
        stored = StoredColumns(self._model, self._given, self._using)
        locked = [stored.pk(stored.row(values)) for values in stored.lock(list(self._pks()))]
        still = self._pks() if locked else {}
        return {pk: still[pk] for pk in locked if pk in still}

    def _of(self, pks: Mapping[Any, Mapping[str, Any]], *, lock: bool = False) -> list[_Row]:
        """
        Return those of these rows, and of rows that share tables with them, that hold values, with their new columns.
        """
        rows = self._held(pks, lock=lock)
        self._found = self._compute({row.pk for row in rows})
        for row in rows:
            row.new = {**row.new, **{n: v for n, v in self._found.get(row.pk, {}).items() if n in row.stored}}
        return rows

    def _held(self, pks: Mapping[Any, Mapping[str, Any]], *, lock: bool = False) -> list[_Row]:
        rows: list[_Row] = []
        for holder in self._holders:
            linked = {keys.get(holder.key, pk): pk for pk, keys in pks.items()}
            for some in portions(list(linked)):
                of = self._all(holder.model).order_by("pk").filter(**{f"{holder.link}__in": some})
                rows += self._read(holder, of.filter(holder.holding), linked, lock=lock)
        return rows

    def _compute(self, pks: Iterable[Any]) -> dict[Any, dict[str, Any]]:
        """Return the expressions' values for each row: nobody else may decide what is encrypted for it."""
        if not self._computed:
            return {}
        fields = {field.attname: field for field in self._fields}
        expressions = {
            f"{_COMPUTED}{number}": _Computed(value, output_field=column_type(fields[name]))
            for number, (name, value) in enumerate(self._computed.items())
        }
        found: dict[Any, dict[str, Any]] = {}
        for some in portions(list(pks)):
            for pk, *values in self._scope(some).annotate(**expressions).values_list("pk", *expressions):
                found[pk] = dict(zip(self._computed, values, strict=True))
        return found

    def _scope(self, pks: Sequence[Any]) -> Any:
        """
        Return rows by their keys, with what expressions may name of the query, whatever its condition says by now.
        """
        scope = self._all(self._queryset.model)
        if self._queryset.query.annotations:
            scope = self._queryset._chain().using(self._using)
            scope.query.clear_where()
        return scope.filter(pk__in=pks)

    def _read(
        self, holder: Holder, queryset: Any, linked: Mapping[Any, Any] | None = None, *, lock: bool
    ) -> list[_Row]:
        stored = holder.stored(self._given, self._using)
        rows = map(stored.row, stored.read(queryset.select_for_update() if lock else queryset))
        return [self._row(holder, stored, row, linked or {}) for row in rows]

    def _row(
        self, holder: Holder, columns: StoredColumns, stored: Mapping[str, Any], linked: Mapping[Any, Any]
    ) -> _Row:
        data = dict(stored)
        for group in holder.groups:
            keys = data[group.companion] = as_text(data[group.companion])
            for member in group.members:
                text = None if {*names_of(member)} & self._values.keys() else as_text(data[member.attname])
                values = tuple([stored[binding.attname] for binding in group.bound_columns(member)])
                data[member.attname] = (
                    None if text is None else Sealed(member.stored_text(text), keys or "", values, loaded=monotonic())
                )
        instance = holder.model.from_db(columns.using, list(data), list(data.values()))
        own_pk = columns.pk(stored)
        link = stored.get(holder.link, own_pk)
        new = {name: value for name, value in self._constant.items() if name in stored}
        return _Row(holder, instance, stored, own_pk, linked.get(link, link), new)

    # The values to write.

    def _seal(self, rows: Iterable[_Row]) -> None:
        """Seal the values that do not open with the new columns; instances then have the stored ones again."""
        rows = list(rows)
        pieces: list[tuple[_Row, Group]] = []
        for row in rows:
            for name, value in row.new.items():
                setattr(row.instance, name, value)
            pieces += [(row, group) for group in row.holder.groups if _changes(row.instance, group)]
        for row, group in pieces:
            row.led += [group] if group in self._led else []
        pieces = _without_followed(pieces, self._using)
        seal([(row.instance, group) for row, group in pieces], using=self._using)
        for row, group in pieces:
            row.groups.append(group)
        for row in rows:
            row.instance.__dict__.update({name: row.stored[name] for name in row.new})

    def _as_sealed(self, rows: Sequence[_Row]) -> list[_Row]:
        """Return the rows as they were sealed before, except those that somebody else wrote to meanwhile."""
        known = [self._known.get((row.holder.model, row.own_pk), row) for row in rows]
        found = [each if row.is_as(each) else row for row, each in zip(rows, known, strict=True)]
        # Their locks are held while the Vault is asked: the others are written by now.
        self._seal([row for row, each in zip(rows, found, strict=True) if row is each])
        return found

    def _require_apart(self, rows: Iterable[_Row], pks: Container[Any]) -> None:
        """Refuse a context in a row that this update changes too: it was derived from the row's former values."""
        led = [(row, group, *way) for row in rows for group in row.led for way in self._led[group]]
        for row, group, relations, field in led:
            found = reduce(getattr, relations, row.instance)
            if found.pk in pks:
                raise apart_error(group, row.own_pk, found, field, relations[0])

    def _assignments(self, pks: Iterable[Any]) -> Iterator[tuple[Sequence[Any], dict[str, Any]]]:
        """Yield which rows get which values in place of expressions."""
        by_values: dict[tuple[Any, ...], list[Any]] = {}
        for pk in pks:
            values = self._found[pk].values() if self._computed and pk in self._found else ()
            by_values.setdefault(tuple(values), []).append(pk)
        for those_values, those in by_values.items():
            new = {self._given[name]: value for name, value in zip(self._computed, those_values, strict=False)}
            yield from ((some, new) for some in portions(those))

    def _write(self, rows: Iterable[_Row], bulk_update: Callable[..., int]) -> None:
        together: dict[tuple[Holder, tuple[Group, ...]], list[Model]] = {}
        for row in rows:
            if row.groups:
                together.setdefault((row.holder, tuple(row.groups)), []).append(row.instance)
        for (holder, groups), instances in together.items():
            members = [member.attname for group in groups for member in group.members]
            names = sorted({name for group in groups for name in group.columns})
            with handed_over(instances, members), bulk_updating():
                bulk_update(self._all(holder.model), instances, names, ROWS_PER_STATEMENT)


def _unexpected(row: _Row) -> KeyContextError:
    names = sorted({binding.attname for group in row.holder.groups for binding in group.all_bindings})
    return KeyContextError(
        f"{row.holder.groups[0].members[0].label} (pk={row.own_pk!r}) is encrypted for {', '.join(names)} of the row, "
        "and they cannot be told beforehand: somebody else wrote the row at the same time, or it is matched by several "
        "of the given rows. Nothing was written. Try again, or save() the row."
    )


def _concerns(table: str, leaf: Any) -> bool:
    """Whether a condition compares a column of the table itself with a plain value."""
    return (
        isinstance(leaf, Lookup)
        and isinstance(leaf.lhs, Col)
        and leaf.lhs.alias == table
        and not any(hasattr(value, "resolve_expression") for value in _listed(leaf.rhs))
    )


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _changes(instance: Model, group: Group) -> bool:
    try:
        return bool(GroupState(instance, group).changed_columns())
    except KeyContextError as error:
        raise located_context(error, instance, group) from None


def _without_followed(pieces: Sequence[tuple[_Row, Group]], using: str) -> list[tuple[_Row, Group]]:
    """Return the rest of the rows, without those that open as they are: another parent in the same key context."""
    led = [(row, group) for row, group in pieces if _is_followed(row.instance, group)]
    contexts = derive_contexts([(row.instance, group) for row, group in led], using)
    staying = {
        (id(row), group)
        for (row, group), context in zip(led, contexts, strict=True)
        if (companion := GroupState(row.instance, group).companion) is not None and companion.context == context
    }
    return [(row, group) for row, group in pieces if (id(row), group) not in staying]


def _is_followed(instance: Model, group: Group) -> bool:
    """Whether only columns changed from which relations lead on to the key context."""
    state = GroupState(instance, group)
    if any(state.rebound_columns(member) for member in group.members):
        return False
    return all(LOOKUP_SEP in group.source.paths.get(each.name, "") for each in state.changed_columns())
