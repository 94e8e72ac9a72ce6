"""Counts of rows of a column that hold encrypted values, or more text than another type of column takes."""

from typing import Any

from vault_fields.exceptions import EnvelopeError
from vault_fields.rows.presence import has_column
from vault_fields.stored import companion as companion_format

__all__ = ["encrypted_rows", "has_values", "longer_rows", "rows_without_keys"]


def encrypted_rows(connection: Any, table: str, column: str, companion: str | None) -> int:
    """
    Count the rows whose value begins as an envelope does, or as an envelope that was written back as a JSON string.

    Without a companion it cannot be opened anyway: it may be a text that a user typed like this.
    """
    return _count(connection, table, _is_encrypted(connection, column, companion), _BEGINNINGS)


def rows_without_keys(connection: Any, table: str, column: str, companion: str | None, keys: str) -> int:
    """
    Count those of them whose value names another data key than the companion in the column ``keys``, if that has any.

    With a companion, count only those that it opens: the others lose nothing.
    """
    quote, text = connection.ops.quote_name, _text(connection, column)
    rows = 0
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT SUBSTR({text}, 1, 200), {quote(keys)}, {quote(companion or keys)} FROM {quote(table)} "  # noqa: S608
            f"WHERE {_is_encrypted(connection, column, companion)}",
            _BEGINNINGS,
        )
        while batch := cursor.fetchmany(1000):
            for value, later, former in batch:
                key_id = value.split("$")[3]
                rows += _key_id(later) != key_id and (companion is None or _key_id(former) == key_id)
    return rows


def has_values(connection: Any, table: str, column: str) -> bool:
    if not has_column(connection, table, column):
        return False
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT 1 FROM {quote(table)} WHERE {quote(column)} IS NOT NULL LIMIT 1"  # noqa: S608
        )
        return cursor.fetchone() is not None


def _key_id(text: str | None) -> str | None:
    try:
        return companion_format.decode(text or "").key_id
    except EnvelopeError:
        return None


_BEGINNINGS = ["$vf$%$%", "$vf$", '"$vf$%$%', '"$vf$']


def _is_encrypted(connection: Any, column: str, companion: str | None) -> str:
    text = _text(connection, column)
    starts = " OR ".join(
        # LIKE takes "$VF$" for "$vf$" in SQLite.
        f"({text} LIKE %s AND SUBSTR({text}, 1, {end}) = %s AND SUBSTR({text}, {end + 1}, 1) BETWEEN '0' AND '9')"
        for end in (4, 5)
    )
    if companion is None:
        return f"({starts})"
    return f"{connection.ops.quote_name(companion)} IS NOT NULL AND ({starts})"


def longer_rows(connection: Any, table: str, column: str, length: int) -> int:
    """Count the rows whose text has more characters than ``length``."""
    function = "LENGTH" if connection.vendor == "sqlite" else "CHAR_LENGTH"
    return _count(connection, table, f"{function}({_text(connection, column)}) > %s", [length])


def _text(connection: Any, column: str) -> str:
    name = connection.ops.quote_name(column)
    if connection.vendor == "mysql":
        # Most collations of MySQL and MariaDB take "$VF$" for "$vf$".
        return f"CONVERT({name} USING utf8mb4) COLLATE utf8mb4_bin"
    return f"CAST({name} AS TEXT)"


def _count(connection: Any, table: str, condition: str, parameters: list[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT COUNT(*) FROM {connection.ops.quote_name(table)} WHERE {condition}",  # noqa: S608
            parameters,
        )
        count: int = cursor.fetchone()[0]
    return count
