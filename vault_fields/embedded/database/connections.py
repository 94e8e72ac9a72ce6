"""Connections to a keystore: each used by one thread at a time, none of them carried across a fork."""

import sqlite3
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from vault_fields.embedded.database import failures
from vault_fields.embedded.database.files import publish
from vault_fields.embedded.database.schema import create_schema, verify_schema
from vault_fields.exceptions import VaultUnavailable
from vault_fields.runtime.forks import hold_while_forking

__all__ = ["Connections", "FileConnections", "MemoryConnections", "require_no_log"]


class Connections(ABC):
    """A source of connections to a keystore. They are in autocommit mode: transactions are written out."""

    # Whether written data outlive the process.
    lasting = True

    def __init__(self, location: str) -> None:
        self.location = location

    @abstractmethod
    def use(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return a connection for this thread alone. SQLite's errors leave the block as errors of this package."""

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Yield a connection in a transaction that excludes other writers. An error rolls it back. Otherwise like
        ``use``.
        """
        with self.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @abstractmethod
    def create(self) -> None:
        """Create the keystore now. Raises ``FileExistsError`` if it exists."""

    @abstractmethod
    def close(self) -> None:
        """Close idle connections. Later use opens new ones."""

    @abstractmethod
    def before_fork(self) -> None:
        """Wait until no thread is in ``use``, and let none in before ``after_fork``."""

    @abstractmethod
    def after_fork(self) -> None: ...


class FileConnections(Connections):
    """
    Connections to a keystore file. Idle ones wait for the next thread.

    The file is made on first use, unless it ``must_exist``.
    """

    def __init__(self, path: Path, *, timeout: float = 5.0, must_exist: bool = False) -> None:
        super().__init__(str(path))
        self._path = path
        self._timeout = timeout
        self._must_exist = must_exist
        self._identity: tuple[int, int] | None = None
        self._turn = threading.Condition(threading.Lock())
        self._in_use = 0
        self._forking = False
        self._idle: list[sqlite3.Connection] = []
        # The garbage collector would report connections that nobody closed.
        weakref.finalize(self, _close_all, self._idle)
        hold_while_forking(self)

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            self._turn.wait_for(lambda: not self._forking)
            self._in_use += 1
            connection = self._idle.pop() if self._idle else None
        try:
            if self._identity is not None:
                self._require_same_file(self._identity)
            if connection is None:
                connection = self._open()
            yield connection
        except BaseException as error:
            # Closing it also drops what a failure left behind, such as an open transaction.
            if connection is not None:
                connection.close()
                connection = None
            failures.raise_as_ours(error, self._path)
            raise
        finally:
            with self._turn:
                if connection is not None:
                    self._idle.append(connection)
                self._in_use -= 1
                self._turn.notify_all()

    def create(self) -> None:
        require_no_log(self._path)
        try:
            made = publish(self._path, _create)
        except OSError as error:
            raise failures.from_os(error, self._path) from error
        if not made:
            raise FileExistsError(f"The keystore {self._path} exists already.")

    def close(self) -> None:
        with self._turn:
            _close_all(self._idle)
            self._identity = None

    def before_fork(self) -> None:
        # A child must neither use nor close a connection of its parent. SQLite's own tables would even tell the child
        # that # it holds the locks of every connection that is open now.
        self._turn.acquire()
        self._forking = True
        interruption = None
        while self._in_use:
            try:
                self._turn.wait()
            except BaseException as error:  # noqa: BLE001 - of a signal: the process forks all the same.
                interruption = error
        _close_all(self._idle)
        if interruption is not None:
            raise interruption

    def after_fork(self) -> None:
        if self._forking:
            self._forking = False
            self._turn.notify_all()
            self._turn.release()

    def _require_same_file(self, identity: tuple[int, int]) -> None:
        # The connections would go on with a file that no longer has a name, and the KEKs written to it would be lost.
        try:
            same = _identity(self._path) == identity
        except FileNotFoundError:
            same = False
        if not same:
            raise VaultUnavailable(
                f"The keystore {self._path} was removed or replaced while this process was using it. Put it back, or "
                f"restart the process if the replacement is meant."
            )

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            require_no_log(self._path)
            if self._must_exist:
                raise VaultUnavailable(
                    f"The keystore {self._path} is missing. No other keystore opens what it encrypted, so none is "
                    "made unasked: mount its volume, correct the path, or put a backup back with `manage.py "
                    "vault_keystore "
                    "restore FILE`. If there has never been one, run `manage.py vault_keystore create`."
                )
            publish(self._path, _create)
        connection = _connect(self._path, self._timeout)
        try:
            verify_schema(connection, self._path)
            # Kept in the file. Only a restored backup may need it again.
            connection.execute("PRAGMA journal_mode = WAL")
            # A KEK that was handed out must survive a loss of power: every commit waits for the disk.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            # Deleted or overwritten data, above all a destroyed KEK, are not left behind in free space of the file.
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        with self._turn:
            if self._identity is None:
                self._identity = _identity(self._path)
        return connection


class MemoryConnections(Connections):
    """The one connection to a keystore in memory, which threads use in turn. It ends with this object."""

    lasting = False

    def __init__(self) -> None:
        super().__init__("in memory")
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        create_schema(self._connection)
        hold_while_forking(self)

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                failures.raise_as_ours(error, Path(self.location))
                raise

    def create(self) -> None:
        raise FileExistsError("A keystore in memory is there from the start.")

    def close(self) -> None:
        """Do nothing: closing would lose the KEKs, and with them every data key."""

    def before_fork(self) -> None:
        # The child gets a copy of the whole keystore.
        self._lock.acquire()

    def after_fork(self) -> None:
        self._lock.release()


def require_no_log(path: Path) -> None:
    """Refuse to create a keystore at ``path`` beside a log: SQLite would write the log's pages into the new file."""
    log = path.with_name(f"{path.name}-wal")
    # In this order: if another process has just created the keystore, its log came after it.
    if log.exists() and not path.exists():
        raise VaultUnavailable(
            f"The keystore {path} is missing, but its write-ahead log {log.name} is there. Put the keystore back; or "
            f"move the log away too, and restore a backup."
        )


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    # mode=rw: a file that has just been removed is an error and not a fresh, empty database.
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )


def _create(path: Path) -> None:
    with closing(_connect(path, timeout=0)) as connection:
        create_schema(connection)
        connection.execute("PRAGMA journal_mode = WAL")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()
