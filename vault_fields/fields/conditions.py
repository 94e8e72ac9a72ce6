"""
Conditions of a query that hold wherever one of its lookups counts: which columns have which values there?

A condition holds at a lookup if the query gives the same rows, whatever the lookup says, where the condition is not
true. That is so for the conditions that stand beside it, or beside a part that it is in, under AND. It is not so
for those under OR, XOR or NOT, from which nothing is inferred.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.db.models import Field, Model
from django.db.models.expressions import Col
from django.db.models.fields.related_lookups import RelatedExact, RelatedIn, RelatedIsNull
from django.db.models.lookups import Exact, In, IntegerFieldExact, IsNull
from django.db.models.sql.query import Query
from django.db.models.sql.subqueries import UpdateQuery
from django.db.models.sql.where import AND, XOR, WhereNode

from vault_fields.fields.bindings import Binding, column_type
from vault_fields.fields.joins import Column, Joins

__all__ = ["Conditions", "conditions_at"]

# A subclass may mean something else by the same name.
_EXACT = {Exact, IntegerFieldExact, RelatedExact}
_IN = {In, RelatedIn}
_IS_NULL = {IsNull, RelatedIsNull}

_ABSENT = (None,)


@dataclass(frozen=True, slots=True)
class _Fact:
    """A column that has one of these values, as the database gets them; or is not NULL, and no more is known."""

    column: Column
    target: "Field[Any, Any]"
    values: tuple[Any, ...] | None


class Conditions:
    """Conditions that hold in one place of a query. A row is known by the aliases that may stand for it."""

    def __init__(self, joins: Joins, facts: Sequence[_Fact]) -> None:
        self._joins = joins
        self._facts = facts

    # An item of the list is None for a column that is NULL.
    def values(self, aliases: Sequence[str], model: type[Model], field: Any) -> list[Any] | None:
        """Return the values that a column may have, as it loads them; None if every value is possible."""
        found: list[tuple[Any, ...]] = []
        for alias in self._joins.tables(aliases, model, field):
            column = alias, field.column
            found += [
                fact.values
                for fact in self._facts
                if fact.values is not None
                and (fact.column == column or (fact.values != _ABSENT and self._joins.are_equal(fact.column, column)))
            ]
        load = Binding(field.name, field).loaded
        return [None if value is None else load(value) for value in min(found, key=len)] if found else None

    def related(self, aliases: Sequence[str], model: type[Model], key: Any) -> list[str]:
        """Return the aliases, if the query has any, that stand for the row to which a foreign key points."""
        return self._joins.targets(self._joins.tables(aliases, model, key), key)


def conditions_at(lookup: Any, query: Query, connection: Any, nulls_count: bool) -> Iterator[Conditions]:
    """
    Yield what holds in each place where the query has this very lookup: combined queries share theirs.

    With ``nulls_count`` a row may have a value in spite of a NULL in a column that is asked for.
    """
    joins = Joins(query)
    own = lookup.lhs.alias
    in_all_rows = [fact for leaf in _holding(query.where) if (fact := _fact(leaf, connection))]
    paths = [(path, path[0] is query.where) for root in _roots(query) for path in _paths(root, lookup, ())]
    # In no place: it is compiled from a copy, as an ordering is.
    for path, is_filter in paths or [((), False)]:
        certain = [fact for fact in in_all_rows if is_filter or fact.values != _ABSENT]
        doubtful: list[_Fact] = []
        is_negated, is_same = False, is_filter
        for node, child in pairwise(path):
            is_negated ^= node.negated
            is_same = is_same and node.connector != XOR
            if node.connector == AND:
                beside = (leaf for other in node.children if other is not child for leaf in _holding(other))
                # Where no NOT and no XOR sees it, NULL is as good as false.
                into = certain if is_same and not is_negated else doubtful
                into += [fact for leaf in beside if (fact := _fact(leaf, connection))]
        present = {fact.column for fact in (*certain, *doubtful) if fact.values is None}
        certain += [
            fact
            for fact in doubtful
            if fact.column in present
            or (joins.is_there(fact.column[0], own) and not (nulls_count and fact.target.null))
        ]
        yield Conditions(
            joins, [fact for fact in certain if fact.values != _ABSENT or joins.is_there(fact.column[0], own)]
        )


def _roots(query: Any) -> Iterator[Any]:
    """Yield all that a query compiles and that may have conditions in it."""
    yield query.where
    yield from query.annotations.values()
    if isinstance(query, UpdateQuery):
        yield from (value for _, _, value in query.values)  # type: ignore[attr-defined]
    for join in query.alias_map.values():
        if join.filtered_relation is not None:
            yield join.filtered_relation.resolved_condition


def _paths(node: Any, lookup: Any, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """
    Yield the nodes from the outermost to the lookup, for each place where it is.

    Within an expression the path begins anew: its conditions may be about more rows than the one that is asked for.
    """
    if node is lookup:
        yield (*above, node)
    elif isinstance(node, WhereNode):
        for child in node.children:
            yield from _paths(child, lookup, (*above, node))
    elif not isinstance(node, Query) and hasattr(node, "get_source_expressions"):
        for expression in node.get_source_expressions():
            yield from _paths(expression, lookup, ())


def _holding(node: Any) -> Iterator[Any]:
    """Yield the leaves that are true wherever the node is."""
    if not isinstance(node, WhereNode):
        yield node
    elif node.connector == AND and not node.negated:
        for child in node.children:
            yield from _holding(child)


def _fact(leaf: Any, connection: Any) -> _Fact | None:
    if type(getattr(leaf, "lhs", None)) is not Col:
        return None
    column, target, kind = (leaf.lhs.alias, leaf.lhs.target.column), leaf.lhs.target, type(leaf)
    if kind in _IS_NULL:
        return _Fact(column, target, _ABSENT if leaf.rhs else None)
    if kind not in _EXACT | _IN or not leaf.rhs_is_direct_value():
        return None
    # Nothing is equal to NULL. A list with expressions in it is an expression.
    values = [value for value in (leaf.rhs if kind in _IN else [leaf.rhs]) if value is not None]
    compared = column_type(leaf.lhs.output_field)
    stored = (compared.get_db_prep_value(value, connection, prepared=True) for value in values)
    return _Fact(column, target, tuple(dict.fromkeys(stored)))
