"""Pages of a table, walked in either direction by cursors."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Page", "Window", "fetch_page"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """
    The page to fetch. ``after`` and ``before`` are values of the column that orders the table.

    The page follows ``after``, or else leads up to ``before``.
    """

    limit: int
    after: Any = None
    before: Any = None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """
    A page of items. ``before`` and ``after`` are the cursors of the neighbouring pages; None where there is no more.
    """

    items: list[T]
    before: str | None
    after: str | None


def fetch_page(
    connection: sqlite3.Connection,
    select: str,
    conditions: Sequence[tuple[str, Any]],
    key: str,
    window: Window,
    make: Callable[..., T],
    cursor: Callable[[T], str],
    alternatives: Sequence[tuple[str, Any]] = (),
) -> Page[T]:
    """
    Return the page of ``select`` that the window asks for.

    Each condition is SQL with one placeholder, and its parameter. ``key`` is the column that orders the rows, ``make``
    turns the columns of a row into an item, and ``cursor`` returns an item's place.

    If there are ``alternatives``, one has to hold, and no row may satisfy two. Each has a query of its own, in the
    order of an index that has it before ``key``: a page of rare rows reads none of the others. ``select`` must then
    have ``key`` among its columns.
    """
    conditions = list(conditions)
    forward, backward = ("<", ">") if window.descending else (">", "<")
    if window.after is not None:
        conditions.append((f"{key} {forward} ?", window.after))
    if window.before is not None:
        conditions.append((f"{key} {backward} ?", window.before))
    # The page before a cursor is read backwards from the cursor.
    reverse = window.after is None and window.before is not None
    direction = "DESC" if window.descending != reverse else "ASC"
    order = f"ORDER BY {key} {direction} LIMIT ?"
    # One row more than asked for tells whether there is another page.
    limit = window.limit + 1
    queries, parameters = [], []
    for alternative in [[each] for each in alternatives] or [[]]:
        where = " AND ".join([condition for condition, _ in [*conditions, *alternative]])
        queries.append(f"{select} WHERE {where} {order}")
        parameters += [*[parameter for _, parameter in [*conditions, *alternative]], limit]
    if queries[1:]:
        queries = [" UNION ALL ".join([f"SELECT * FROM ({query})" for query in queries]) + f" {order}"]  # noqa: S608
        parameters.append(limit)
    rows = connection.execute(queries[0], parameters).fetchall()
    more = len(rows) > window.limit
    items = [make(*row) for row in rows[: window.limit]]
    if reverse:
        items.reverse()
    earlier, later = (more, True) if reverse else (window.after is not None, more or window.before is not None)
    return Page(
        items,
        cursor(items[0]) if items and earlier else None,
        cursor(items[-1]) if items and later else None,
    )
