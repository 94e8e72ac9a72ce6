"""A Vault for tests: the embedded one over a keystore in memory, which can be told to fail."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.byok import build_provider
from vault_fields.embedded.customer.usable import CustomerKeys
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import decode_root_key, generate_root_key
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.frames import forgetful_class

__all__ = ["InMemoryVault"]


@forgetful_class
class InMemoryVault(EmbeddedBackend):
    """
    The embedded Vault with nothing on disk: its keys end with it, and what they encrypted is lost. For tests.

    All threads share it. A forked child goes on with a copy, and what one of the two adds the other does not have.
    """

    is_for_tests = True
    service: "_FailingVault"

    def __init__(self, alias: str = "default", **options: Any) -> None:
        super().__init__(alias, **options)
        ring = KeyRing(KeyStore.in_memory(), decode_root_key(generate_root_key()))
        self.service = _FailingVault(ring, customer_keys=CustomerKeys(ring, build_provider))
        self._watch_customer_keys()

    @contextmanager
    def fail_with(self, failure: Exception) -> Iterator[None]:
        """
        Raise ``failure`` from every call to the Vault within the block, in any thread.

        Keys that are cached are still served, as they are when a real Vault is away: ``purge()`` first if they must
        not be.
        """
        before, self.service.failure = self.service.failure, failure
        try:
            yield
        finally:
            self.service.failure = before

    def revoke(self, name: str, value: str) -> None:
        """Withdraw the key of a context item: everything that involves it raises ``KeyRevoked``, at once."""
        self.service.disable(name, value)
        self.purge({name: value})

    def restore(self, name: str, value: str) -> None:
        """Undo ``revoke``."""
        self.service.enable(name, value)


class _FailingVault(EmbeddedVault):
    failure: Exception | None = None

    def for_environment(self, environment: str, *, record_key_events: bool = False, patience: float = 1.0) -> Self:
        vault = super().for_environment(environment, record_key_events=record_key_events, patience=patience)
        vault.failure = self.failure
        return vault

    def prepare(self, contexts: Iterable[KeyContext]) -> None:
        # The calls that it was for report the fault.
        if self.failure is None:
            super().prepare(contexts)

    def new_data_key(self, context: KeyContext) -> DataKey:
        self._fail_if_told()
        return super().new_data_key(context)

    def open_data_key(self, encrypted_keys: str, *, timeout: float | None = None) -> DataKey:
        self._fail_if_told()
        return super().open_data_key(encrypted_keys, timeout=timeout)

    def rewrap_data_key(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        self._fail_if_told()
        return super().rewrap_data_key(encrypted_keys, context)

    def _fail_if_told(self) -> None:
        if self.failure is not None:
            # One instance is raised many times; without this its traceback would grow with each.
            raise self.failure.with_traceback(None)
