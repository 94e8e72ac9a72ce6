"""The keyring: KEKs taken out of the keystore, unwrapped, and held until the keystore says that they changed."""

import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from sqlite3 import Connection

from vault_fields.embedded.managed.rootkey import DevelopmentRootKey, RootKey
from vault_fields.embedded.managed.rootkeys import ConfiguredRootKeys, RootKeys
from vault_fields.embedded.managed.store import ENABLED, KekRecord, KeyStore
from vault_fields.embedded.managed.tags import RowTags, TaggedRows, VaultReplaced
from vault_fields.embedded.xaes import KEY_BYTES, WrappingKey
from vault_fields.exceptions import KeyRevoked, VaultUnavailable
from vault_fields.runtime.forks import follow_forks
from vault_fields.runtime.lru import LRU

__all__ = ["Kek", "KeyRing"]

# For a third attempt, another process would have to change the root key between two of them once more.
ATTEMPTS = 3
# New KEKs in one transaction: other writers wait for it.
MAX_AT_ONCE = 1000

_Name = tuple[str, str, str] | tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Kek:
    """A key-encrypting key that can be used now."""

    id: bytes
    version: int
    environment: str
    wrapping: WrappingKey = field(repr=False)


class KeyRing:
    """
    The usable KEKs of a keystore, by context item and by id.

    At most ``max_keks`` are held, and the least recently used go first. One that is used both ways counts twice, and
    takes about 900 bytes. They are held while the keystore's mark stays the same, which is read every ``max_age``
    seconds: a KEK that another process disables, rotates or destroys is not used for longer than that. A caller that
    hands out keys that a KEK wrapped reads the mark once more, with ``is_current``. Thread-safe; a forked child starts
    with an empty keyring.
    """

    def __init__(
        self,
        store: KeyStore,
        root_key: RootKey | DevelopmentRootKey,
        *,
        former_root_keys: Sequence[RootKey] = (),
        max_keks: int = 200_000,
        max_age: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.configured = ConfiguredRootKeys(root_key, former_root_keys)
        self.tags = RowTags(store.connections, self.configured, self.unlock)
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._keks: LRU[_Name, Kek] = LRU(max_entries=max_keks)
        self._turn = 0
        self._mark: tuple[str, str] | None = None
        self._trusted_until = -math.inf
        self._root_keys: RootKeys | None = None
        follow_forks(self)

    def unlock(self, *, anew: bool = False) -> RootKeys:
        """
        Return the root keys, once they are known to be the keystore's. Raises ``ImproperlyConfigured`` if they are
        not.
        """
        # Two threads may both come here at first. They get the same keys, so a lock would gain nothing.
        root_keys = self._root_keys
        if root_keys is None or anew:
            root_keys = self._root_keys = self.configured.unlock(self.store)
        return root_keys

    def turn(self) -> int:
        """Return the number of the current turn: a noticed change of the keystore begins another one."""
        now = self._clock()
        if now >= self._trusted_until:
            self._look(now)
        return self._turn

    def vault_id(self) -> str:
        """Return the id of the vault whose KEKs are held: another one may be restored into the keystore."""
        self.turn()
        with self._lock:
            mark = self._mark
        # Another thread may have forgotten everything just now.
        return mark[0] if mark else self.store.vault_id()

    def is_current(self, turn: int) -> bool:
        """
        Read now whether the keystore is as it was in that turn, so that keys wrapped by its KEKs may be handed out.
        """
        self._look(self._clock())
        return self._turn == turn

    def for_item(self, environment: str, name: str, value: str) -> Kek:
        """
        Return the KEK that wraps new data keys of this context item, created if the item is new.

        Raises ``KeyRevoked`` if it is disabled.
        """
        kek, turn = self._held((environment, name, value))
        if kek is None:
            kek = self._hold((environment, name, value), self.record_for(environment, name, value), turn)
        return kek

    def for_items(self, environment: str, items: Collection[tuple[str, str]]) -> list[Kek]:
        """Return the KEK of each item, as ``for_item`` does."""
        if len(items) > 1:
            self.prepare(environment, items)
        return [self.for_item(environment, name, value) for name, value in items]

    def prepare(self, environment: str, items: Iterable[tuple[str, str]]) -> None:
        """
        Make the KEKs of those items that have none, ``MAX_AT_ONCE`` in a transaction.

        ``for_item`` still makes KEKs that are missing afterwards: because the root key is being replaced, for example,
        or a backup was restored.
        """
        wanted = [item for item in dict.fromkeys(items) if self._held((environment, *item))[0] is None]
        if not wanted:
            return
        missing = self.store.without_kek(environment, wanted)
        for start in range(0, len(missing), MAX_AT_ONCE):
            turn, root_keys, vault_id = self.turn(), self.unlock(), self.vault_id()
            drafts = [
                self._draft(_unborn(environment, name, value), root_keys.current, vault_id)
                for name, value in missing[start : start + MAX_AT_ONCE]
            ]
            with suppress(VaultReplaced):
                stored = self.store.add_all([draft for draft, _ in drafts], partial(self._tag, root_keys, vault_id))
                # To read and unwrap again what has just been stored would cost as much as making it.
                self._hold_new([(draft, wrapping) for draft, wrapping in drafts if draft.id in stored], turn)

    def find(self, kek_id: bytes, version: int) -> Kek | None:
        """
        Return the KEK of that id and version, if this keystore has it.

        Raises ``KeyRevoked`` if it is disabled, or the version is below the minimum.
        """
        kek, turn = self._held((kek_id, version))
        if kek is None and (record := self.record(kek_id, version)) is not None:
            kek = self._hold((kek_id, version), record, turn)
        return kek

    def record_for(self, environment: str, name: str, value: str) -> KekRecord:
        """Return the stored KEK of an item, in whatever state, created if the item is new."""
        return self.current(environment, name, value) or self._add(_unborn(environment, name, value))

    def rotate(self, record: KekRecord) -> KekRecord:
        """Return the next version of a KEK: a new one, unless another process adds it at the same time."""
        return self._add(record)

    def current(self, environment: str, name: str, value: str) -> KekRecord | None:
        """
        Return the highest version of an item's KEK, in whatever state. Raises ``VaultUnavailable`` if it was edited.
        """
        return self._authentic(self.store.current(environment, name, value))

    def record(self, kek_id: bytes, version: int) -> KekRecord | None:
        """
        Return the stored KEK of that id in a version, in whatever state. Raises ``VaultUnavailable`` if it was edited.
        """
        return self._authentic(self.store.find(kek_id, version))

    def _authentic(self, record: KekRecord | None) -> KekRecord | None:
        if record is not None:
            self.tags.verify("kek", record.row)
        return record

    def _unwrap(self, record: KekRecord) -> bytes:
        root_keys = self.unlock()
        if record.root_key_id not in root_keys.by_id:
            # This raises if the keystore was moved to a root key that is not configured here.
            self.unlock(anew=True)
        # Of the vault that the row was read from: another one may have been restored since.
        return root_keys.unwrap(record, record.associated_data(record.row[-1]), self.store.location)

    def forget(self) -> None:
        """Read the keystore again for every KEK."""
        with self._lock:
            self._clear()

    def reset_in_child(self) -> None:
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._clear()

    def close(self) -> None:
        """Forget the KEKs and the root keys, and close the keystore. Later use reads them anew."""
        self.forget()
        self.configured.forget()
        self.store.close()

    def _held(self, name: _Name) -> tuple[Kek | None, int]:
        """Return the KEK, if it is held, and the turn in which a KEK read from now on may be held."""
        self.turn()
        with self._lock:
            return self._keks.used(name), self._turn

    def _look(self, now: float) -> None:
        # One thread at a time: of two that read the mark, the one that stores it later may have read the older state.
        with self._looking:
            mark = self.store.mark()
            with self._lock:
                if mark != self._mark:
                    self._clear()
                    self._mark = mark
                self._trusted_until = now + self._max_age

    def _hold(self, name: _Name, record: KekRecord, turn: int) -> Kek:
        kek = self._usable(record)
        with self._lock:
            # A record read in an earlier turn may be the very one that changed the mark.
            if turn == self._turn:
                self._keks[name] = kek
        return kek

    def _hold_new(self, stored: Iterable[tuple[KekRecord, WrappingKey]], turn: int) -> None:
        with self._lock:
            if turn == self._turn:
                for new, wrapping in stored:
                    name = new.environment, new.item_name, new.item_value
                    self._keks[name] = Kek(new.id, new.version, new.environment, wrapping)

    def _clear(self) -> None:
        self._turn += 1
        self._keks.clear()
        self._mark = None
        self._trusted_until = -math.inf
        self._root_keys = None

    def _add(self, before: KekRecord) -> KekRecord:
        """Store and return the version after this one."""
        for _ in range(ATTEMPTS):
            root_keys = self.unlock()
            vault_id = self.vault_id()
            draft, _ = self._draft(before, root_keys.current, vault_id)
            try:
                stored = self._authentic(self.store.add(draft, partial(self._tag, root_keys, vault_id)))
            except VaultReplaced:
                stored = None
            if stored is not None:
                return stored
            # Another process has just moved the keystore to another root key, changed this KEK, or restored a backup.
            self.forget()
            now = self.current(before.environment, before.item_name, before.item_value)
            self._require_usable(now)
            before = now or before
        raise VaultUnavailable(f"The root key of the keystore {self.store.location} is being changed. Try again.")

    def _draft(self, before: KekRecord, root_key: RootKey, vault_id: str) -> tuple[KekRecord, WrappingKey]:
        """Return the version after this one, not stored yet, and its fresh key."""
        key = os.urandom(KEY_BYTES)
        draft = replace(before, version=before.version + 1, root_key_id=root_key.id)
        return replace(draft, wrapped=root_key.wrapping.wrap(key, draft.associated_data(vault_id))), WrappingKey(key)

    def _tag(self, root_keys: RootKeys, vault_id: str, connection: Connection, kek_id: bytes) -> None:
        rows = TaggedRows(connection, root_keys, self.store.location)
        rows.require_vault(vault_id)
        rows.tag("kek", kek_id)

    def _usable(self, record: KekRecord) -> Kek:
        self._require_usable(record)
        wrapping = WrappingKey(self._unwrap(record))
        return Kek(record.id, record.version, record.environment, wrapping)

    def _require_usable(self, record: KekRecord | None) -> None:
        if record is None:
            return
        if record.state != ENABLED:
            raise KeyRevoked(f"The key for the context item {record.item_name!r} is {record.state}.")
        if record.version < record.minimum_version:
            raise KeyRevoked(
                f"Version {record.version} of the key for the context item {record.item_name!r} is retired; the oldest "
                f"that opens is {record.minimum_version}."
            )


def _unborn(environment: str, name: str, value: str) -> KekRecord:
    """Return the record that precedes the first version of an item's KEK."""
    return KekRecord(uuid.uuid4().bytes, 0, environment, name, value, ENABLED, "", b"")
