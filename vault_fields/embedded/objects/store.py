"""The rows of the keystore with stored objects, as they are, with nothing opened."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar, cast

from vault_fields.embedded.database.columns import Malformed, typed
from vault_fields.embedded.database.connections import Connections
from vault_fields.embedded.database.paging import Page, Window, fetch_page
from vault_fields.embedded.database.tables import Row, selected
from vault_fields.embedded.events.event import Event, insert
from vault_fields.embedded.managed.tags import RowTags, TaggedRows
from vault_fields.embedded.objects.keycheck import require_standing
from vault_fields.embedded.objects.rows import ObjectQuery, ObjectSummary, ObjectVersion, StoredVersion
from vault_fields.exceptions import ObjectConflict, ObjectMissing

__all__ = ["ObjectStore"]

T = TypeVar("T")

_JOINED = (
    "SELECT object.id, object.name, object.context, version.id, version.data_key_id, version.encrypted_keys,"  # noqa: S608
    " CASE typeof(version.sealed) WHEN 'blob' THEN version.sealed END, version.etag,"
    f" version.actor_id, version.actor_name, version.created_at, {selected('object')}"
    " FROM object JOIN object_version AS version ON version.object_id = object.id"
)
_VERSION = (str, str, str, str, str, str, bytes, str, str, str, str)
_VERSIONS = (
    "SELECT id, created_at, id = (SELECT version_id FROM object WHERE object.id = object_id), length(sealed), etag"
    " FROM object_version"
)
# More than there are.
_ALL = 2**62
_INSERT_VERSION = (
    "INSERT INTO object_version"
    " (id, object_id, data_key_id, encrypted_keys, sealed, etag, actor_id, actor_name, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class ObjectStore:
    """
    The objects of one environment. Each change is one transaction, with the event that reports it.

    All calls but ``each_version`` raise ``VaultUnavailable`` if the row of an object was edited.
    """

    def __init__(self, connections: Connections, tags: RowTags, environment: str) -> None:
        self._connections = connections
        self._tags = tags
        self._environment = environment

    def get(self, object_id: str, version_id: str | None = None) -> StoredVersion:
        """Return an object's current version, or the given one. Raises ``ObjectMissing``."""
        if version_id is None:
            return self._one("object.id = ? AND version.id = object.version_id", object_id)
        return self._one("object.id = ? AND version.id = ?", object_id, version_id)

    def get_by_name(self, name: str) -> StoredVersion:
        return self._one("object.name = ? AND version.id = object.version_id", name)

    def page(self, query: ObjectQuery, window: Window) -> Page[ObjectSummary]:
        conditions = [("environment = ?", self._environment), *query.conditions()]
        select = f"SELECT {selected('object')} FROM object"  # noqa: S608 - nothing in it is a caller's.
        with self._connections.use() as connection:
            page = fetch_page(connection, select, conditions, "id", window, _row, lambda row: str(row[0]))
        for row in page.items:
            self._tags.verify("object", row)
        return Page([ObjectSummary(row[0], row[2], row[5]) for row in page.items], page.before, page.after)

    def versions(self, object_id: str) -> list[ObjectVersion]:
        """Return all versions of an object, the newest first. Raises ``ObjectMissing``."""
        return self.version_page(object_id, Window(_ALL, descending=True)).items

    def version_page(self, object_id: str, window: Window) -> Page[ObjectVersion]:
        """Return a page of versions, by id. Raises ``ObjectMissing`` if there is no such object."""
        query = f"SELECT {selected('object')} FROM object WHERE environment = ? AND id = ?"  # noqa: S608
        with self._connections.use() as connection:
            row = connection.execute(query, [self._environment, object_id]).fetchone()
            page = fetch_page(
                connection, _VERSIONS, [("object_id = ?", object_id)], "id", window, _described, lambda each: each.id
            )
        if row is None:
            raise _missing()
        self._tags.verify("object", row)
        return page

    def add(self, version: StoredVersion, event: Event) -> None:
        """Store a new object. Raises ``ObjectConflict`` if there is one of that name, and as ``require_standing``."""
        with self._tags.transaction() as rows:
            require_standing(rows, version.vault_id, version.encrypted_keys)
            added = rows.connection.execute(
                "INSERT INTO object (id, environment, name, context, version_id, updated_at)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (environment, name) DO NOTHING",
                [
                    version.object_id,
                    self._environment,
                    version.name,
                    version.context,
                    version.version_id,
                    version.created_at,
                ],
            )
            if added.rowcount:
                rows.tag("object", version.object_id)
                _insert_version(rows.connection, version)
                insert(rows.connection, [event])
        if not added.rowcount:
            raise ObjectConflict("There is already an object of that name.")

    def replace(self, version: StoredVersion, expected: str | None, event: Event) -> None:
        """Make a version the current one; with ``expected``, only if that is the current one now. Raises as ``add``."""

        def work(rows: TaggedRows) -> None:
            require_standing(rows, version.vault_id, version.encrypted_keys)
            rows.connection.execute(
                "UPDATE object SET version_id = ?, updated_at = ? WHERE id = ?",
                [version.version_id, version.created_at, version.object_id],
            )
            rows.tag("object", version.object_id)
            _insert_version(rows.connection, version)
            insert(rows.connection, [event])

        self._change(version.object_id, expected, work)

    def delete(self, object_id: str, expected: str | None) -> str:
        """Delete all versions of an object; return its name."""

        def work(rows: TaggedRows) -> str:
            connection = rows.connection
            connection.execute("DELETE FROM object_version WHERE object_id = ?", [object_id])
            query = "DELETE FROM object WHERE id = ? RETURNING name"
            ((name,),) = connection.execute(query, [object_id]).fetchall()
            insert(connection, [Event.now(self._environment, "vault.data.deleted", kv_name=name)])
            return str(name)

        return self._change(object_id, expected, work)

    def number_of_versions(self) -> int:
        query = "SELECT count(*) FROM object JOIN object_version ON object_id = object.id WHERE environment = ?"
        with self._connections.use() as connection:
            (number,) = connection.execute(query, [self._environment]).fetchone()
        return int(number)

    def each_version(self) -> Iterator[StoredVersion]:
        """
        Yield every version of every object, one in memory at a time, by id. Versions added meanwhile may be among
        them.

        A damaged version is marked as altered, and has nothing but its id. If only the sealed value is damaged, the
        rest stands, and the value is one that opens with no key.
        """
        last = ""
        while True:
            with self._connections.use() as connection:
                query = f"{_JOINED} WHERE environment = ? AND version.id > ? ORDER BY version.id LIMIT 1"
                row = connection.execute(query, [self._environment, last]).fetchone()
                if row is None:
                    return
                (last,) = typed(row[3:4], str)
            try:
                version = _version((*row[:6], row[6] or b"", *row[7:]))
            except Malformed:
                yield StoredVersion("", "", "", last, "", "", b"", "", "", "", "", "", is_altered=True)
            else:
                yield replace(version, is_altered=not self._tags.is_authentic("object", row[11:]))

    def rewrap(self, version: StoredVersion, encrypted_keys: str) -> None:
        """Replace the encrypted keys of a version by others of the same data key. Raises as ``require_standing``."""
        with self._tags.transaction() as rows:
            require_standing(rows, version.vault_id, encrypted_keys)
            rows.connection.execute(
                "UPDATE object_version SET encrypted_keys = ? WHERE id = ? AND encrypted_keys = ?",
                [encrypted_keys, version.version_id, version.encrypted_keys],
            )

    def _change(self, object_id: str, expected: str | None, work: Callable[[TaggedRows], T]) -> T:
        # The expected version is compared where nobody else can write: of any number of writers that expect it, one
        # goes on from it. Refusals are raised outside, where they do not cost the connection.
        with self._tags.transaction() as rows:
            query = "SELECT version_id FROM object WHERE id = ? AND environment = ?"
            row = rows.connection.execute(query, [object_id, self._environment]).fetchone()
            if row is not None:
                rows.require("object", object_id)
            as_expected = row is not None and expected in {None, row[0]}
            result = work(rows) if as_expected else None
        if row is None:
            raise _missing()
        if not as_expected:
            raise ObjectConflict("The object has another version than the one to be replaced.")
        return cast(T, result)

    def _one(self, condition: str, *parameters: str) -> StoredVersion:
        with self._connections.use() as connection:
            query = f"{_JOINED} WHERE object.environment = ? AND {condition}"
            row = connection.execute(query, [self._environment, *parameters]).fetchone()
            version = None if row is None else _version(row)
        if version is None:
            raise _missing()
        self._tags.verify("object", row[11:])
        return version


def _row(*row: Any) -> Row:
    return row


def _described(*row: Any) -> ObjectVersion:
    version_id, created_at, is_current, size, etag = typed(row, str, str, int, int, str)
    return ObjectVersion(version_id, created_at, bool(is_current), size, etag)


def _version(row: Row) -> StoredVersion:
    typed(row, *_VERSION)
    return StoredVersion(*[*row[:11], *typed(row[-1:], str)])


def _insert_version(connection: sqlite3.Connection, version: StoredVersion) -> None:
    connection.execute(
        _INSERT_VERSION,
        [
            version.version_id,
            version.object_id,
            version.data_key_id,
            version.encrypted_keys,
            version.sealed,
            version.etag,
            version.actor_id,
            version.actor_name,
            version.created_at,
        ],
    )


def _missing() -> ObjectMissing:
    return ObjectMissing("There is no such object.")
