"""The places of columns in the SELECT list of a query, those of the tables of parent models too."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Model
from django.db.models.expressions import Col, ColPairs

__all__ = ["all_found", "joined_from", "place_of", "selected_columns"]


def all_found(positions: Iterable[int | None]) -> tuple[int, ...] | None:
    found = list(positions)
    return None if None in found else tuple(position for position in found if position is not None)


def selected_columns(compiler: Any) -> Iterator[tuple[int, Any]]:
    position = 0
    for expression, _, _ in compiler.select[: compiler.col_count]:
        if isinstance(expression, ColPairs):
            yield from ((position + offset, column) for offset, column in enumerate(expression.get_cols()))
            position += len(expression)
        else:
            yield position, expression
            position += 1


def place_of(
    compiler: Any, positions: list[tuple[int, Any]], alias: str, model: type[Model], target: Any
) -> int | None:
    """
    Return the position where a column of the same row is selected, which may be in the joined table of a parent model.
    """
    for position, expression in positions:
        if isinstance(expression, Col) and expression.target == target:
            if expression.alias == alias:
                return position
            if target.model is not model and joined_from(compiler, expression.alias, alias):
                return position
    return None


def joined_from(compiler: Any, alias: str, child: str) -> bool:
    """Whether a table was joined because of another one."""
    joins = compiler.query.alias_map
    while (join := joins.get(alias)) is not None and getattr(join, "parent_alias", None):
        if join.parent_alias == child:
            return True
        alias = join.parent_alias
    return False
