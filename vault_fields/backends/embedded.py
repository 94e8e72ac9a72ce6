"""The base of the backends that run the embedded Vault in this process."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import ParamSpec, TypeVar

from django.core.exceptions import ImproperlyConfigured

from vault_fields.backends.base import BaseVault
from vault_fields.datakeys.cache import Outcome
from vault_fields.embedded.customer.circuits import MAX_CALLS_AT_ONCE
from vault_fields.embedded.customer.lifecycle import CustomerKeyLifecycle
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import VaultError, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline, ask_together, in_own_thread
from vault_fields.runtime.frames import forgetful_class

__all__ = ["EmbeddedBackend"]

P = ParamSpec("P")
R = TypeVar("R")


@forgetful_class
class EmbeddedBackend(BaseVault):
    """
    A backend whose Vault is an ``EmbeddedVault`` of its own, its ``service``, which the constructor builds.

    ``service`` answers without the cache of data keys, which is what an HTTP API needs: its clients have their own.
    """

    service: EmbeddedVault

    @property
    def byok(self) -> CustomerKeyLifecycle:
        """The customer keys of this vault. What changes here is purged from this process's cache."""
        return self.service.byok

    def purge(self, context: Mapping[str, str] | None = None) -> int:
        """Forget cached data keys, as every vault does, and read the state of KEKs anew."""
        self.service.forget()
        return super().purge(context)

    def is_current(self, encrypted_keys: str, context: KeyContext) -> bool:
        return self._ask(self.service.is_current, encrypted_keys, context)

    def close(self) -> None:
        super().close()
        self.service.close()

    async def adecrypt_data_keys(self, wanted: Mapping[str, KeyContext | None]) -> dict[str, Outcome]:
        """Decrypt in a thread: one of its own where a customer's provider may keep it waiting."""
        if any(map(self.service.customer_keys_of, wanted)):
            return await in_own_thread(self.decrypt_data_keys, wanted)
        return await asyncio.to_thread(self.decrypt_data_keys, wanted)

    def _prepare(self, contexts: Collection[KeyContext]) -> None:
        self._ask(self.service.prepare, contexts)

    def _create(self, context: KeyContext) -> DataKey:
        return self._ask(self.service.create, context)

    def _decrypt(self, encrypted_keys: str, deadline: Deadline) -> DataKey:
        return self._ask(self.service.decrypt, encrypted_keys, timeout=deadline.timeout)

    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._ask(self.service.rekey, encrypted_keys, context)

    def _decrypt_many(self, encrypted_keys: list[str], deadline: Deadline) -> dict[str, Outcome]:
        # Threads would only cost where there is no network to wait for.
        customers = {each: self.service.customer_keys_of(each) for each in encrypted_keys} if encrypted_keys[1:] else {}
        outcomes = ask_together(
            [each for each in customers if customers[each]],
            lambda each: self._attempt(each, deadline),
            self._missed,
            deadline,
            at_once=self._max_concurrency,
            # Keys of one customer leave room for those of others, whatever happens to their provider.
            lane=customers.__getitem__,
            lane_width=MAX_CALLS_AT_ONCE,
            called=f"vault-{self.alias}",
        )
        is_away = False
        for each in encrypted_keys:
            if each not in outcomes:
                # A keystore that was locked for so long will be for the others as well.
                outcomes[each] = self._missed() if is_away and deadline.has_passed else self._attempt(each, deadline)
                is_away = isinstance(outcomes[each], VaultUnavailable)
        return outcomes

    def _watch_customer_keys(self) -> None:
        self.byok.changed = lambda name, value: self.purge({name: value})

    def _ask(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        # The embedded Vault does not know its own alias; its errors are completed here.
        try:
            return operation(*args, **kwargs)
        except VaultError as error:
            error.alias = self.alias
            raise
        except ImproperlyConfigured as error:
            raise self.misconfigured(str(error)) from error
