"""The base of the backends that call a server, from threads and coroutines."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from vault_fields.backends.base import BaseVault
from vault_fields.client import AsyncVaultClient, Budget, Endpoint, RetryPolicy, VaultClient
from vault_fields.datakeys.cache import Outcome
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline, NoAnswerInTime
from vault_fields.runtime.frames import forgetful_class

__all__ = ["RemoteVault"]


@forgetful_class
class RemoteVault(BaseVault):
    """
    A vault behind an address.

    ``timeout`` is in seconds and bounds each operation with all its requests and their tries, of which each address
    gets at most 1 + ``max_retries``. Opening many keys together is one operation. All threads and coroutines of the
    process make at most ``max_calls_per_minute`` requests in any minute; the others wait, for as long as they may.

    The coroutines ask without a thread, and share cache and single flight with the threads. A backend calls
    ``_connect`` once, and supplies ``_acreate``, ``_arekey`` and ``_adecrypt_many`` beside what every backend does.
    """

    def __init__(
        self,
        alias: str = "default",
        *,
        timeout: float = 5.0,
        max_retries: int = 3,
        max_calls_per_minute: int | None = None,
        max_concurrency: int = 40,
        **options: Any,
    ) -> None:
        # A list page of a hundred rows takes the time of three calls.
        super().__init__(alias, max_concurrency=max_concurrency, **options)
        self._require_timeout(timeout, minimum=0.001)
        self.seconds = timeout
        self._require_number("max_retries", max_retries, minimum=0, integral=True)
        if max_calls_per_minute is not None:
            # With fewer, the bucket of the budget would hold next to nothing.
            self._require_number("max_calls_per_minute", max_calls_per_minute, minimum=60, integral=True)
        self._budget = None if max_calls_per_minute is None else Budget(max_calls_per_minute)
        self._policy = RetryPolicy(timeout=timeout, max_retries=max_retries)

    def _connect(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._client = VaultClient(endpoint, self._policy)
        self._async_client = AsyncVaultClient(endpoint, self._policy)

    async def acreate_data_key(self, context: KeyContext) -> DataKey:
        self._count("create")
        generation = self.cache.generation
        key = await self._acreate(context)
        self.cache.put(key, context, generation)
        return key

    async def adecrypt_data_keys(self, wanted: Mapping[str, KeyContext | None]) -> dict[str, Outcome]:
        deadline = Deadline(self.seconds)
        return await self.cache.aresolve(wanted, lambda names: self._adecrypt_many(names, deadline), deadline)

    async def arekey_data_key(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        self._count("rekey")
        generation = self.cache.generation
        key = await self._arekey(encrypted_keys, context)
        self.cache.put(key, context, generation)
        return key

    def close(self) -> None:
        """
        Close connections of threads, and forget cached keys. Those of coroutines close by ``aclose``, or with their
        loop.
        """
        super().close()
        self._client.close()

    async def aclose(self) -> None:
        """Do what ``close`` does, and close the connections of the running event loop."""
        self.close()
        await self._async_client.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r} at {self._endpoint.host}>"

    def _missed(self) -> NoAnswerInTime:
        missed = super()._missed()
        return NoAnswerInTime(f"{missed.args[0]}{self._endpoint.named}", **missed.details())

    # The methods that a backend supplies.

    @abstractmethod
    async def _acreate(self, context: KeyContext) -> DataKey: ...

    @abstractmethod
    async def _arekey(self, encrypted_keys: str, context: KeyContext) -> DataKey: ...

    @abstractmethod
    async def _adecrypt_many(self, encrypted_keys: list[str], deadline: Deadline) -> dict[str, Outcome]: ...
