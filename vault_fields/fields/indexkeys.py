"""
Index keys: one for each key context, vault and database, opened for as long as the vault's cache keeps data keys.

The wrapped key is a row of ``vault_fields.models.IndexKey``, beside the rows that it serves: it is read where they are
read, in their transaction. What a rolled back transaction made is not used by the next one. Lookups outside of
transactions remember rows for a second: see ``docs/decisions/0139-index-keys-are-remembered-for-a-second.md``.

While index keys are rotated there are two *generations* of a key. Lookups ask for the hashes of both; writers use the
one that ``written`` tells. See ``docs/decisions/0135-an-old-index-key-outlives-its-users.md``.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, connections
from django.db.models import Q
from django.utils import timezone

from vault_fields.exceptions import DecryptionError, EnvelopeError
from vault_fields.fields.batch import Batch
from vault_fields.fields.proofs import is_proven, note_proof
from vault_fields.keys import DataKey, KeyContext
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion
from vault_fields.vaults import vaults

__all__ = ["MAX_INDEX_KEY_AGE", "SETTLING", "Wanted", "context_hash", "find_keys", "find_written_keys"]
__all__ += ["index_key_model", "make_key", "require_index_key", "stored_key", "stored_names"]

# The name of the item in the companion's row that no attribute of a model can have: so neither a row's companion
# passes for an index key, nor an index key's for that of a row.
_PURPOSE = "index key"

# Writers use a new generation of an index key when it has been there this long: by then no lookup is under way that
# began before it, and would not find what they write.
SETTLING = timedelta(seconds=60)

# VAULT_INDEX_KEY_AGE, in seconds, if the settings do not have it; and the largest: with the time that a lookup takes it
# has to fit into ``SETTLING``.
INDEX_KEY_AGE = 1
MAX_INDEX_KEY_AGE = 30
_MOST_REMEMBERED = 1000

# A table that does not exist: PostgreSQL's SQLSTATE, MariaDB's number, and SQLite's words.
_NO_TABLE = "42P01", 1146
_NO_TABLE_IN_SQLITE = "no such table"


class Wanted(NamedTuple):
    """The name of an index key: the alias of the vault that the field declares, and the key context."""

    vault: str
    context: KeyContext


class _Row(NamedTuple):
    """One generation of an index key as it is stored."""

    generation: int
    text: str


class _DatedRow(NamedTuple):
    """The same, with its age."""

    generation: int
    text: str
    created_at: datetime


_Stored = Mapping[Wanted, Sequence[_Row | _DatedRow]]


def find_keys(wanted: Iterable[Wanted], using: str) -> dict[Wanted, list[DataKey]]:
    """
    Return the keys that exist, of each all generations, the newest first. One query, and one ``decrypt`` for each that
    is not cached, all at once.

    Raises ``EnvelopeError`` or ``DecryptionError`` for a row that was altered, and the errors of the Vault: a key that
    does not open must not read as one that nobody made.
    """
    return _opened(_looked_up(wanted, using))


def find_written_keys(wanted: Iterable[Wanted], using: str) -> dict[Wanted, DataKey]:
    """Return of each key that exists the generation that writers use. Costs and raises what ``find_keys`` does."""
    stored = {each: [_written(rows)] for each, rows in _read(wanted, using).items()}
    return {each: key for each, (key,) in _opened(stored).items()}


def stored_names(wanted: Iterable[Wanted], using: str) -> AbstractSet[Wanted]:
    """Return those of the keys that exist. One query, and no call."""
    return _read(wanted, using).keys()


def make_key(wanted: Wanted, using: str) -> DataKey:
    """
    Make the key of a context that has none, or return the one that somebody else made meanwhile. One ``create``.
    """
    row, key = stored_key(wanted, 1)
    _Remembered.forget_all()
    has_target = connections[using].features.supports_update_conflicts_with_target
    # An upsert that changes nothing waits for a row that another transaction is inserting. INSERT IGNORE with a
    # locking read deadlocks on MariaDB.
    try:
        with _table_needed(using):
            type(row)._base_manager.using(using).bulk_create(
                [row],
                update_conflicts=True,
                update_fields=["generation"],
                unique_fields=["vault", "context_hash", "generation"] if has_target else None,
            )
    except OperationalError:
        # Under repeatable read, PostgreSQL breaks off a statement that waited for such a row. Outside of a transaction
        # nothing else was broken off with it, and the row is there.
        if connections[using].in_atomic_block or not _read([wanted], using):
            raise
    found = _read([wanted], using) or _read([wanted], using, lock=True)
    written = _written(found[wanted])
    if written.text == row.companion:
        return key
    return _opened({wanted: [written]})[wanted][0]


def require_index_key(said: Companion, digest: str, generation: int) -> None:
    """Raise ``EnvelopeError`` if this companion is not that of an index key of the context with this hash."""
    if context_hash(said.context) != digest or dict(said.row) != {_PURPOSE: str(generation)}:
        raise EnvelopeError(
            f"the index key of {sorted(said.context)} is that of another key context, of another generation or of a "
            "row: the table of index keys was altered. Bring its row back from a backup, or delete it and run "
            "`manage.py vault_index --rebuild`."
        )


def stored_key(wanted: Wanted, generation: int) -> tuple[Any, DataKey]:
    """Return a new key, and the row of the table that holds it, which is not saved yet. One ``create``."""
    alias = vaults.writer(wanted.vault)
    key = vaults[alias].create_data_key(wanted.context)
    said = Companion(alias, key.id, key.encrypted_keys, wanted.context, {_PURPOSE: str(generation)})
    text = companion_format.encode(companion_format.proven(said, key))
    name = {"vault": wanted.vault, "context_hash": context_hash(wanted.context)}
    return index_key_model()(**name, generation=generation, companion=text), key


def index_key_model() -> Any:
    try:
        return apps.get_model("vault_fields", "IndexKey")
    except LookupError:
        raise ImproperlyConfigured(
            "A blind index needs the table of index keys: add 'vault_fields' to INSTALLED_APPS and run migrate."
        ) from None


@lru_cache(maxsize=1000)
def context_hash(context: KeyContext) -> str:
    return hashlib.sha256(context.canonical).hexdigest()


def _looked_up(wanted: Iterable[Wanted], using: str) -> Mapping[Wanted, Sequence[_Row]]:
    """Return the rows that the database has, newest first. One statement, written here: a queryset takes longer."""
    names = {(each.vault, context_hash(each.context)): each for each in wanted}
    if not names:
        return {}
    connection = connections[using]
    remembered = _Remembered.of(connection)
    if (known := remembered.rows(names)) is not None:
        return known
    vaults_named, digests = {vault for vault, _ in names}, {digest for _, digest in names}
    table = index_key_model()._meta.db_table
    has_schemas = connection.vendor == "postgresql"
    sql = _lookup(connection.ops.quote_name(table), has_schemas, len(vaults_named), len(digests))
    found: dict[Wanted, list[_Row]] = {}
    changes, is_alone = _Remembered.changes, False
    with _table_needed(using), connection.cursor() as cursor:
        cursor.execute(sql, [*([table] if has_schemas else ()), *vaults_named, *digests])
        rows = cursor.fetchall()
    for vault, digest, generation, text, tables in rows:
        is_alone = tables == 1
        if (name := names.get((vault, digest))) is not None:
            found.setdefault(name, []).append(_Row(generation, text))
    if is_alone:
        remembered.note(names, found, changes)
    return found


class _Remembered:
    """
    Rows that lookups of one connection have read outside of transactions, so that they are committed.

    Only as long as ``VAULT_INDEX_KEY_AGE`` says, in seconds, and until this process makes a key. Only outside of
    transactions: within one there may be a row that it makes, or takes back. That there is no row is not remembered.
    """

    # The number of keys that the process has made.
    changes = 0

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._rows: dict[frozenset[tuple[str, str]], tuple[float, int, Mapping[Wanted, Sequence[_Row]]]] = {}

    @classmethod
    def forget_all(cls) -> None:
        """Let no connection of the process use what it remembers: a key is made, maybe in the place of another."""
        cls.changes += 1

    @classmethod
    def of(cls, connection: Any) -> "_Remembered":
        found: _Remembered | None = vars(connection).get("_vault_fields_index_keys")
        if found is None:
            found = vars(connection)["_vault_fields_index_keys"] = cls(connection)
        return found

    def rows(self, names: Iterable[tuple[str, str]]) -> Mapping[Wanted, Sequence[_Row]] | None:
        if not self._age():
            return None
        until, changes, rows = self._rows.get(frozenset(names), (0.0, 0, None))
        return rows if changes == self.changes and monotonic() < until else None

    def note(self, names: Collection[tuple[str, str]], rows: Mapping[Wanted, Sequence[_Row]], changes: int) -> None:
        """Remember what was read when the process had made so many keys."""
        if len(rows) < len(names) or not (age := self._age()):
            return
        if len(self._rows) >= _MOST_REMEMBERED:
            self._rows.clear()
        self._rows[frozenset(names)] = monotonic() + age, changes, rows

    def _age(self) -> float:
        if self._connection.in_atomic_block or not self._connection.get_autocommit():
            return 0.0
        age: float = getattr(settings, "VAULT_INDEX_KEY_AGE", INDEX_KEY_AGE)
        if not 0 <= age <= MAX_INDEX_KEY_AGE:
            raise ImproperlyConfigured(
                f"VAULT_INDEX_KEY_AGE is {age!r}, and may be at most {MAX_INDEX_KEY_AGE} seconds: while index keys are "
                "rotated, lookups have to know of new ones in time."
            )
        return age


@lru_cache(maxsize=200)
def _lookup(table: str, has_schemas: bool, vaults_named: int, digests: int) -> str:
    marks, more = (", ".join(["%s"] * count) for count in (vaults_named, digests))
    # Where each tenant has a schema, the next lookup of the connection may be about another table of the same name.
    tables = "(SELECT count(*) FROM pg_class WHERE relname = %s AND relkind IN ('r', 'p'))" if has_schemas else "1"
    return (
        f"SELECT vault, context_hash, generation, companion, {tables} FROM {table} "  # noqa: S608 - names, and marks.
        f"WHERE vault IN ({marks}) AND context_hash IN ({more}) ORDER BY generation DESC"
    )


def _read(wanted: Iterable[Wanted], using: str, *, lock: bool = False) -> Mapping[Wanted, Sequence[_DatedRow]]:
    """Return the rows that the database has, newest first. ``lock`` reads what others have committed since."""
    names = {(each.vault, context_hash(each.context)): each for each in wanted}
    if not names:
        return {}
    condition = Q(vault__in={vault for vault, _ in names}, context_hash__in={digest for _, digest in names})
    rows = index_key_model()._base_manager.using(using).filter(condition).order_by("-generation")
    rows = rows.select_for_update() if lock else rows
    found: dict[Wanted, list[_DatedRow]] = {}
    with _table_needed(using):
        columns = list(rows.values_list("vault", "context_hash", "generation", "companion", "created_at"))
    for vault, digest, *row in columns:
        if (name := names.get((vault, digest))) is not None:
            found.setdefault(name, []).append(_DatedRow(*row))
    return found


def _written(rows: Sequence[_DatedRow]) -> _DatedRow:
    """Return the newest generation, unless it is so new that lookups are under way which do not know of it."""
    settled = timezone.now() - SETTLING
    return next((row for row in rows if row.created_at <= settled), rows[-1])


def _opened(stored: _Stored) -> dict[Wanted, list[DataKey]]:
    batch = Batch([row.text for rows in stored.values() for row in rows], hold=True)
    said = {each: [_decoded(each, row) for row in rows] for each, rows in stored.items()}
    return {
        each: [_open(each, row.text, companion, batch) for row, companion in zip(rows, said[each], strict=True)]
        for each, rows in stored.items()
    }


def _decoded(wanted: Wanted, row: _Row | _DatedRow) -> Companion:
    said = companion_format.decode(row.text)
    require_index_key(said, context_hash(wanted.context), row.generation)
    return said


def _open(wanted: Wanted, text: str, said: Companion, batch: Batch) -> DataKey:
    try:
        key = batch.key(said)
        if not is_proven(text, key):
            companion_format.verify(said, key)
            note_proof(text, said, key)
    except DecryptionError:
        raise DecryptionError(
            f"the index key of {sorted(wanted.context)} does not open. Bring its row in the table of index keys back "
            "from a backup, or delete it and run `manage.py vault_index --rebuild`."
        ) from None
    return key


@contextmanager
def _table_needed(using: str) -> Iterator[None]:
    """Say what to do where the database has no table of index keys, in place of an error of its driver."""
    try:
        yield
    except DatabaseError as error:
        code = getattr(error.__cause__, "sqlstate", None) or error.args[0]
        if code not in _NO_TABLE and not str(code).startswith(_NO_TABLE_IN_SQLITE):
            raise
        raise ImproperlyConfigured(
            f"The database {using!r} has no table of index keys, which are kept beside the rows whose values they "
            f"find: run `manage.py migrate vault_fields --database {using}`, let the routers allow vault_fields in "
            "every database with an indexed field, and let migrations that write indexed values depend on "
            '("vault_fields", "0001_index_keys").'
        ) from error
