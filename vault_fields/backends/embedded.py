"""What the backends share that run the embedded Vault in this process."""

from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from django.core.exceptions import ImproperlyConfigured

from vault_fields.backends.base import BaseVault
from vault_fields.embedded.byok import Byok
from vault_fields.embedded.service import EmbeddedVault
from vault_fields.exceptions import VaultError
from vault_fields.keycache import Outcome
from vault_fields.keys import DataKey, KeyContext

__all__ = ["EmbeddedBackend"]

P = ParamSpec("P")
R = TypeVar("R")


class EmbeddedBackend(BaseVault):
    """
    A backend whose Vault is an ``EmbeddedVault`` of its own, its ``service``, which the constructor builds.

    ``service`` answers without the cache of data keys, which is what an HTTP face needs: its clients have their own.
    """

    service: EmbeddedVault

    @property
    def byok(self) -> Byok:
        """The customer-managed keys of this vault. What changes here is purged from this process's cache."""
        return self.service.byok

    def purge(self, context: Mapping[str, str] | None = None) -> int:
        """As for every vault; the state of KEKs is looked at anew as well."""
        self.service.forget()
        return super().purge(context)

    def wraps_so(self, encrypted_keys: str, context: KeyContext) -> bool:
        return self._ask(self.service.wraps_so, encrypted_keys, context)

    def close(self) -> None:
        super().close()
        self.service.close()

    def _create(self, context: KeyContext) -> DataKey:
        return self._ask(self.service.create, context)

    def _decrypt(self, encrypted_keys: str) -> DataKey:
        return self._ask(self.service.decrypt, encrypted_keys)

    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._ask(self.service.rekey, encrypted_keys, context)

    def _decrypt_many(self, encrypted_keys: list[str]) -> dict[str, Outcome]:
        # Threads would only cost where there is no network to wait for.
        remote = [each for each in encrypted_keys if self.service.asks_providers(each)] if encrypted_keys[1:] else []
        outcomes = super()._decrypt_many(remote) if remote else {}
        return {each: outcomes.get(each) or self._attempt(each) for each in encrypted_keys}

    def _watch_customer_keys(self) -> None:
        self.byok.changed = lambda name, value: self.purge({name: value})

    def _ask(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        # The embedded Vault does not know by what alias it is called; its errors are completed here.
        try:
            return operation(*args, **kwargs)
        except VaultError as error:
            error.alias = self.alias
            raise
        except ImproperlyConfigured as error:
            raise self.misconfigured(str(error)) from error
