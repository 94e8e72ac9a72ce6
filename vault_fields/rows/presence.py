"""
Tests whether a database has a table or a column, by a statement with its quoted name, as other code names it.

The lists that a database gives of its tables are no answer: they leave out what is in another schema, and spell names
as they were created, where the database accepts other spellings too.
"""

from typing import Any

from django.db import DatabaseError, transaction

__all__ = ["has_column", "has_table"]

# A name that no column has: PostgreSQL takes the name of a table for its whole row.
_TABLE = "vault_fields_asked"

# PostgreSQL: no such table, column, schema. MySQL and MariaDB: no such database, column, table.
_ABSENT = {"42P01", "42703", "3F000", 1049, 1054, 1146}
# SQLite has no codes for them.
_ABSENT_IN_SQLITE = ("no such column", "no such table")


def has_table(connection: Any, table: str) -> bool:
    """Whether the table exists. Raises ``DatabaseError`` if the database does not answer."""
    return _answers(connection, table, "1")


def has_column(connection: Any, table: str, column: str) -> bool:
    """Whether the column exists. Raises ``DatabaseError`` if the database does not answer, or must not be read from."""
    name = connection.ops.quote_name(column)
    # SQLite takes a quoted name that no column has for a text; PostgreSQL takes a.count for count(a).
    return _answers(connection, table, f"{_TABLE}.{name}" if connection.vendor == "sqlite" else name)


def _answers(connection: Any, table: str, what: str) -> bool:
    sql = f"SELECT {what} FROM {connection.ops.quote_name(table)} {_TABLE} WHERE 1 = 0"  # noqa: S608
    try:
        # In a savepoint: after an error PostgreSQL answers nothing more in a transaction.
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(sql)
    except DatabaseError as error:
        if _is_absent(connection, error):
            return False
        raise
    return True


def _is_absent(connection: Any, error: DatabaseError) -> bool:
    if connection.vendor == "sqlite":
        return str(error).startswith(_ABSENT_IN_SQLITE)
    cause = error.__cause__
    # The names that psycopg 3 and psycopg2 use for it. Drivers for MySQL have it first.
    codes = (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None), *error.args[:1])
    return any(code in _ABSENT for code in codes)
