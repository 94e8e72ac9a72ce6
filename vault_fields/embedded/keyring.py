"""The keyring: KEKs taken out of the keystore, unwrapped, and held for a few seconds."""

import os
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.keystore import ENABLED, KekRecord, KeyStore
from vault_fields.embedded.rootkey import ENVIRONMENT_VARIABLE, DevelopmentRootKey, RootKey
from vault_fields.embedded.wrapping import KEY_BYTES, WrappingKey, framed
from vault_fields.exceptions import KeyRevoked, VaultUnavailable

__all__ = ["Kek", "KeyRing"]

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

    At most ``max_keks`` are held, each for at most ``max_age`` seconds, so that one that another process disables or
    rotates is not used for longer than that. Thread-safe; a forked child starts with an empty one.
    """

    def __init__(
        self,
        store: KeyStore,
        root_key: RootKey | DevelopmentRootKey,
        *,
        max_keks: int = 10_000,
        max_age: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._root_key_source = root_key
        self._root_key: RootKey | None = None
        self._max_keks = max_keks
        self._max_age = max_age
        self._clock = clock
        self._reset()
        _instances.add(self)

    def unlock(self) -> RootKey:
        """The root key, once it is known to be the keystore's. Raises ``ImproperlyConfigured`` if it is not."""
        # Two threads may both come here at first. They get the same key, so nothing is gained by a lock.
        if self._root_key is None:
            known = self.store.root_key_ids()
            if isinstance(self._root_key_source, RootKey):
                root_key = self._root_key_source
            else:
                root_key = self._root_key_source.obtain(generate=not known)
            known = known or self.store.adopt_root_key(root_key.id)
            if root_key.id not in known:
                raise ImproperlyConfigured(
                    f"wrong root key: the keystore {self.store.location} was made with the root key of id "
                    f"{', '.join(sorted(known))}, and this one has the id {root_key.id}. Set root_key in OPTIONS or "
                    f"the environment variable {ENVIRONMENT_VARIABLE} to the one that it was made with."
                )
            self._root_key = root_key
        return self._root_key

    def for_item(self, environment: str, name: str, value: str) -> Kek:
        """
        The KEK that new data keys of this context item are wrapped under, created if the item is new.

        Raises ``KeyRevoked`` if it is disabled.
        """
        kek = self._held((environment, name, value))
        if kek is None:
            record = self.store.current(environment, name, value) or self._create(environment, name, value)
            kek = self._hold((environment, name, value), record)
        return kek

    def find(self, kek_id: bytes, version: int) -> Kek | None:
        """The KEK of that id and version, if this keystore has it. Raises ``KeyRevoked`` if it is disabled."""
        kek = self._held((kek_id, version))
        if kek is None and (record := self.store.find(kek_id, version)) is not None:
            kek = self._hold((kek_id, version), record)
        return kek

    def set_state(self, environment: str, name: str, value: str, state: str) -> None:
        """Enable or disable an item's KEK, creating it if the item is new. Other processes follow in ``max_age``."""
        if self.store.current(environment, name, value) is None:
            self._create(environment, name, value)
        self.store.set_state(environment, name, value, state)
        self.forget()

    def forget(self) -> None:
        """Ask the keystore again for every KEK."""
        with self._lock:
            self._keks.clear()

    def close(self) -> None:
        """Forget the KEKs and the root key, and close the keystore; later use reads them anew."""
        self.forget()
        self._root_key = None
        self.store.close()

    def _held(self, name: _Name) -> Kek | None:
        with self._lock:
            if (entry := self._keks.get(name)) is None:
                return None
            kek, expires = entry
            if expires <= self._clock():
                del self._keks[name]
                return None
            self._keks.move_to_end(name)
            return kek

    def _hold(self, name: _Name, record: KekRecord) -> Kek:
        kek = self._unwrap(record)
        with self._lock:
            self._keks[name] = kek, self._clock() + self._max_age
            self._keks.move_to_end(name)
            while len(self._keks) > self._max_keks:
                self._keks.popitem(last=False)
        return kek

    def _create(self, environment: str, name: str, value: str) -> KekRecord:
        root_key = self.unlock()
        kek_id, version = uuid.uuid4().bytes, 1
        associated = self._associated_data(kek_id, version, environment, name, value)
        wrapped = root_key.wrapping.wrap(os.urandom(KEY_BYTES), associated)
        return self.store.add(KekRecord(kek_id, version, environment, name, value, ENABLED, root_key.id, wrapped))

    def _unwrap(self, record: KekRecord) -> Kek:
        if record.state != ENABLED:
            raise KeyRevoked(f"The key for the context item {record.item_name!r} is {record.state}.")
        root_key = self.unlock()
        associated = self._associated_data(
            record.id, record.version, record.environment, record.item_name, record.item_value
        )
        try:
            wrapping = WrappingKey(root_key.wrapping.unwrap(record.wrapped, associated))
        except InvalidTag:
            raise VaultUnavailable(
                f"The keystore {self.store.location} is damaged or was tampered with: the key for the context item "
                f"{record.item_name!r} does not open. Restore it from a backup."
            ) from None
        return Kek(record.id, record.version, record.environment, wrapping)

    def _associated_data(self, kek_id: bytes, version: int, environment: str, name: str, value: str) -> bytes:
        # What the row says about the key, so that rows cannot be swapped or edited.
        parts = ["vault_fields kek", self.store.vault_id(), environment, name, value, str(version)]
        return framed(kek_id, *[part.encode() for part in parts])

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._keks: OrderedDict[_Name, tuple[Kek, float]] = OrderedDict()


_instances: weakref.WeakSet[KeyRing] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The lock may have been held by a thread that does not exist here.
    for ring in list(_instances):
        ring._reset()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork.
    os.register_at_fork(after_in_child=_after_fork_in_child)
