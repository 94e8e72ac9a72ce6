"""The embedded Vault itself: it creates, decrypts and rekeys data keys."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from vault_fields.embedded.blob import id_text, new_id
from vault_fields.embedded.customer.lifecycle import CustomerKeyLifecycle
from vault_fields.embedded.customer.usable import CustomerKeys
from vault_fields.embedded.events.event import Event
from vault_fields.embedded.keywrapper import KeyWrapper, OpenedKey
from vault_fields.embedded.maintenance.restore import Losses, restore
from vault_fields.embedded.maintenance.rootrotation import RootKeyRotation, rotate_root_key
from vault_fields.embedded.maintenance.snapshot import Snapshot, back_up
from vault_fields.embedded.maintenance.upgrading import Upgrade, schema_version, upgrade
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.lifecycle import Keks
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.managed.tags import RowTags
from vault_fields.keys import DATA_KEY_BYTES, DataKey, KeyContext
from vault_fields.runtime.frames import forgetful_class
from vault_fields.runtime.progress import Progress, silent

__all__ = ["EmbeddedVault"]


@forgetful_class
class EmbeddedVault:
    """
    Data keys wrapped under the KEKs of one environment of a keystore. Thread-safe; opens nothing before it is used.

    Every operation raises ``VaultUnavailable`` if the keystore or a customer's provider fails, ``KeyRevoked`` if a key
    that it needs is disabled or was withdrawn, ``VaultRefused`` for encrypted keys that this vault did not make, and
    ``ImproperlyConfigured`` where a setting (the path, the root key) is wrong. The limits of a context are those of
    ``KeyContext``.

    ``patience`` is the part of the timeout that customers' providers have for one operation.

    With ``unwrap="all"`` a data key opens if every copy of it does. With ``"first"`` one copy is enough, whose key is
    neither disabled nor withdrawn nor out of reach.
    """

    def __init__(
        self,
        ring: KeyRing,
        *,
        environment: str = "default",
        record_key_events: bool = False,
        customer_keys: CustomerKeys | None = None,
        unwrap: str = "all",
        patience: float = 1.0,
    ) -> None:
        self._ring = ring
        self._customer_keys = customer_keys or CustomerKeys(ring)
        self._unwrap = unwrap
        self._seconds = self._customer_keys.timeout * patience
        self._wrapper = KeyWrapper(ring, self._customer_keys, environment, unwrap=unwrap)
        self.byok = CustomerKeyLifecycle(self._customer_keys, environment)
        self._environment = environment
        self._record_key_events = record_key_events
        self.keks = Keks(ring, environment)

    @property
    def environment(self) -> str:
        return self._environment

    @property
    def store(self) -> KeyStore:
        return self._ring.store

    @property
    def tags(self) -> RowTags:
        return self._ring.tags

    def for_environment(self, environment: str, *, record_key_events: bool = False, patience: float = 1.0) -> Self:
        """Return the vault of another environment of the same keystore: no KEK belongs to both."""
        return type(self)(
            self._ring,
            environment=environment,
            record_key_events=record_key_events,
            customer_keys=self._customer_keys,
            unwrap=self._unwrap,
            patience=patience,
        )

    def unlock(self) -> None:
        """Open the keystore and check the root key now, rather than on first use."""
        self._ring.unlock()

    def prepare(self, contexts: Iterable[KeyContext]) -> None:
        """Make the KEKs that data keys for these contexts need, in few transactions instead of one for each item."""
        self._wrapper.prepare(contexts)

    def create(self, context: KeyContext) -> DataKey:
        """Return a fresh random data key. Costs no write, except for items that have no KEK yet."""
        key = self.new_data_key(context)
        self._note_use("vault.dek.read", key_ids=[key.id], key_context=dict(context))
        return key

    def decrypt(self, encrypted_keys: str, *, timeout: float | None = None) -> DataKey:
        """
        Return the data key, if as many copies of it open as ``unwrap`` demands; within ``timeout`` instead of its own.
        """
        key = self.open_data_key(encrypted_keys, timeout=timeout)
        self._note_use("vault.dek.decrypted", key_id=key.id)
        return key

    def rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        """Return the same data key, with the same id, wrapped for another context."""
        key = self.rewrap_data_key(encrypted_keys, context)
        self._note_use("vault.dek.rekeyed", key_ids=[key.id], key_context=dict(context))
        return key

    # The same three operations for a data key that stays in this process, without events.

    def new_data_key(self, context: KeyContext) -> DataKey:
        return self._wrapper.handed_out(context, lambda: OpenedKey(new_id(), os.urandom(DATA_KEY_BYTES)), self._seconds)

    def open_data_key(self, encrypted_keys: str, *, timeout: float | None = None) -> DataKey:
        opened = self._opened(encrypted_keys, timeout)
        return DataKey(id_text(opened.id), encrypted_keys, opened.plaintext)

    def rewrap_data_key(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._wrapper.handed_out(context, lambda: self._opened(encrypted_keys), self._seconds)

    def is_current(self, encrypted_keys: str, context: KeyContext) -> bool:
        """Whether these keys are wrapped by the keys that wrap for this context now."""
        return self._wrapper.is_current(encrypted_keys, context)

    def is_gone(self, encrypted_keys: str) -> bool:
        """Whether a key that was destroyed, waits for that, or was deleted keeps them from opening for good."""
        return self._wrapper.is_gone(encrypted_keys)

    def customer_keys_of(self, encrypted_keys: str) -> frozenset[bytes]:
        """
        Return the customer keys that opening them may wait for. A wait for the keystore is never that long.
        """
        return self._wrapper.customer_keys_of(encrypted_keys)

    # Operations on the keystore as a whole, with all of its environments.

    def create_keystore(self) -> str:
        """
        Create a keystore under the configured root key; return its id. Raises ``FileExistsError`` if there is one.
        """
        self.store.connections.create()
        self.unlock()
        return self.store.vault_id()

    def rotate_root_key(self, *, progress: Progress = silent) -> RootKeyRotation:
        """Rotate the root key, as ``maintenance.rootrotation.rotate_root_key`` does."""
        return rotate_root_key(self._ring, progress=progress)

    def back_up(self, target: Path, *, progress: Progress = silent) -> Snapshot:
        """Back the keystore up, as ``maintenance.snapshot.back_up`` does."""
        return back_up(self._ring, target, progress=progress)

    def restore(self, backup: Path, *, force: bool = False, progress: Progress = silent) -> tuple[Snapshot, Losses]:
        """Restore a backup, as ``maintenance.restore.restore`` does."""
        return restore(self._ring, backup, force=force, progress=progress)

    def schema_version(self) -> int:
        """Return the schema version, as ``maintenance.upgrading.schema_version`` does."""
        return schema_version(self._ring)

    def upgrade(self, backup: Path | None = None, *, trust_rows: bool = False, progress: Progress = silent) -> Upgrade:
        """Upgrade the keystore, as ``maintenance.upgrading.upgrade`` does."""
        return upgrade(self._ring, backup, trust_rows=trust_rows, progress=progress)

    def disable(self, name: str, value: str) -> None:
        """Refuse everything that involves the KEK of this context item, until it is enabled again."""
        self.keks.disable(name, value)

    def enable(self, name: str, value: str) -> None:
        self.keks.enable(name, value)

    def forget(self) -> None:
        """Read the state of every key from the keystore again now, rather than after a few seconds."""
        self._ring.forget()
        self._customer_keys.forget()

    def close(self) -> None:
        """Close files and connections, and forget keys. The vault can be used again afterwards."""
        self._customer_keys.close()
        self._ring.close()

    def _opened(self, encrypted_keys: str, timeout: float | None = None) -> OpenedKey:
        return self._wrapper.open(encrypted_keys, timeout=self._seconds if timeout is None else timeout)

    def _note_use(self, name: str, **data: Any) -> None:
        if self._record_key_events:
            self.store.events.note(Event.now(self._environment, name, **data))
