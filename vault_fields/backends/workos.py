"""The hosted Vault of WorkOS, or anything else that speaks its three key calls."""

import asyncio
import re
from typing import Any

from vault_fields.backends.remote import RemoteVault
from vault_fields.client import Endpoint, KeyCall
from vault_fields.datakeys.cache import Outcome
from vault_fields.exceptions import VaultError, VaultThrottled
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline
from vault_fields.runtime.frames import forget, forgetful_class

__all__ = ["WorkOSVault"]

HOSTED = "https://api.workos.com"
# Of one API key, as WorkOS documents it.
HOSTED_CALLS_PER_MINUTE = 6000


@forgetful_class
class WorkOSVault(RemoteVault):
    """
    WorkOS Vault over https.

    ``api_key`` is the environment's secret key (``sk_…``). ``base_url`` may be plain http on this machine only.
    By default ``max_calls_per_minute`` is what WorkOS allows for the hosted Vault, and elsewhere there is no limit.
    """

    def __init__(
        self,
        alias: str = "default",
        *,
        api_key: str,
        base_url: str = HOSTED,
        max_calls_per_minute: int | None = None,
        **options: Any,
    ) -> None:
        if max_calls_per_minute is None and base_url == HOSTED:
            max_calls_per_minute = HOSTED_CALLS_PER_MINUTE
        super().__init__(alias, max_calls_per_minute=max_calls_per_minute, **options)
        if not _can_stand_in_a_header(api_key):
            raise self.misconfigured("api_key must be the environment's secret key (sk_…), without spaces around it.")
        headers = {"Authorization": f"Bearer {api_key}"}
        self._connect(Endpoint(base_url, alias=alias, headers=headers, budget=self._budget))

    def _create(self, context: KeyContext) -> DataKey:
        return self._ask(KeyCall.create(context))

    def _decrypt(self, encrypted_keys: str, deadline: Deadline) -> DataKey:
        return self._ask(KeyCall.decrypt(encrypted_keys), deadline.timeout)

    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._ask(KeyCall.rekey(encrypted_keys, context))

    async def _acreate(self, context: KeyContext) -> DataKey:
        return await self._aask(KeyCall.create(context))

    async def _arekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return await self._aask(KeyCall.rekey(encrypted_keys, context))

    # The answer gets no name here, so that no frame of a traceback has it as a local variable.

    def _ask(self, call: KeyCall, timeout: float | None = None) -> DataKey:
        return call.data_key(self._client.post(call.path, call.payload, timeout=timeout), alias=self.alias)

    async def _aask(self, call: KeyCall, within: float | None = None) -> DataKey:
        return call.data_key(await self._async_client.post(call.path, call.payload, within=within), alias=self.alias)

    async def _adecrypt_many(self, encrypted_keys: list[str], deadline: Deadline) -> dict[str, Outcome]:
        turns = asyncio.Semaphore(self._max_concurrency)
        throttled: list[VaultThrottled] = []

        async def attempt(name: str) -> Outcome:
            async with turns:
                # As in threads: keys that are not asked for in time, or after the server asked for fewer calls, cost
                # no call.
                if throttled:
                    return throttled[0]
                if deadline.has_passed:
                    return self._missed()
                self._count("decrypt")
                try:
                    return await self._aask(KeyCall.decrypt(name), deadline.timeout)
                except VaultThrottled as error:
                    throttled.append(forget(error))
                    return error
                except VaultError as error:
                    return forget(error)

        outcomes = await asyncio.gather(*map(attempt, encrypted_keys))
        return dict(zip(encrypted_keys, outcomes, strict=True))


def _can_stand_in_a_header(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]+", value) is not None
