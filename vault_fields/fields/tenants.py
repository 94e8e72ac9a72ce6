"""
The key contexts that a row may have at one place of a query: those that the query fixes by equality.

Nothing is guessed. On the way from the root of WHERE to a lookup, each AND has other conditions beside it. One that is
positive holds wherever the lookup counts: if it were false, the AND would be false whatever the lookup says, and its
negation true. Nothing follows from OR, XOR and negated conditions. Columns that a JOIN equates are one column; where
an outer join finds no row, the lookup is NULL under any key. See
``docs/decisions/0129-the-tenant-of-a-lookup-is-in-its-query.md``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

from django.core.exceptions import FieldError
from django.db.models import Lookup
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import Col
from django.db.models.sql.datastructures import Join
from django.db.models.sql.where import AND, WhereNode

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.bindings import Binding, concrete_field
from vault_fields.fields.context import stands_elsewhere
from vault_fields.fields.deriving import derive_contexts
from vault_fields.fields.groups import Group
from vault_fields.keys import KeyContext

__all__ = ["MAX_CONTEXTS", "contexts_in_query"]

# The number of key contexts in which one lookup searches.
MAX_CONTEXTS = 100

# A column in a query: the alias of its table, and its name there.
_Column = tuple[str, str | None]


def contexts_in_query(lookup: Any, group: Group, compiler: Any, connection: Any) -> list[KeyContext]:
    """
    Return the contexts that rows may have where ``lookup``, on a column of the group, counts.

    Costs one query for each relation of the context, unless the query fixes the column at its end. Raises
    ``FieldError`` if the query does not fix the tenant, or more than ``MAX_CONTEXTS`` of them.
    """
    query = compiler.query
    fixed = _Fixed(query, _holding(query.where, lookup))
    alias, field = lookup.lhs.alias, lookup.lhs.target
    rows = {binding.attname: fixed.values(_columns_of(alias, group, binding, fixed)) for binding in group.bindings}
    if None not in rows.values():
        return _derived(group, {name: values or [] for name, values in rows.items()}, connection.alias, field)
    ends = _ends(alias, group, fixed)
    if ends is None:
        missing = " and ".join(name for name, values in rows.items() if values is None)
        raise FieldError(
            f"{field.label} is looked up by an index that is each tenant's own, and the query does not say whose rows "
            f"it is about: add {missing} to it by equality, as in filter({missing.split()[0]}=…, {field.name}=…), at a "
            "place that holds for this condition too: not in another OR, in a negation, or in a subquery."
        )
    rest = {**group.source.constants, **_outside(group)}
    return [KeyContext({**rest, **items}) for items in _products(ends, field)]


class _Fixed:
    """The columns of a query that conditions fix to values, with those that joins equate to them."""

    def __init__(self, query: Any, leaves: Iterable[Any]) -> None:
        joins: dict[str, Any] = {alias: each for alias, each in query.alias_map.items() if isinstance(each, Join)}
        self.tables = {alias: table.table_name for alias, table in query.alias_map.items()}
        self._parents: dict[_Column, _Column] = {}
        for alias, join in joins.items():
            for near, far in join.join_fields:
                self._parents[self._root((join.parent_alias, near.column))] = self._root((alias, far.column))
        self._values: dict[_Column, list[Any]] = {}
        for leaf in leaves:
            if (found := _fixing(leaf)) is not None:
                column, values = found
                known = self._values.get(self._root(column))
                if known is None or len(values) < len(known):
                    self._values[self._root(column)] = values

    def values(self, columns: Iterable[_Column]) -> list[Any] | None:
        """Return the values that one of these columns may have; None if no condition tells."""
        found = [self._values[self._root(each)] for each in columns if self._root(each) in self._values]
        return min(found, key=len) if found else None

    def equated(self, column: _Column, table: str, name: str) -> Iterator[str]:
        """Yield the aliases of a table that is joined by its column ``name`` to this column."""
        for alias, each in self.tables.items():
            if each == table and self._root((alias, name)) == self._root(column):
                yield alias

    def _root(self, column: _Column) -> _Column:
        while column in self._parents and self._parents[column] != column:
            column = self._parents[column]
        return column


def _holding(root: Any, lookup: Any) -> list[Any]:
    """Return the conditions that hold wherever the lookup counts."""
    way = _way(root, lookup)
    if way is None:  # In an annotation, or inside of another condition: only rows that match WHERE count.
        return list(_positive(root))
    return [
        leaf
        for node, following in zip(way, [*way[1:], lookup], strict=True)
        if _is_and(node)
        for child in node.children
        if child is not following
        for leaf in _positive(child)
    ]


def _way(node: Any, lookup: Any) -> list[Any] | None:
    """Return the nodes from this one to the lookup, without it."""
    for child in node.children:
        if child is lookup:
            return [node]
        if isinstance(child, WhereNode) and (rest := _way(child, lookup)) is not None:
            return [node, *rest]
    return None


def _positive(condition: Any) -> Iterator[Any]:
    """Yield the lookups that are true if the condition is."""
    if not isinstance(condition, WhereNode):
        yield condition
    elif _is_and(condition) and not condition.negated:
        for child in condition.children:
            yield from _positive(child)


def _is_and(node: Any) -> bool:
    return bool(node.connector == AND or len(node.children) == 1)


def _fixing(leaf: Any) -> tuple[_Column, list[Any]] | None:
    """Return the column that a condition fixes, and to which values."""
    if not isinstance(leaf, Lookup) or type(leaf.lhs) is not Col or leaf.bilateral_transforms:
        return None
    column = (leaf.lhs.alias, leaf.lhs.target.column)
    if leaf.lookup_name == "isnull":
        return (column, []) if leaf.rhs is True else None  # A row without a tenant has no value.
    values = leaf.rhs if leaf.lookup_name == "in" else [leaf.rhs] if leaf.lookup_name == "exact" else None
    if not isinstance(values, (list, tuple, set, frozenset)) or any(hasattr(x, "resolve_expression") for x in values):
        return None
    return column, [value for value in values if value is not None]


def _columns_of(alias: str, group: Group, binding: Binding, fixed: _Fixed) -> Iterator[_Column]:
    """Yield the places of one of the row's own columns, which may be in the table of a parent."""
    owner: Any = binding.field.model._meta.concrete_model
    model: Any = group.model._meta.concrete_model
    aliases = [alias]
    while model is not owner:
        link = model._meta.get_ancestor_link(owner)
        model = link.remote_field.model._meta.concrete_model
        target = link.target_field.column
        aliases = [up for each in aliases for up in fixed.equated((each, link.column), model._meta.db_table, target)]
    yield from ((each, binding.field.column) for each in aliases)


def _derived(group: Group, rows: Mapping[str, Sequence[Any]], using: str, field: Any) -> list[KeyContext]:
    """Return the contexts of rows that have these values."""
    _outside(group)
    # Errors name the primary key. ``from_db`` takes columns in the order of the model.
    given: dict[str, Sequence[Any]] = {key.attname: [None] for key in group.model._meta.pk_fields}
    given.update(rows)
    names = [column.attname for column in group.model._meta.concrete_fields if column.attname in given]
    choices = _products({name: given[name] for name in names}, field)
    made = [group.model.from_db(using, names, list(choice.values())) for choice in choices]
    pairs = [(instance, group) for instance in made]
    with suppress(KeyContextError):
        return list(dict.fromkeys(derive_contexts(pairs, using)))
    # Where no context can be derived, as of an organization that is not there, nothing can have been encrypted.
    found: dict[KeyContext, None] = {}
    for pair in pairs:
        with suppress(KeyContextError):
            found.update(dict.fromkeys(derive_contexts([pair], using)))
    return list(found)


def _ends(alias: str, group: Group, fixed: _Fixed) -> dict[str, list[str]] | None:
    """Return, by item, the texts at the ends of the context's paths, where the query fixes all of them."""
    ends: dict[str, list[str]] = {}
    bindings = {binding.name: binding for binding in group.bindings}
    for name, path in group.source.paths.items():
        values, last = _end(alias, group, path, bindings[name], fixed)
        if values is None:
            return None
        ends[name] = [text for value in values if (text := last.text(value))]
    return ends or None


def _end(alias: str, group: Group, path: str, binding: Binding, fixed: _Fixed) -> tuple[list[Any] | None, Binding]:
    """Return the values that the query fixes at the end of a path, and the column there."""
    field: Any = binding.field
    columns = list(_columns_of(alias, group, binding, fixed))
    for name in path.split(LOOKUP_SEP)[1:]:
        model, target = field.related_model, field.target_field.column
        aliases = [up for each in columns for up in fixed.equated(each, model._meta.db_table, target)]
        field = concrete_field(model, name)
        columns = [(each, field.column) for each in aliases]
    last = Binding(field.name, field)
    is_elsewhere = stands_elsewhere(path.rpartition(LOOKUP_SEP)[2], field)
    return None if is_elsewhere else fixed.values(columns), last


def _outside(group: Group) -> dict[str, str]:
    """Return the items that surround the query. Raises ``FieldError`` where there is no tenant."""
    found = group.source.now_outside()
    if empty := sorted(name for name, text in found.items() if not text):
        raise FieldError(
            f"{group.members[0].label} is looked up for the tenant that {', '.join(empty)} of its key context names, "
            "and there is none here: look it up where there is one."
        )
    return {name: text for name, text in found.items() if text}


def _products(lists: Mapping[str, Sequence[Any]], field: Any) -> Iterator[dict[str, Any]]:
    """Yield each choice of one value for each name. Raises ``FieldError`` if there are too many."""
    count = 1
    for values in lists.values():
        count *= len(values)
    if count > MAX_CONTEXTS:
        raise FieldError(
            f"{field.label} would be looked up for {count} tenants, and at most {MAX_CONTEXTS} are searched by one "
            "query. Look it up for fewer of them at a time."
        )
    for choice in product(*lists.values()):
        yield dict(zip(lists, choice, strict=True))
