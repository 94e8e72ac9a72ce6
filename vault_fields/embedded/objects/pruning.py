"""Deleting older versions of stored objects: never the current one, and a few at a time."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from sqlite3 import Connection
from typing import Any

from vault_fields.embedded.database.columns import typed
from vault_fields.embedded.database.connections import Connections
from vault_fields.embedded.events.event import Event, insert, timestamp
from vault_fields.embedded.events.log import PAUSE
from vault_fields.embedded.managed.tags import RowsAltered, RowTags, TaggedRows

__all__ = ["Outdated", "Pruning"]

# In one transaction: values are up to 256 KiB long, and are overwritten in place.
PRUNED_AT_ONCE = 100

_FROM = "FROM object JOIN object_version AS version ON version.object_id = object.id WHERE object.environment = ?"
_NEWER = "FROM object_version AS newer WHERE newer.object_id = object.id AND newer.id > version.id ORDER BY newer.id"
# The current version of an object, with the facts that an event reports.
_CURRENT = (
    "SELECT object.name, object.context, version.data_key_id"
    " FROM object LEFT JOIN object_version AS version ON version.id = object.version_id"
    " WHERE object.environment = ? AND object.id = ?"
)


@dataclass(frozen=True, slots=True)
class Outdated:
    """
    The choice of versions to delete: older than the newest ``keep`` of their object, and replaced before a moment.

    A condition that is None is not applied.
    """

    keep: int | None = None
    replaced_before: datetime | None = None

    def __post_init__(self) -> None:
        if self.keep is None and self.replaced_before is None:
            raise ValueError("Say how many versions are kept, or before when the others were replaced.")
        if self.keep is not None and self.keep < 1:
            raise ValueError("At least one version of an object is kept.")

    def condition(self) -> tuple[str, list[Any]]:
        """
        Return the choice as SQL over ``version`` and ``object``, with its parameters. The ids sort versions by age.
        """
        condition, parameters = " AND version.id <> object.version_id", list[Any]()
        if self.keep is not None:
            condition += f" AND (SELECT newer.id {_NEWER} LIMIT 1 OFFSET ?) IS NOT NULL"
            parameters.append(self.keep - 1)
        if self.replaced_before is not None:
            condition += f" AND (SELECT newer.created_at {_NEWER} LIMIT 1) < ?"
            parameters.append(timestamp(self.replaced_before))
        return condition, parameters


class Pruning:
    """The outdated versions among the objects of one environment."""

    def __init__(self, connections: Connections, tags: RowTags, environment: str, outdated: Outdated) -> None:
        self._connections = connections
        self._tags = tags
        self._environment = environment
        condition, parameters = outdated.condition()
        self._outdated = f"{_FROM}{condition}"
        self._parameters = [environment, *parameters]

    def count(self) -> int:
        with self._connections.use() as connection:
            (number,) = connection.execute(f"SELECT count(*) {self._outdated}", self._parameters).fetchone()
        return int(number)

    def run(self, advance: Callable[[int], object]) -> int:
        """
        Delete the outdated versions; return how many there were.

        It uses many transactions, with a pause after each in which others write. ``advance`` is called with the number
        of versions deleted for good. Raises ``RowsAltered`` after all others are done, if the row of an object was
        edited: which of its versions is the current one is then unknown.
        """
        deleted, fault, found = 0, None, self._after("", "")
        while found:
            number, altered = self._delete(found)
            deleted, fault = deleted + number, fault or altered
            advance(number)
            if found := self._after(*found[-1]):
                time.sleep(PAUSE)
        if fault is not None:
            raise fault
        return deleted

    def _after(self, object_id: str, version_id: str) -> list[tuple[str, str]]:
        """Return the next versions, as the ids of object and version, in that order."""
        query = (
            f"SELECT object.id, version.id {self._outdated} AND object.id >= ? AND (object.id > ? OR version.id > ?)"
            " ORDER BY object.id, version.id LIMIT ?"
        )
        parameters = [*self._parameters, object_id, object_id, version_id, PRUNED_AT_ONCE]
        with self._connections.use() as connection:
            rows = connection.execute(query, parameters).fetchall()
            return [(str(row[0]), str(row[1])) for row in rows if typed(row, str, str)]

    def _delete(self, found: list[tuple[str, str]]) -> tuple[int, RowsAltered | None]:
        deleted, fault = 0, None
        with self._tags.transaction() as rows:
            for object_id, versions in groupby(found, key=itemgetter(0)):
                ids = [version_id for _, version_id in versions]
                try:
                    deleted += self._delete_of(rows, object_id, ids[0], ids[-1])
                except RowsAltered as error:
                    fault = fault or error
        return deleted, fault

    def _delete_of(self, rows: TaggedRows, object_id: str, first: str, last: str) -> int:
        current = rows.connection.execute(_CURRENT, [self._environment, object_id]).fetchone()
        if current is None:
            # The object was deleted since.
            return 0
        rows.require("object", object_id)
        # A backup may have been restored since: delete only the versions that are still outdated.
        outdated = f"SELECT version.id {self._outdated} AND object.id = ? AND version.id BETWEEN ? AND ?"
        deleted = rows.connection.execute(
            f"DELETE FROM object_version WHERE id IN ({outdated})",  # noqa: S608 - nothing in it is a caller's.
            [*self._parameters, object_id, first, last],
        ).rowcount
        if deleted:
            self._tell(rows.connection, *typed(current, str, str, str))
        return deleted

    def _tell(self, connection: Connection, name: str, context: str, key_id: str) -> None:
        told = {"kv_name": name, "key_id": key_id, "key_context": json.loads(context)}
        insert(connection, [Event.now(self._environment, "vault.data.updated", **told)])
