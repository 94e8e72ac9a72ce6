"""Type checks of what is read from a keystore: a value of another type than its column's means damage."""

import json
from collections.abc import Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from vault_fields.exceptions import VaultUnavailable

__all__ = ["Malformed", "json_object", "moment", "texts", "typed"]


class Malformed(VaultUnavailable):
    """A value that no release writes. ``Connections.use`` names the file."""


def typed(row: Sequence[Any] | None, *kinds: type) -> Sequence[Any]:
    """
    Return the row, if there is one and its first columns are of these types. Raises ``Malformed``.

    SQLite keeps a value of any type in a column of any other, and a flipped bit makes NULL of what is never NULL.
    """
    if row is None or not all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=False)):
        raise Malformed("A row of the keystore is damaged.")
    return row


def texts(connection: Connection, query: str, *parameters: str) -> list[str]:
    """Return the one column of a query. Raises ``Malformed``."""
    return [str(typed(row, str)[0]) for row in connection.execute(query, parameters)]


def moment(text: object) -> datetime:
    """Return a stored point in time. Raises ``Malformed``."""
    try:
        return datetime.fromisoformat(str(typed([text], str)[0]))
    except ValueError:
        raise Malformed("A row of the keystore is damaged.") from None


def json_object(text: str) -> dict[str, Any]:
    """Return a stored JSON object. Raises ``Malformed``."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    return dict(typed([parsed], dict)[0])
