"""
Updates of texts and hashes in many rows of one table, each row with values of its own, in as few statements as
possible.
"""

import re
from collections.abc import Sequence
from typing import Any

from django.db import connections
from django.db.models import Model, UUIDField

from vault_fields.fields.bindings import kept_class
from vault_fields.fields.interface import Encrypted
from vault_fields.runtime.frames import forgetful

__all__ = ["update"]

# Types for which PostgreSQL takes a list of a driver's values as an array. A limit of length is left out: a cast would
# cut a longer value, where an assignment refuses it.
_ARRAY_OF = re.compile(r"(text|varchar|uuid|bigint|integer|smallint)(\(\d+\))?")

_TEXTS = {"text", "varchar"}

# Control characters that no envelope and no companion has. Where a value has one, it is sent in a list.
_SEPARATOR, _NULL = "\x1f", "\x1e"


@forgetful
def update(model: type[Model], using: str, names: Sequence[str], rows: Sequence[tuple[Any, Sequence[Any]]]) -> None:
    """Give the columns ``names`` of each row, which is named by its primary key, these values, or None for NULL."""
    meta, connection = model._meta, connections[using]
    fields: list[Any] = [meta.get_field(name) for name in names]
    keys: list[Any] = [*meta.pk_fields]
    # A key that shows another number than it stores has to be converted.
    hashes = [number for number, field in enumerate(fields) if _is_plain_uuid(field)]
    if hashes:
        rows = [(pk, _as_stored(values, fields, hashes, connection)) for pk, values in rows]
    if kept_class(meta.pk) is int and all(type(pk) is int for pk, _ in rows):
        parameters = [(*values, pk) for pk, values in rows]
    else:
        parameters = [(*values, *_key(keys, pk, connection)) for pk, values in rows]
    types = _array_types(fields, keys, connection)
    with connection.cursor() as cursor:
        if types is None:
            # One statement, prepared once. bulk_update() would have the database search a CASE of the whole batch
            # for each row, in time that grows with its square.
            cursor.executemany(_each(meta, fields, keys, connection), parameters)
        else:
            arrays = [_array(kind, each) for kind, each in zip(types, zip(*parameters, strict=True), strict=True)]
            sql = _at_once(meta, fields, keys, [array for array, _ in arrays], connection)
            cursor.execute(sql, [given for _, several in arrays for given in several])


def _is_plain_uuid(field: Any) -> bool:
    return isinstance(field, UUIDField) and not isinstance(field, Encrypted)


def _as_stored(values: Sequence[Any], fields: Sequence[Any], hashes: Sequence[int], connection: Any) -> list[Any]:
    """Return the values of one row, hashes as the driver of the database takes them."""
    stored = list(values)
    for number in hashes:
        stored[number] = fields[number].get_db_prep_value(stored[number], connection)
    return stored


def _key(keys: Sequence[Any], pk: Any, connection: Any) -> list[Any]:
    values = pk if len(keys) > 1 else (pk,)
    return [key.get_db_prep_value(value, connection) for key, value in zip(keys, values, strict=True)]


def _array_types(fields: Sequence[Any], keys: Sequence[Any], connection: Any) -> list[str] | None:
    """Return the types of the columns, if this database takes a column of a batch as one parameter."""
    if connection.vendor != "postgresql":
        return None
    types = [field.db_type(connection) for field in fields] + [key.rel_db_type(connection) for key in keys]
    found = [_ARRAY_OF.fullmatch(each or "") for each in types]
    return [match[1] for match in found if match] if all(found) else None


def _array(kind: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    """An array of these values in SQL, with its parameters."""
    if kind in _TEXTS:
        # One string, which is quoted many times faster than each text of a list. A companion is full of quotes.
        joined = _SEPARATOR.join([_NULL if value is None else value for value in values])
        is_sound = joined.count(_SEPARATOR) == len(values) - 1 and joined.count(_NULL) == values.count(None)
        if is_sound and joined:
            return "string_to_array(%s, %s, %s)", [joined, _SEPARATOR, _NULL]
    return f"%s::{kind}[]", [list(values)]


def _each(meta: Any, fields: Sequence[Any], keys: Sequence[Any], connection: Any) -> str:
    quote = connection.ops.quote_name
    assignments = ", ".join(f"{quote(field.column)} = %s" for field in fields)
    condition = " AND ".join(f"{quote(key.column)} = %s" for key in keys)
    return f"UPDATE {quote(meta.db_table)} SET {assignments} WHERE {condition}"  # noqa: S608


def _at_once(meta: Any, fields: Sequence[Any], keys: Sequence[Any], arrays: Sequence[str], connection: Any) -> str:
    quote = connection.ops.quote_name
    table = quote(meta.db_table)
    given = [f"c{number}" for number in range(len(arrays))]
    assignments = ", ".join(f"{quote(field.column)} = given.{each}" for field, each in zip(fields, given, strict=False))
    matched = zip(keys, given[len(fields) :], strict=True)
    condition = " AND ".join(f"{table}.{quote(key.column)} = given.{each}" for key, each in matched)
    return (
        f"UPDATE {table} SET {assignments} FROM unnest({', '.join(arrays)}) AS given({', '.join(given)}) "  # noqa: S608
        f"WHERE {condition}"
    )
