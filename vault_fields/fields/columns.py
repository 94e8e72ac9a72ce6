r"""
The SQL of an encrypted column.

A value opens only together with its companion and the row's own columns. An ordinary model load reads them anyway;
where a query selects the value without them - ``only()``, ``values()``, ``F()``, subqueries - they are selected along,
in one text with it:

    \x1e <mode> <JSON array of the row's own columns, as text> \x1f <companion> \x1f <value>

Mode ``v`` is opened while the rows are read; mode ``m`` belongs to a model instance, and is opened when touched. A
JSON array comes first because the database writes it, with control characters escaped: nothing in the companion can be
taken for it.
"""

from typing import Any

from django.db import NotSupportedError
from django.db.models.expressions import Col, ColPairs

from vault_fields.fields.groups import group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.lookups import refuse
from vault_fields.fields.positions import combining, encrypted_field, require_readable
from vault_fields.fields.reading import look_ahead
from vault_fields.fields.selectlist import joined_from

__all__ = ["EncryptedCol", "require_comparable"]


class EncryptedCol(Col):
    """
    A reference to an encrypted column: selected as it is, or asked whether it is NULL.

    There must be a new one for each reference: its identity tells whether it is an annotation or a column of a model.
    """

    target: Encrypted
    # Whether the value is selected together with the columns that open it. The text itself does not tell: anyone who
    # writes to the column could make it look so, and bring along the row's columns with which it is compared.
    is_tagged = False

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        require_readable(self.target, self)
        return super().as_sql(compiler, connection)

    def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
        look_ahead(compiler)
        mode = self._mode(compiler.query)
        self.is_tagged = mode is not None
        if mode is None:
            return sql, params
        return _with_companion(self, compiler, sql, mode), params

    def _mode(self, query: Any) -> str | None:
        if not query.default_cols or any(annotation is self for annotation in query.annotation_select.values()):
            return "v"
        names, defer = query.deferred_loading
        # Without only() and defer() the companion and the row's columns are in the row.
        return "m" if names or not defer else None


def require_comparable(compiler: Any, expressions: list[Any]) -> None:
    """Refuse a SELECT list in which the database would compare encrypted values: by ciphertext, so never equal."""
    query = compiler.query
    if (whole := combining()) is not None:
        for (first, _, _), other in zip(whole.select, expressions, strict=False):
            _require_same(first, other)
    if not query.distinct:
        return
    for name in query.distinct_fields:
        if name in query.annotation_select and (field := encrypted_field(query.annotation_select[name])):
            refuse(field, "conditions, ordering or DISTINCT ON")
    if query.distinct_fields:
        return
    for expression in expressions:
        field = encrypted_field(expression)
        if field and not _is_identified(compiler, expression, expressions):
            refuse(field, "DISTINCT without the primary key of its row")


def _require_same(first: Any, other: Any) -> None:
    """Refuse rows of two queries that cannot be read as those of the first."""
    fields = encrypted_field(first), encrypted_field(other)
    is_same = fields[0] == fields[1] and getattr(first, "is_tagged", True) == getattr(other, "is_tagged", True)
    field = fields[0] or fields[1]
    if field and not is_same:
        refuse(field, "being combined with anything but the same column, selected in the same way")


def _is_identified(compiler: Any, expression: Any, expressions: list[Any]) -> bool:
    """Whether rows that are equal in everything else are the same row, whose values are the same."""
    alias = getattr(expression, "alias", compiler.query.base_table)
    selected: dict[str, set[Any]] = {}
    for column in expressions:
        for part in column.get_cols() if isinstance(column, ColPairs) else [column]:
            if isinstance(part, Col):
                selected.setdefault(part.alias, set()).add(part.target)
    for other, targets in selected.items():
        meta = next(iter(targets)).model._meta
        if set(meta.pk_fields) <= targets and (
            # Parents of a row have tables of their own.
            other == alias or (expression.target.model in meta.all_parents and joined_from(compiler, alias, other))
        ):
            return True
    return False


def _with_companion(column: EncryptedCol, compiler: Any, sql: str, mode: str) -> str:
    """
    Return the text that carries a value with everything that opens it; NULL if the value is NULL.

    Everything is in the statement and nothing in its parameters, so that SELECT and GROUP BY agree.
    """
    field = column.target
    group = group_of(field)
    companion = _column(column.alias, field.model._meta.get_field(group.companion), compiler)
    bound = [_bound_sql(column.alias, field.model, binding.field, compiler) for binding in group.bound_columns(field)]
    vendor = compiler.connection.vendor
    if vendor == "sqlite":
        # Of any type, in any column. The bytes of a BLOB are not put into a text, which nobody could read then.
        texts = (
            f"CASE typeof({each}) WHEN 'blob' THEN char(30) || hex({each}) ELSE CAST({each} AS TEXT) END"
            for each in bound
        )
        values = f"json_array({', '.join(texts)})"
        text = f"char(30) || '{mode}' || {values} || char(31) || COALESCE({companion}, '') || char(31) || {sql}"
        damaged = f"{sql} IS NOT NULL AND 'blob' IN (typeof({sql}), typeof({companion}))"
        return f"CASE WHEN {damaged} THEN char(30) || '{mode}?' ELSE {text} END"
    if vendor == "postgresql":
        values = f"json_build_array({', '.join(f'({value})::text' for value in bound)})::text"
        return f"(chr(30) || '{mode}' || {values} || chr(31) || COALESCE({companion}, '') || chr(31) || {sql})"
    if vendor == "mysql":
        values = f"JSON_ARRAY({', '.join(f'CAST({value} AS CHAR)' for value in bound)})"
        tag, separator = "CHAR(30 USING utf8mb4)", "CHAR(31 USING utf8mb4)"
        text = f"CONCAT({tag}, '{mode}', {values}, {separator}, COALESCE({companion}, ''), {separator}, {sql})"
        # Above max_allowed_packet, CONCAT gives NULL, which must not be taken for a missing value.
        return f"CASE WHEN {sql} IS NOT NULL THEN COALESCE({text}, CONCAT({tag}, '!')) END"
    raise NotSupportedError(f"{field.label} can be read on SQLite, PostgreSQL, MySQL and MariaDB, not on {vendor}.")


def _column(alias: str, field: Any, compiler: Any) -> str:
    # The quoting of an alias differs between versions of Django.
    sql: str = Col(alias, field).as_sql(compiler, compiler.connection)[0]
    return sql


def _bound_sql(alias: str, model: Any, field: Any, compiler: Any) -> str:
    """Return a column of the row; where a parent of the model owns it, through the links to that parent."""
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
