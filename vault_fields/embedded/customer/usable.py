"""The customer keys in use: taken out of the keystore, each with a provider to call."""

import hmac
import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.blob import MAX_COPY_BYTES
from vault_fields.embedded.customer.circuits import Circuit
from vault_fields.embedded.customer.provider import (
    Binding,
    KeyProvider,
    ProviderRefused,
    Providers,
    ProviderThrottled,
    no_providers,
)
from vault_fields.embedded.customer.store import ACTIVE, CONFIGURED, VERIFIED, CustomerKeyRecord, CustomerKeyStore
from vault_fields.embedded.events.log import EventLog
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.xaes import KEY_BYTES, WrappingKey
from vault_fields.exceptions import (
    KeyRevoked,
    KeyUnavailable,
    VaultError,
    VaultRefused,
    VaultThrottled,
    VaultUnavailable,
)
from vault_fields.runtime.deadline import KeySilent, NoAnswerInTime
from vault_fields.runtime.lru import SharedLRU

__all__ = ["CustomerKeys", "UsableCustomerKey"]

# Providers hold connections. If more customers than this are called at once, they share fewer connections.
MAX_PROVIDERS = 256

# The part of the timeout that a call must have had to count as not answered.
PATIENCE = 1 / 8


@dataclass(frozen=True, slots=True)
class UsableCustomerKey:
    """
    A customer key that can be used now.

    ``wrapping``, the inner key, seals a data key, and the provider wraps the result: the keystore and the provider are
    both needed to open it.
    """

    id: bytes
    environment: str
    item_name: str
    provider: KeyProvider = field(repr=False)
    circuit: Circuit = field(repr=False)
    wrapping: WrappingKey = field(repr=False)

    def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes:
        with self._named(), self.circuit.turn(timeout) as deadline:
            return self._wrapped(sealed, binding, deadline.timeout)

    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        with self._named(), self.circuit.turn(timeout) as deadline:
            return self.provider.unwrap(wrapped, binding, timeout=deadline.timeout)

    def verify(self, binding: Binding, *, timeout: float) -> None:
        """
        Wrap and unwrap a random probe, in four calls. Raises the error that stands in the way.

        A provider that was silent a moment ago is called all the same: somebody wants to know.
        """
        probe = os.urandom(KEY_BYTES)
        with self._named():
            self.provider.inspect(timeout=timeout)
        with self._named():
            wrapped = self._wrapped(probe, binding, timeout)
            if not hmac.compare_digest(self._reopened(wrapped, binding, timeout) or b"", probe):
                raise VaultRefused("its provider does not give back what it wrapped.")
            if self._reopened(wrapped, {**binding, "purpose": "another"}, timeout) is not None:
                raise VaultRefused("its provider does not authenticate what a copy is bound to.")
        self.circuit.mend()

    def _wrapped(self, sealed: bytes, binding: Binding, timeout: float) -> bytes:
        wrapped = self.provider.wrap(sealed, binding, timeout=timeout)
        if not 1 <= len(wrapped) <= MAX_COPY_BYTES:
            raise VaultRefused(f"its provider made a copy of {len(wrapped)} bytes; {MAX_COPY_BYTES} are the most.")
        return wrapped

    def _reopened(self, wrapped: bytes, binding: Binding, timeout: float) -> bytes | None:
        try:
            return self.provider.unwrap(wrapped, binding, timeout=timeout)
        except InvalidTag:
            return None

    @contextmanager
    def _named(self) -> Iterator[None]:
        # Providers do not know whose key theirs is.
        try:
            yield
        except VaultError as error:
            message = f"The customer key for the context item {self.item_name!r}: {error.args[0]}"
            raise _of_one_customer(type(error))(message, **error.details()) from error


def _of_one_customer(kind: type[VaultError]) -> type[VaultError]:
    """Turn an error of a provider into one that concerns one customer: callers may go on with the keys of others."""
    return next(particular for general, particular in _PARTICULAR.items() if issubclass(kind, general))


# The first that fits counts.
_PARTICULAR: Mapping[type[VaultError], type[VaultError]] = {
    KeyRevoked: KeyRevoked,
    VaultRefused: ProviderRefused,
    NoAnswerInTime: KeySilent,
    VaultThrottled: ProviderThrottled,
    VaultUnavailable: KeyUnavailable,
}


class _Items(NamedTuple):
    """The context items with a customer key in a turn of the keyring. They are few compared to all items."""

    turn: int
    items: frozenset[tuple[str, str, str]]


class CustomerKeys:
    """
    The customer keys of a keystore, by context item and by id. Thread-safe.

    The state of a key is read from the keystore at each use. The set of items that have a key at all is remembered for
    as long as the keyring holds KEKs.
    """

    def __init__(
        self,
        ring: KeyRing,
        providers: Providers = no_providers,
        *,
        timeout: float = 5.0,
    ) -> None:
        # 0 means "do not wait for locks". For a network it would demand the impossible.
        self.timeout = max(timeout, 0.01)
        self.store = CustomerKeyStore(ring.store.connections, ring.tags)
        self._ring = ring
        self._build = providers
        self._held: _Items | None = None
        self._providers: SharedLRU[tuple[str, str], KeyProvider] = SharedLRU(max_entries=MAX_PROVIDERS)
        self._circuits: SharedLRU[bytes, Circuit] = SharedLRU(max_entries=MAX_PROVIDERS)

    @property
    def vault_id(self) -> str:
        """The id of the vault, read anew: another vault may have been restored into the keystore."""
        return self._ring.store.mark()[0]

    @property
    def log(self) -> EventLog:
        return self._ring.store.events

    def for_item(self, environment: str, name: str, value: str) -> UsableCustomerKey | None:
        """
        Return the key that takes the place of the item's managed KEK; None if the item has no such key.

        Raises ``KeyRevoked`` if it has one that is disabled: the managed KEK does not stand in for it.
        """
        item = environment, name, value
        if item not in self._items_with_keys():
            return None
        record = self.store.of_item(*item)
        if record is None or record.state in {CONFIGURED, VERIFIED}:
            return None  # It changed a moment ago, and is not active yet.
        return self._require(record, {ACTIVE})

    def without_key(self, environment: str, items: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the items, by name and value, that use their managed KEK."""
        taken = self._items_with_keys()
        return [item for item in items if (environment, *item) not in taken]

    def opening(self, record: CustomerKeyRecord) -> UsableCustomerKey:
        """Return the key of a record to open what it wrapped. Raises ``KeyRevoked`` if it is disabled or deleted."""
        # A deactivated key is "verified" too.
        return self._require(record, {VERIFIED, ACTIVE})

    def usable(self, record: CustomerKeyRecord) -> UsableCustomerKey:
        """Return the key of a record that is not deleted, in whatever other state."""
        circuit = self._circuits.get(record.id) or self._circuits.add(
            record.id, Circuit(patience=self.timeout * PATIENCE)
        )
        parts = record.id, record.environment, record.item_name, self._provider(record), circuit
        return UsableCustomerKey(*parts, self._inner_key(record))

    def add(
        self, environment: str, name: str, value: str, provider: str, settings: str, state: str
    ) -> CustomerKeyRecord | None:
        """Store a key with a fresh id and inner key. Return None, and store nothing, if ``self.store`` refuses it."""
        vault_id = self.vault_id
        root_key = self._ring.unlock().current
        parts = uuid.uuid4().bytes, environment, name, value, provider, settings, state, root_key.id
        associated = CustomerKeyRecord(*parts, b"").associated_data(vault_id)
        record = CustomerKeyRecord(*parts, root_key.wrapping.wrap(os.urandom(KEY_BYTES), associated))
        return record if self.store.add(record, vault_id) else None

    def build(self, kind: str, settings: Mapping[str, str]) -> KeyProvider:
        """Build a provider for one caller alone. Raises ``ValueError`` for invalid settings."""
        return self._build(kind, settings)

    def provider_name(self, record: CustomerKeyRecord) -> str:
        """Return the provider's name for events, also if it can no longer be built: its key can still be deleted."""
        try:
            return self._build(record.provider, record.parsed_settings()).name
        except (ValueError, ImproperlyConfigured):
            return record.provider

    def forget(self) -> None:
        """Read the keystore again for every item."""
        self._held = None

    def close(self) -> None:
        self.forget()
        self._circuits.clear()
        for provider in self._providers.clear():
            provider.close()

    def _require(self, record: CustomerKeyRecord, states: Collection[str]) -> UsableCustomerKey:
        if record.state not in states:
            raise KeyRevoked(f"The customer key for the context item {record.item_name!r} is {record.state}.")
        return self.usable(record)

    def _items_with_keys(self) -> frozenset[tuple[str, str, str]]:
        turn, held = self._ring.turn(), self._held
        if held is None or held.turn != turn:
            # Read after the turn began: a key that is added in between has begun another turn.
            held = self._held = _Items(turn, self.store.items_with_keys())
        return held.items

    def _provider(self, record: CustomerKeyRecord) -> KeyProvider:
        name = record.provider, record.settings
        provider = self._providers.get(name)
        if provider is None:
            try:
                provider = self._build(record.provider, record.parsed_settings())
            except (ValueError, ImproperlyConfigured) as error:
                # Not ImproperlyConfigured: the other keys of the vault are not affected.
                raise KeyUnavailable(
                    f"The customer key for the context item {record.item_name!r} cannot be asked: {error}"
                ) from error
            # Providers that must go may still be in use. They close with their last user.
            self._providers.put(name, provider)
        return provider

    def _inner_key(self, record: CustomerKeyRecord) -> WrappingKey:
        associated, location = record.associated_data(self.vault_id), self._ring.store.location
        return WrappingKey(self._ring.unlock().unwrap(record, associated, location))
