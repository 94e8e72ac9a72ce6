"""The embedded Vault itself: the three operations on data keys."""

import os
import uuid
from typing import Any

from cryptography.exceptions import InvalidTag

from vault_fields.embedded.blob import EncryptedKeys, MalformedBlob, WrappedCopy, naming
from vault_fields.embedded.keyring import Kek, KeyRing
from vault_fields.embedded.lifecycle import Keks
from vault_fields.embedded.wrapping import framed
from vault_fields.exceptions import VaultRefused
from vault_fields.keys import DATA_KEY_BYTES, DataKey, KeyContext

__all__ = ["EmbeddedVault"]

# One message for every cause: a caller must not learn which check failed.
REFUSAL = "The encrypted keys do not open in this vault."


class EmbeddedVault:
    """
    Data keys wrapped under the KEKs of one environment of a keystore. Thread-safe; opens nothing before it is used.

    Every operation raises ``VaultUnavailable`` if the keystore fails, ``KeyRevoked`` if a KEK that it needs is
    disabled, ``VaultRefused`` for encrypted keys that this vault did not make, and ``ImproperlyConfigured`` where a
    setting (the path, the root key) is wrong. The limits of a context are those of ``KeyContext``.
    """

    def __init__(self, ring: KeyRing, *, environment: str = "default", record_key_events: bool = False) -> None:
        self._ring = ring
        self._environment = environment
        self._record_key_events = record_key_events

    @property
    def environment(self) -> str:
        return self._environment

    @property
    def store(self) -> KeyStore:
        return self._ring.store

    def for_environment(self, environment: str, *, record_key_events: bool = False) -> "EmbeddedVault":
        """The vault of another environment of the same keystore: no KEK is of both."""
        return EmbeddedVault(self._ring, environment=environment, record_key_events=record_key_events)
        self.keks = Keks(ring, environment)

    def unlock(self) -> None:
        """Open the keystore and check the root key now, rather than on first use."""
        self._ring.unlock()

    def create(self, context: KeyContext) -> DataKey:
        """A fresh random data key. Costs no write, except for items that have no KEK yet."""
        key = self.new_data_key(context)
        self._note_read(key, context)
        return key

    def decrypt(self, encrypted_keys: str) -> DataKey:
        """The data key, if *every* copy of it opens: one revoked KEK among several is enough to refuse."""
        key = self.open_data_key(encrypted_keys)
        self._note_decrypted(key)
        return key

    def rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        """The same data key, with the same id, wrapped for another context."""
        key = self.rewrap_data_key(encrypted_keys, context)
        self._note_decrypted(key)
        self._note_read(key, context)
        return key

    # The same three for a data key that stays in this process, and of which no event tells.

    def new_data_key(self, context: KeyContext) -> DataKey:
        keks = self._keks(context)
        return self._wrapped(uuid.uuid4().bytes, os.urandom(DATA_KEY_BYTES), keks)

    def open_data_key(self, encrypted_keys: str) -> DataKey:
        data_key_id, plaintext = self._open(encrypted_keys)
        return DataKey(str(uuid.UUID(bytes=data_key_id)), encrypted_keys, plaintext)

    def rewrap_data_key(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        keks = self._keks(context)
        return self._wrapped(*self._open(encrypted_keys), keks)

    def disable(self, name: str, value: str) -> None:
        """Refuse everything that the KEK of this context item has a part in, until it is enabled again."""
        self.keks.disable(name, value)

    def enable(self, name: str, value: str) -> None:
        self.keks.enable(name, value)

    def forget(self) -> None:
        """Look at the keystore again for the state of every KEK, rather than after a few seconds."""
        self._ring.forget()

    def close(self) -> None:
        """Let go of files and keys. The vault can be used again afterwards."""
        self._ring.close()

    def _note_read(self, key: DataKey, context: KeyContext) -> None:
        if self._record_key_events:
            self._note("vault.dek.read", key_ids=[key.id], key_context=dict(context))

    def _note_decrypted(self, key: DataKey) -> None:
        if self._record_key_events:
            self._note("vault.dek.decrypted", key_id=key.id)

    def _note(self, name: str, **data: Any) -> None:
        self.store.events.note(Event.now(self._environment, name, **data))

    def _keks(self, context: KeyContext) -> list[Kek]:
        return [self._ring.for_item(self._environment, name, value) for name, value in context.items()]

    # Nothing below can fail for a reason outside this process once a data key is in a variable: what debuggers and
    # error reports show of a failed call then holds no data key.

    def _wrapped(self, data_key_id: bytes, plaintext: bytes, keks: list[Kek]) -> DataKey:
        associated = self._associated_data(naming(data_key_id, [(kek.id, kek.version) for kek in keks]), len(keks))
        copies = tuple(
            WrappedCopy(kek.id, kek.version, kek.wrapping.wrap(plaintext, data))
            for kek, data in zip(keks, associated, strict=True)
        )
        encrypted_keys = EncryptedKeys(data_key_id, copies).encode()
        return DataKey(str(uuid.UUID(bytes=data_key_id)), encrypted_keys, plaintext)

    def _open(self, encrypted_keys: str) -> tuple[bytes, bytes]:
        try:
            blob = EncryptedKeys.decode(encrypted_keys)
        except MalformedBlob:
            raise VaultRefused(REFUSAL) from None
        wrappings = [self._find(copy).wrapping for copy in blob.copies]
        associated = self._associated_data(
            naming(blob.data_key_id, [(copy.kek_id, copy.kek_version) for copy in blob.copies]), len(blob.copies)
        )
        try:
            opened = {
                wrapping.unwrap(copy.wrapped, data)
                for wrapping, copy, data in zip(wrappings, blob.copies, associated, strict=True)
            }
        except InvalidTag:
            raise VaultRefused(REFUSAL) from None
        if len(opened) != 1:
            del opened
            raise VaultRefused(REFUSAL)
        return blob.data_key_id, opened.pop()

    def _find(self, copy: WrappedCopy) -> Kek:
        kek = self._ring.find(copy.kek_id, copy.kek_version)
        if kek is None or kek.environment != self._environment:
            raise VaultRefused(REFUSAL)
        return kek

    def _associated_data(self, name: bytes, count: int) -> list[bytes]:
        parts = [b"vault_fields data key", self._ring.store.vault_id().encode(), self._environment.encode(), name]
        return [framed(*parts, bytes([position])) for position in range(count)]
