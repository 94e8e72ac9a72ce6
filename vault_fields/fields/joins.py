"""The columns that the joins of one query make equal, and the aliases that stand for the same row because of that."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Model
from django.db.models.sql.constants import LOUTER
from django.db.models.sql.query import Query

from vault_fields.fields.bindings import column_type

__all__ = ["Column", "Joins"]

# An alias of the query, and the name of a column in its table.
Column = tuple[str, str]


class Joins:
    """
    The joins of a query as they are when it is compiled.

    Two columns are equal if a chain of joins compares them, and both their rows are there. That is enough for outer
    joins too: where one row is missing, no condition on it is true, and no lookup in it is either.
    """

    def __init__(self, query: Query) -> None:
        # Aliases without references are not in the statement.
        self._joins: dict[str, Any] = {
            alias: join for alias, join in query.alias_map.items() if query.alias_refcount[alias]
        }
        self._nearer: dict[Column, Column] = {}
        for alias, join in self._joins.items():
            # The first table is joined to nothing.
            for left, right in getattr(join, "join_fields", ()):
                # Columns of two types may be equal for the database and yet name two tenants.
                if column_type(left) == column_type(right):
                    self._nearer[self._one_of(join.parent_alias, left)] = self._one_of(alias, right)

    def _one_of(self, alias: str, field: Any) -> Column:
        return self._representative((alias, field.column))

    def _representative(self, column: Column) -> Column:
        while (nearer := self._nearer.get(column, column)) != column:
            column = nearer
        return column

    def are_equal(self, one: Column, other: Column) -> bool:
        return self._representative(one) == self._representative(other)

    def is_there(self, alias: str, own: str) -> bool:
        """Whether a row of ``alias`` cannot be missing where one of ``own`` is there."""
        return alias == own or getattr(self._joins.get(alias), "join_type", None) != LOUTER

    def targets(self, aliases: Iterable[str], key: Any) -> list[str]:
        """Return the aliases that stand for the row to which a foreign key of these points."""
        target = key.target_field
        columns = [(alias, key.column) for alias in aliases]
        return [
            other
            for other, join in self._joins.items()
            if join.table_name == target.model._meta.db_table
            and any(self.are_equal((other, target.column), column) for column in columns)
        ]

    def tables(self, aliases: Sequence[str], model: type[Model], field: Any) -> Sequence[str]:
        """Return the aliases for that part of a row, of the model's own table or a parent's, which has a column."""
        if field.model._meta.concrete_model is model._meta.concrete_model:
            return aliases
        link: Any = model._meta.get_ancestor_link(field.model)
        return self.targets(self.tables(aliases, model, link), link)
