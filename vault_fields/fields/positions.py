"""
The position of an encrypted value in a statement, found out from how Django builds the statement.

``SQLCompiler`` compiles each expression through ``compile()``, a SELECT list in ``get_select()``, GROUP BY in
``get_group_by()`` and the parts of a set operation in ``get_combinator_sql()``. Each of them leaves a trace while it
runs, at which a value looks up: what is directly around it, and in which clause of which query. A query may be
compiled any number of times, and parts of it may be moved into other queries. In a Django that did these things
elsewhere, nothing would be in a SELECT list, and everything would be refused.
"""

import functools
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from django.core.exceptions import FieldError
from django.db.models import Case, Count, Exists, Expression, Subquery, Value, When
from django.db.models.expressions import Col, Ref
from django.db.models.lookups import IsNull
from django.db.models.sql import Query
from django.db.models.sql.compiler import (
    SQLAggregateCompiler,
    SQLCompiler,
    SQLDeleteCompiler,
    SQLInsertCompiler,
    SQLUpdateCompiler,
)

from vault_fields.fields.interface import Encrypted
from vault_fields.fields.lookups import refuse

__all__ = ["Selected", "encrypted_field", "is_asked_for_null", "require_readable", "trace_compilers"]

_WRITES = (SQLUpdateCompiler, SQLDeleteCompiler, SQLInsertCompiler)


class _Clause(Enum):
    SELECT = "a SELECT list"
    GROUP_BY = "GROUP BY"
    COMBINED = "UNION, INTERSECT or EXCEPT"


class _Step(NamedTuple):
    """A step of a compiler: a clause, or an expression."""

    compiler: Any
    at: Any


class _Trace(threading.local):
    """The steps that led to what this thread compiles just now, the outermost first."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []


_trace = _Trace()

Selected = Callable[[Any, list[Any]], None]


def trace_compilers(wrap: Callable[[type, str, Callable[..., Any]], None], on_selected: Selected) -> None:
    """Make compilers leave their trace. ``on_selected`` is called for each SELECT list, with its compiler."""
    wrap(SQLCompiler, "compile", _compile)
    wrap(SQLCompiler, "get_select", functools.partial(_get_select, on_selected))
    wrap(SQLCompiler, "get_group_by", functools.partial(_in_clause, _Clause.GROUP_BY))
    wrap(SQLCompiler, "get_combinator_sql", functools.partial(_in_clause, _Clause.COMBINED))
    wrap(SQLCompiler, "execute_sql", _execute_sql)


def _compile(original: Callable[..., Any], self: Any, node: Any) -> Any:
    if type(node) is Col:
        return original(self, node)  # Most of what is compiled, and nothing is in it.
    steps = _trace.steps
    steps.append(_Step(self, node))
    try:
        if _is_name(node) and (field := encrypted_field(node)):
            require_readable(field, node)
        return original(self, node)
    finally:
        steps.pop()


def _is_name(node: Any) -> bool:
    """Whether an expression names another one in a way that no column sees: as SQL or an expression of one's own."""
    if isinstance(node, Ref):
        return True
    is_other = isinstance(node, Expression) and not isinstance(node, (Col, Value, Subquery))
    return is_other and not node.get_source_expressions()


def _in_clause(clause: _Clause, original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    steps = _trace.steps
    steps.append(_Step(self, clause))
    try:
        return original(self, *args, **kwargs)
    finally:
        steps.pop()


def _get_select(on_selected: Selected, original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    result = _in_clause(_Clause.SELECT, original, self, *args, **kwargs)
    on_selected(self, [expression for expression, _, _ in result[0]])
    return result


def _execute_sql(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    # A lazy value may run a query of its own while another one is compiled.
    outer, _trace.steps = _trace.steps, []
    try:
        return original(self, *args, **kwargs)
    finally:
        _trace.steps = outer


def combining() -> Any:
    """Return the compiler of the set operation for which a part is being compiled, if any."""
    step = _trace.steps[-1] if _trace.steps else None
    return step.compiler if step is not None and step.at is _Clause.COMBINED else None


def encrypted_field(expression: Any) -> Encrypted | None:
    """Return the encrypted field whose stored text an expression gives, or was computed from."""
    try:
        field = expression.output_field
    except (AttributeError, FieldError):
        return None  # Nothing with a type of its own, as a subquery of several columns.
    return field if getattr(field, "is_encrypted", False) else None


def is_whole(expression: Any) -> bool:
    """Whether an expression gives a subquery's selection as it is."""
    if isinstance(expression, Exists) or not isinstance(expression, Subquery):
        return isinstance(expression, Query)
    # ArraySubquery has its own template; others compute from the text in methods of their own.
    is_plain = type(expression).as_sql is Subquery.as_sql and expression.template == Subquery.template
    return is_plain and not expression.extra


def is_asked_for_null(holder: Any) -> bool:
    """Whether an expression only asks whether there is a value."""
    return type(holder) is IsNull or (isinstance(holder, Count) and not getattr(holder, "distinct", False))


def require_readable(field: Encrypted, value: Any) -> None:
    """
    Refuse the encrypted value that is being compiled unless it is selected as it is, or asked whether it is NULL.

    Follows a value out of the subqueries that select it, up to its use.
    """
    steps = _trace.steps
    if not steps or steps[-1].at is not value:
        refuse(field, _use(steps, value))  # Compiled behind the compiler's back.
    position = len(steps) - 1
    is_branch = False
    while position > 0:
        holder = steps[position - 1].at
        if is_asked_for_null(holder):
            return
        if isinstance(holder, (Case, When)):
            is_branch = True
            position -= 1
            continue
        if is_branch or not isinstance(holder, _Clause):
            break
        if holder is _Clause.GROUP_BY:
            return
        position -= 2
        while position >= 0 and steps[position].at is _Clause.COMBINED:
            position -= 1
        if position < 0 or isinstance(steps[position].at, Exists):
            return
        if not is_whole(steps[position].at) or encrypted_field(steps[position].at) != field:
            position += 1
            break
    refuse(field, _use(steps[:position], value))


def _use(holders: list[_Step], value: Any) -> str:
    """Return, in words, the use that the surrounding expressions make of a value."""
    if getattr(value, "alias", value) is None:
        return "use in constraints, indexes and generated columns"
    compiler = holders[0].compiler if holders else _trace.steps[0].compiler if _trace.steps else None
    if isinstance(compiler, _WRITES):
        return "use in an update or in the conditions of a delete"
    selects = [index for index, step in enumerate(holders) if step.at is _Clause.SELECT]
    start = selects[-1] + 1 if selects else 0
    if (selects or isinstance(compiler, SQLAggregateCompiler)) and start < len(holders):
        return f"use in {type(holders[start].at).__name__}()"
    if isinstance(value, Ref):
        return "ordering"
    return "conditions, ordering or DISTINCT ON"
