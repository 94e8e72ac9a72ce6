"""The hosted Vault of WorkOS, or anything else that speaks its three key calls."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from django.views.decorators.debug import sensitive_variables

from vault_fields.backends.base import BaseVault
from vault_fields.client import AsyncVaultClient, Endpoint, KeyCall, RetryPolicy, VaultClient
from vault_fields.exceptions import VaultError
from vault_fields.keycache import Outcome
from vault_fields.keys import DataKey, KeyContext

__all__ = ["WorkOSVault"]

# No request of a web application waits longer, and infinity is no number of seconds to a socket.
LONGEST_TIMEOUT = 300


class WorkOSVault(BaseVault):
    """
    WorkOS Vault over https.

    ``api_key`` is the environment's secret key (``sk_…``). ``timeout`` is in seconds and bounds each operation with
    all its tries, of which there are at most 1 + ``max_retries``. ``base_url`` may be plain http on this machine only.

    The coroutines ask without a thread, and share cache and single flight with the threads.
    """

    @sensitive_variables("api_key")
    def __init__(
        self,
        alias: str = "default",
        *,
        api_key: str,
        base_url: str = "https://api.workos.com",
        timeout: float = 5.0,
        max_retries: int = 3,
        **options: Any,
    ) -> None:
        super().__init__(alias, **options)
        if not _can_stand_in_a_header(api_key):
            raise self.misconfigured("api_key must be the environment's secret key (sk_…), without spaces around it.")
        self._require_number("timeout", timeout, minimum=0.001)
        if timeout > LONGEST_TIMEOUT:
            raise self.misconfigured(f"timeout must be at most {LONGEST_TIMEOUT} seconds.")
        self._require_number("max_retries", max_retries, minimum=0, integral=True)
        self._endpoint = Endpoint(base_url, alias=alias, headers={"Authorization": f"Bearer {api_key}"})
        policy = RetryPolicy(timeout=timeout, max_retries=max_retries)
        self._client = VaultClient(self._endpoint, policy)
        self._async_client = AsyncVaultClient(self._endpoint, policy)

    async def acreate_data_key(self, context: KeyContext) -> DataKey:
        self._count("create")
        generation = self.cache.generation
        key = await self._aask(KeyCall.create(context))
        self.cache.put(key, context, generation)
        return key

    async def adecrypt_data_keys(self, wanted: Mapping[str, KeyContext | None]) -> dict[str, Outcome]:
        return await self.cache.aresolve(wanted, self._afetch)

    async def arekey_data_key(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        self._count("rekey")
        generation = self.cache.generation
        key = await self._aask(KeyCall.rekey(encrypted_keys, context))
        self.cache.put(key, context, generation)
        return key

    def close(self) -> None:
        """As ``BaseVault.close``; connections of coroutines are closed by ``aclose``, or with their event loop."""
        super().close()
        self._client.close()

    async def aclose(self) -> None:
        """``close``, and close the connections of the running event loop."""
        self.close()
        await self._async_client.aclose()

    def __repr__(self) -> str:
        return f"<WorkOSVault {self.alias!r} at {self._endpoint.host}>"

    def _create(self, context: KeyContext) -> DataKey:
        return self._ask(KeyCall.create(context))

    def _decrypt(self, encrypted_keys: str) -> DataKey:
        return self._ask(KeyCall.decrypt(encrypted_keys))

    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._ask(KeyCall.rekey(encrypted_keys, context))

    # The answer gets no name here, so that no frame of a traceback has it as a local variable.

    def _ask(self, call: KeyCall) -> DataKey:
        return call.data_key(self._client.post(call.path, call.payload), alias=self.alias)

    async def _aask(self, call: KeyCall) -> DataKey:
        return call.data_key(await self._async_client.post(call.path, call.payload), alias=self.alias)

    async def _afetch(self, encrypted_keys: list[str]) -> dict[str, Outcome]:
        self._count("decrypt", len(encrypted_keys))
        turns = asyncio.Semaphore(self._max_concurrency)

        async def attempt(name: str) -> Outcome:
            async with turns:
                try:
                    return await self._aask(KeyCall.decrypt(name))
                except VaultError as error:
                    return error

        outcomes = await asyncio.gather(*map(attempt, encrypted_keys))
        return dict(zip(encrypted_keys, outcomes, strict=True))


def _can_stand_in_a_header(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]+", value) is not None
