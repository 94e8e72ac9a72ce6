"""The life of customer keys apart from their use: configure, verify, activate, disable and delete."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from vault_fields.embedded.customer.store import ACTIVE, CONFIGURED, DISABLED, VERIFIED, CustomerKeyRecord
from vault_fields.embedded.customer.usable import CustomerKeys
from vault_fields.embedded.events.event import Event
from vault_fields.exceptions import VaultError, VaultRefused, VaultUnavailable
from vault_fields.keys import KeyContext
from vault_fields.runtime.frames import forgetful_class
from vault_fields.text.encoding import compact_json

__all__ = ["CustomerKey", "CustomerKeyLifecycle"]

# The step that leads to each state, in words for a caller who asks for the wrong next step.
_NEXT = {
    CONFIGURED: "verify it first",
    VERIFIED: "activate it first",
    DISABLED: "enable it first",
}


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """The public facts about a customer key. None of them is secret."""

    id: UUID
    item_name: str
    item_value: str
    provider: str
    settings: Mapping[str, str]
    state: str


@forgetful_class
class CustomerKeyLifecycle:
    """
    The customer keys of one environment, by context item: an exact name and an exact value.

    Changes raise ``VaultRefused``, and change nothing, where the item has no such key or its key is in a state that
    forbids them. All calls raise ``VaultUnavailable`` if the keystore fails. ``changed`` is called with an item that
    begins or stops to use a key, so that cached facts about it can be dropped.
    """

    # The organization's item: the events of the specification have a place for this one only.
    ORGANIZATION: ClassVar[str] = "organization_id"

    def __init__(self, keys: CustomerKeys, environment: str) -> None:
        self.changed: Callable[[str, str], object] = lambda name, value: None
        self._keys = keys
        self._environment = environment

    def get(self, name: str, value: str) -> CustomerKey | None:
        """Return the key of an item, in whatever state; None if it has none, or only deleted ones."""
        record = self._keys.store.of_item(self._environment, name, value)
        return None if record is None else _described(record)

    def all(self) -> list[CustomerKey]:
        """Return all keys, deleted ones too, in the order of their items."""
        return [_described(record) for record in self._keys.store.of_environment(self._environment)]

    def configure(self, name: str, value: str, *, provider: str, settings: Mapping[str, str]) -> CustomerKey:
        """
        Name the key of this item. The managed KEK stays in use until ``activate``; the provider is not called.

        ``settings`` must hold no secret: they are stored and shown. Raises ``ValueError`` for settings that the
        provider does not know, and ``KeyContextError`` for an item that no key context can have.
        """
        KeyContext({name: value})
        self._keys.build(provider, settings).close()
        text = compact_json(dict(sorted(settings.items())))
        record = self._keys.add(self._environment, name, value, provider, text, CONFIGURED)
        if record is None:
            present = self._keys.store.of_item(self._environment, name, value)
            if present is None:
                raise VaultUnavailable("The root key of the keystore is being changed. Try again.")
            raise VaultRefused(
                f"The context item {name!r} has a customer key already, which is {present.state}. Rekey what "
                "it wrapped, and delete it first."
            )
        return _described(record)

    def verify(self, name: str, value: str) -> CustomerKey:
        """
        Wrap and unwrap a random probe through the provider, and record an event, whatever the outcome.

        Raises the error that stands in the way: ``KeyRevoked``, ``VaultUnavailable`` or ``VaultRefused``. The state of
        a key that was verified before stays as it is.
        """
        record = self._required(name, value)
        key = self._keys.usable(record)
        binding = {"vault": self._keys.vault_id, "environment": self._environment, "purpose": "verification"}
        try:
            key.verify(binding, timeout=self._keys.timeout)
        except VaultError:
            self._keys.log.add(self._event("verification_completed", record, key.provider.name, verified=False))
            self._tell(record)
            raise
        event = self._event("verification_completed", record, key.provider.name, verified=True)
        if not self._keys.store.move(record.id, {CONFIGURED}, VERIFIED, event):
            self._keys.log.add(event)
        return self._now(record)

    def activate(self, name: str, value: str) -> CustomerKey:
        """
        Wrap new data keys of this item with the key, and not the managed KEK, from now on. Old data stay as they are.
        """
        return self._move(name, value, "activated", {VERIFIED}, ACTIVE)

    def deactivate(self, name: str, value: str) -> CustomerKey:
        """
        Undo ``activate``: the managed KEK wraps new data keys again. The key still opens what it wrapped.

        Data can then be given back to the managed KEK, with ``vault_rekey --rewrap``, before the key is deleted.
        """
        return self._move(name, value, "deactivated", {ACTIVE}, VERIFIED)

    def disable(self, name: str, value: str) -> CustomerKey:
        """Refuse everything that involves the key, with ``KeyRevoked``, until it is enabled again."""
        return self._move(name, value, "disabled", {VERIFIED, ACTIVE}, DISABLED)

    def enable(self, name: str, value: str) -> CustomerKey:
        """Let a disabled key be used again. It is active then, whatever it was before."""
        return self._move(name, value, "enabled", {DISABLED}, ACTIVE)

    def delete(self, name: str, value: str) -> None:
        """
        Refuse everything that involves the key, for ever. Its inner key is erased: the customer's key alone opens
        nothing.

        The item uses a managed KEK again for new data keys. An interrupted call may be repeated.
        """
        record = self._keys.store.of_item(self._environment, name, value)
        if record is None:
            if not any((key.item_name, key.item_value) == (name, value) for key in self.all()):
                raise self._missing(name)
            self._keys.store.scrub()
            return
        self._keys.store.delete(record.id, self._event("deleted", record, self._keys.provider_name(record)))
        self._tell(record)

    def _move(self, name: str, value: str, change: str, states: set[str], state: str) -> CustomerKey:
        record = self._required(name, value)
        if not self._keys.store.move(record.id, states, state):
            now = self._now(record).state
            raise VaultRefused(
                f"The customer key for the context item {name!r} cannot be {change}: it is {now}"
                f"{'' if now not in _NEXT or now == state else '; ' + _NEXT[now]}."
            )
        self._tell(record)
        return self._now(record)

    def _tell(self, record: CustomerKeyRecord) -> None:
        self._keys.forget()
        self.changed(record.item_name, record.item_value)

    def _required(self, name: str, value: str) -> CustomerKeyRecord:
        record = self._keys.store.of_item(self._environment, name, value)
        if record is None:
            raise self._missing(name)
        return record

    def _now(self, record: CustomerKeyRecord) -> CustomerKey:
        return _described(self._keys.store.find(record.id) or record)

    def _missing(self, name: str) -> VaultRefused:
        return VaultRefused(f"The context item {name!r} has no customer key of this value.")

    def _event(self, what: str, record: CustomerKeyRecord, provider: str, **more: bool) -> Event:
        organization = record.item_value if record.item_name == self.ORGANIZATION else ""
        name = f"vault.byok_key.{what}"
        return Event.now(self._environment, name, organization_id=organization, key_provider=provider, **more)


def _described(record: CustomerKeyRecord) -> CustomerKey:
    settings = record.parsed_settings()
    return CustomerKey(
        UUID(bytes=record.id), record.item_name, record.item_value, record.provider, settings, record.state
    )
