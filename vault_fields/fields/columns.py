r"""
How an encrypted column appears in SQL.

A value opens only together with its companion and the row's own columns. An ordinary model load reads them anyway;
where a query selects the value without them - ``only()``, ``values()``, ``F()``, subqueries - they are selected along,
in one text with it:

    \x1e <mode> <JSON array of the row's own columns, as text> \x1f <companion> \x1f <value>

Mode ``v`` is opened while the rows are read; mode ``m`` belongs to a model instance, and is opened when touched. A
JSON array comes first because the database writes it, with control characters escaped: nothing that stands in the
companion can be taken for it.
"""

from typing import TYPE_CHECKING, Any

from django.db import NotSupportedError
from django.db.models import Count
from django.db.models.expressions import Col, OrderBy
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLUpdateCompiler

from vault_fields.fields.groups import group_of
from vault_fields.fields.lookups import refuse
from vault_fields.fields.reading import look_ahead

if TYPE_CHECKING:
    from vault_fields.fields.base import EncryptedField

__all__ = ["EncryptedCol"]


class EncryptedCol(Col):
    """
    A reference to an encrypted column, of use in a SELECT list and nowhere else.

    There must be a new one for each reference: whether this one is an annotation, a column of a model or part of
    another expression is told by identity.
    """

    target: "EncryptedField"
    # Whether the value is selected together with what opens it. The text itself does not tell: whoever writes to the
    # column could make it look so, and bring along the row's columns that it is to be compared with.
    is_tagged = False

    def plain(self) -> Col:
        """The bare column, for ``IS NULL``."""
        return Col(self.alias, self.target)

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        if use := self._forbidden_use(compiler):
            refuse(self.target, use)
        return super().as_sql(compiler, connection)

    def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
        if _orders_by(compiler.query, self):
            refuse(self.target, "ordering")
        look_ahead(compiler)
        mode = self._mode(compiler.query)
        self.is_tagged = mode is not None
        if mode is None:
            return sql, params
        return _with_companion(self, compiler, sql, mode), params

    def get_group_by_cols(self) -> list[Any]:
        return [_GroupingCol(self.alias, self.target, self.output_field)]

    def _mode(self, query: Any) -> str | None:
        if not query.default_cols or any(annotation is self for annotation in query.annotation_select.values()):
            return "v"
        names, defer = query.deferred_loading
        # Without only() and defer() the companion and the row's columns are in the row.
        return "m" if names or not defer else None

    def _forbidden_use(self, compiler: Any) -> str | None:
        query = compiler.query
        if not self.alias:
            return "use in constraints, indexes and generated columns"
        if isinstance(compiler, (SQLUpdateCompiler, SQLDeleteCompiler)) and not _selects_rows(compiler):
            return "use in an update or in the conditions of a delete"
        if compiler.select is not None:
            # The SELECT list is compiled: this is a condition, an order, or GROUP BY.
            grouping = query.group_by if isinstance(query.group_by, (list, tuple)) else ()
            return None if any(column is self for column in grouping) else "conditions, ordering or DISTINCT ON"
        for annotation in query.annotation_select.values():
            if annotation is self or (isinstance(annotation, Count) and not getattr(annotation, "distinct", False)):
                continue
            if any(part is self for part in annotation.flatten()):
                return f"use in {type(annotation).__name__}()"
        return None


class _GroupingCol(EncryptedCol):
    """An encrypted column in GROUP BY: every row is its own group, which is what grouping by it means."""

    def _forbidden_use(self, compiler: Any) -> None:
        return None


def _selects_rows(compiler: Any) -> bool:
    """Whether an update over several tables is selecting the rows that it is about."""
    query = compiler.query
    several = isinstance(compiler, SQLUpdateCompiler) and (query.related_updates or query.count_active_tables() != 1)
    return bool(several) and compiler.select is None


def _orders_by(query: Any, column: EncryptedCol) -> bool:
    """Whether the query sorts by the alias of this column, which the database would then do by ciphertext."""
    aliases = {alias for alias, annotation in query.annotation_select.items() if annotation is column}
    for alias, index in (query.selected or {}).items():
        if isinstance(index, int) and query.select[index] is column:
            aliases.add(alias)
    return any(_order_name(item) in aliases for item in (*query.order_by, *query.extra_order_by))


def _order_name(item: Any) -> Any:
    if isinstance(item, OrderBy):
        item = item.expression
    return item.lstrip("-+") if isinstance(item, str) else getattr(item, "name", None)


def _with_companion(column: EncryptedCol, compiler: Any, sql: str, mode: str) -> str:
    """
    The text that carries a value with all that opens it; NULL if the value is.

    Everything stands in the statement and nothing in its parameters, so that SELECT and GROUP BY agree.
    """
    field = column.target
    group = group_of(field)
    companion = _column(column.alias, field.model._meta.get_field(group.companion), compiler)
    bound = [_bound_sql(column.alias, field.model, binding.field, compiler) for binding in group.bound_columns(field)]
    vendor = compiler.connection.vendor
    if vendor == "sqlite":
        values = f"json_array({', '.join(f'CAST({value} AS TEXT)' for value in bound)})"
        return f"(char(30) || '{mode}' || {values} || char(31) || COALESCE({companion}, '') || char(31) || {sql})"
    if vendor == "postgresql":
        values = f"json_build_array({', '.join(f'({value})::text' for value in bound)})::text"
        return f"(chr(30) || '{mode}' || {values} || chr(31) || COALESCE({companion}, '') || chr(31) || {sql})"
    if vendor == "mysql":
        values = f"JSON_ARRAY({', '.join(f'CAST({value} AS CHAR)' for value in bound)})"
        tag, separator = "CHAR(30 USING utf8mb4)", "CHAR(31 USING utf8mb4)"
        text = f"CONCAT({tag}, '{mode}', {values}, {separator}, COALESCE({companion}, ''), {separator}, {sql})"
        # Above max_allowed_packet, CONCAT gives NULL: that must not be taken for a value that is not there.
        return f"CASE WHEN {sql} IS NOT NULL THEN COALESCE({text}, CONCAT({tag}, '!')) END"
    raise NotSupportedError(f"{field.label} can be read on SQLite, PostgreSQL, MySQL and MariaDB, not on {vendor}.")


def _column(alias: str, field: Any, compiler: Any) -> str:
    # How an alias is quoted differs between versions of Django.
    sql: str = Col(alias, field).as_sql(compiler, compiler.connection)[0]
    return sql


def _bound_sql(alias: str, model: Any, field: Any, compiler: Any) -> str:
    """A column of the row; where a parent of the model owns it, through the links to that parent."""
    owner = field.model._meta.concrete_model
    if model is owner:
        return _column(alias, field, compiler)
    link = model._meta.get_ancestor_link(owner)
    sql = _column(alias, link, compiler)
    while (parent := link.remote_field.model._meta.concrete_model) is not owner:
        next_link = parent._meta.get_ancestor_link(owner)
        sql = _parent_column(parent, next_link, link, sql, compiler)
        link = next_link
    return _parent_column(owner, field, link, sql, compiler)


def _parent_column(parent: Any, field: Any, link: Any, value: str, compiler: Any) -> str:
    quote = compiler.connection.ops.quote_name
    table = quote(parent._meta.db_table)
    key = quote(link.target_field.column)
    # Nothing here comes from outside: these are the names in the models.
    return f"(SELECT {table}.{quote(field.column)} FROM {table} WHERE {table}.{key} = {value})"  # noqa: S608
