"""The wrapper of data keys: it makes a copy under the key of every context item, and opens copies again."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag

from vault_fields.embedded.blob import EncryptedKeys, KeyKind, KeyName, MalformedBlob, WrappedCopy, id_text, naming
from vault_fields.embedded.customer.provider import Binding
from vault_fields.embedded.customer.store import DELETED
from vault_fields.embedded.customer.usable import CustomerKeys, UsableCustomerKey
from vault_fields.embedded.managed.keyring import ATTEMPTS, Kek, KeyRing
from vault_fields.embedded.managed.store import DESTROYED, PENDING_DESTRUCTION
from vault_fields.embedded.xaes import framed
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline

__all__ = ["REFUSAL", "UNWRAP_POLICIES", "KeyWrapper", "OpenedKey"]

# One message for every cause: a caller must not learn which check failed.
REFUSAL = "The encrypted keys do not open in this vault."

# The number of copies of a data key that must open.
UNWRAP_POLICIES = ("all", "first")


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A data key in transit. A provider may fail while one is held, and a debugger's page shows local variables."""

    id: bytes
    plaintext: bytes = field(repr=False)


class KeyWrapper:
    """
    The wrapper of data keys, which uses the managed KEKs and customer keys of one environment. Thread-safe.

    Nothing is locked, and no transaction is open, while a provider is called. All providers of one wrapping or opening
    share the timeout of ``customer_keys`` evenly.
    """

    def __init__(self, ring: KeyRing, customer_keys: CustomerKeys, environment: str, *, unwrap: str) -> None:
        if unwrap not in UNWRAP_POLICIES:
            raise ValueError("unwrap must be 'all' or 'first'.")
        self._ring = ring
        self._customer_keys = customer_keys
        self._environment = environment
        self._unwrap = unwrap
        # The beginning of all associated data, and the vault it is for: another one may be restored into the keystore.
        self._prefix = "", b""

    def keys_for(self, context: KeyContext) -> list[Kek | UsableCustomerKey]:
        """Return the key of each item: the customer's, or else the managed one, created if the item is new."""
        environment = self._environment
        customers = {item: self._customer_keys.for_item(environment, *item) for item in context.items()}
        managed = self._ring.for_items(environment, [item for item, key in customers.items() if key is None])
        keys = iter(managed)
        return [key or next(keys) for key in customers.values()]

    def prepare(self, contexts: Iterable[KeyContext]) -> None:
        """Make the managed keys that ``keys_for`` would make for these contexts one by one."""
        items = dict.fromkeys(item for context in contexts for item in context.items())
        self._ring.prepare(self._environment, self._customer_keys.without_key(self._environment, items))

    def handed_out(self, context: KeyContext, obtain: Callable[[], OpenedKey], timeout: float) -> DataKey:
        """
        Return a data key, wrapped under the keys that wrap for the context at the moment when it is handed out.

        The keys come from what is held of the keystore, so the keystore is read again once the copies are made: since
        the last look, a key may have been withdrawn, or a backup restored that does not have it. ``obtain`` is called
        once, when the keys are there.
        """
        deadline = Deadline(timeout)
        turn, vault_id = self._ring.turn(), self._ring.vault_id()
        keys = self.keys_for(context)
        opened = obtain()
        for _ in range(ATTEMPTS):
            key = self.wrap(opened, keys, vault_id, timeout=deadline.timeout)
            if self._ring.is_current(turn):
                return key
            before = vault_id, keys
            turn, vault_id = self._ring.turn(), self._ring.vault_id()
            keys = self.keys_for(context)
            if before[0] == vault_id and all(map(_is_same, before[1], keys)):
                # Something else has changed. These keys were read after the copies were made.
                return key
        raise VaultUnavailable(
            f"The keys in the keystore {self._ring.store.location} changed {ATTEMPTS} times while a data key was "
            "wrapped under them. Try again."
        )

    def wrap(
        self, opened: OpenedKey, keys: Sequence[Kek | UsableCustomerKey], vault_id: str, *, timeout: float | None = None
    ) -> DataKey:
        """Wrap the data key under these keys, for the vault that they belong to."""
        names = [_name(key) for key in keys]
        associated = self._associated_data(vault_id, opened.id, names)
        sealed = [key.wrapping.wrap(opened.plaintext, data) for key, data in zip(keys, associated, strict=True)]
        share = self._share(names, timeout)
        copies = []
        for key, name, copy, data in zip(keys, names, sealed, associated, strict=True):
            if isinstance(key, UsableCustomerKey):
                copy = key.wrap(copy, self._binding(vault_id, opened.id, data), timeout=share)  # noqa: PLW2901
            copies.append(WrappedCopy(name.id, name.version, copy, name.kind))
        encrypted_keys = EncryptedKeys(opened.id, tuple(copies)).encode()
        return DataKey(id_text(opened.id), encrypted_keys, opened.plaintext)

    def open(self, encrypted_keys: str, *, timeout: float | None = None) -> OpenedKey:
        """
        Open the data key by the policy: if every copy opens, or from the first copy that does.

        With ``"first"`` only a copy whose key is revoked or cannot be reached is passed over. A copy that was altered
        refuses the whole with either policy.
        """
        try:
            blob = EncryptedKeys.decode(encrypted_keys)
        except MalformedBlob:
            raise VaultRefused(REFUSAL) from None
        names = [copy.name for copy in blob.copies]
        vault_id, share = self._ring.vault_id(), self._share(names, timeout)
        associated = self._associated_data(vault_id, blob.data_key_id, names)
        try:
            if self._unwrap == "first":
                return self._open_first(blob, associated, share, vault_id)
            return self._open_all(blob, associated, share, vault_id)
        except InvalidTag:
            raise VaultRefused(REFUSAL) from None

    def is_current(self, encrypted_keys: str, context: KeyContext) -> bool:
        """Whether these keys are wrapped by the keys that ``wrap`` would take for this context. Opens nothing."""
        try:
            copies = EncryptedKeys.decode(encrypted_keys).copies
        except MalformedBlob:
            raise VaultRefused(REFUSAL) from None
        return [copy.name for copy in copies] == [_name(key) for key in self.keys_for(context)]

    def is_gone(self, encrypted_keys: str) -> bool:
        """
        Whether keys that were destroyed, or wait for it, or were deleted keep these from opening for good.

        If every copy must open, one such key is enough. If any copy may open, every copy must be under such a key.
        """
        gone = [self._is_gone(copy) for copy in EncryptedKeys.decode(encrypted_keys).copies]
        return all(gone) if self._unwrap == "first" else any(gone)

    def customer_keys_of(self, encrypted_keys: str) -> frozenset[bytes]:
        """Return the ids of the customer keys that wrap them. Does not read the keystore."""
        try:
            copies = EncryptedKeys.decode(encrypted_keys).copies
        except MalformedBlob:
            return frozenset()
        return frozenset(copy.kek_id for copy in copies if copy.kind == KeyKind.CUSTOMER)

    def _open_all(self, blob: EncryptedKeys, associated: Sequence[bytes], share: float, vault_id: str) -> OpenedKey:
        # Keys known to be revoked are refused before any provider is called.
        keys = [self._find(copy) for copy in blob.copies]
        sealed = self._received(blob, keys, associated, share, vault_id)
        opened = {key.wrapping.unwrap(copy, data) for key, copy, data in zip(keys, sealed, associated, strict=True)}
        if len(opened) != 1:
            del opened
            raise VaultRefused(REFUSAL)
        return OpenedKey(blob.data_key_id, opened.pop())

    def _open_first(self, blob: EncryptedKeys, associated: Sequence[bytes], share: float, vault_id: str) -> OpenedKey:
        failures: list[KeyRevoked | VaultUnavailable] = []
        for position, copy in enumerate(blob.copies):
            try:
                key = self._find(copy)
                [sealed] = self._received(blob, [key], associated, share, vault_id, position)
            except (KeyRevoked, VaultUnavailable) as error:
                failures.append(error)
                continue
            return OpenedKey(blob.data_key_id, key.wrapping.unwrap(sealed, associated[position]))
        # While one of them may come back, trying again may help.
        raise next((error for error in failures if isinstance(error, VaultUnavailable)), failures[0])

    def _received(
        self,
        blob: EncryptedKeys,
        keys: Sequence[Kek | UsableCustomerKey],
        associated: Sequence[bytes],
        share: float,
        vault_id: str,
        start: int = 0,
    ) -> list[bytes]:
        """Return the copies from ``start`` on as their providers return them; those of managed KEKs as they are."""
        received = []
        for position, key in enumerate(keys, start):
            wrapped = blob.copies[position].wrapped
            if isinstance(key, UsableCustomerKey):
                binding = self._binding(vault_id, blob.data_key_id, associated[position])
                wrapped = key.unwrap(wrapped, binding, timeout=share)
            received.append(wrapped)
        return received

    def _find(self, copy: WrappedCopy) -> Kek | UsableCustomerKey:
        if copy.kind == KeyKind.CUSTOMER:
            record = self._customer_keys.store.find(copy.kek_id)
            if record is None or record.environment != self._environment:
                raise VaultRefused(REFUSAL)
            return self._customer_keys.opening(record)
        kek = self._ring.find(copy.kek_id, copy.kek_version)
        if kek is None or kek.environment != self._environment:
            raise VaultRefused(REFUSAL)
        return kek

    def _is_gone(self, copy: WrappedCopy) -> bool:
        if copy.kind == KeyKind.CUSTOMER:
            customers = self._customer_keys.store.find(copy.kek_id)
            return customers is not None and customers.state == DELETED
        managed = self._ring.record(copy.kek_id, copy.kek_version)
        return managed is not None and managed.state in {PENDING_DESTRUCTION, DESTROYED}

    def _share(self, names: Sequence[KeyName], timeout: float | None) -> float:
        # The caller's operation may have begun earlier.
        timeout = self._customer_keys.timeout if timeout is None else min(timeout, self._customer_keys.timeout)
        return timeout / max(1, sum(name.kind == KeyKind.CUSTOMER for name in names))

    def _binding(self, vault_id: str, data_key_id: bytes, associated: bytes) -> Binding:
        # Customers can find these ids in the logs of their provider. Items are not shown: they may identify a person.
        return {
            "vault": vault_id,
            "environment": self._environment,
            "data_key": id_text(data_key_id),
            "entry": hashlib.sha256(associated).hexdigest(),
        }

    def _associated_data(self, vault_id: str, data_key_id: bytes, names: Sequence[KeyName]) -> list[bytes]:
        prefix = self._prefix
        if vault_id != prefix[0]:
            parts = [b"vault_fields data key", vault_id.encode(), self._environment.encode()]
            prefix = self._prefix = vault_id, framed(*parts)
        common = prefix[1] + framed(naming(data_key_id, names))
        return [common + framed(bytes([position])) for position in range(len(names))]


def _is_same(key: Kek | UsableCustomerKey, other: Kek | UsableCustomerKey) -> bool:
    return _name(key) == _name(other) and key.wrapping.is_same(other.wrapping)


def _name(key: Kek | UsableCustomerKey) -> KeyName:
    if isinstance(key, UsableCustomerKey):
        return KeyName(KeyKind.CUSTOMER, key.id, 0)
    return KeyName(KeyKind.MANAGED, key.id, key.version)
