"""Carries the steps of an operation out, in threads or in coroutines, within one deadline."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vault_fields.client import AsyncVaultClient, VaultClient
from vault_fields.exceptions import VaultError, VaultRefused
from vault_fields.transit.asking import Ask, Reply
from vault_fields.transit.session import Session
from vault_fields.transit.steps import Steps

__all__ = ["Dialogue"]

T = TypeVar("T")


class Dialogue:
    """
    Asks the engine at ``mount`` with the token of ``session``, up to ``concurrency`` requests of a step at a time.

    ``timeout`` seconds are for all steps together, with the token that they may need. ``count`` is told the operation
    and how many requests are about to be made.
    """

    def __init__(
        self,
        session: Session,
        client: VaultClient,
        async_client: AsyncVaultClient,
        *,
        alias: str,
        mount: str,
        timeout: float,
        concurrency: int,
        threads: Callable[[], ThreadPoolExecutor],
        count: Callable[[str, int], None],
    ) -> None:
        self._session = session
        self._client = client
        self._async_client = async_client
        self._alias = alias
        self._mount = mount
        self._timeout = timeout
        self._concurrency = concurrency
        self._threads = threads
        self._count = count

    def run(self, operation: str, steps: Steps[T], *, counted: int = 0) -> T:
        """What the steps return. The first ``counted`` requests are counted already."""
        ends = time.monotonic() + self._timeout
        try:
            asks = next(steps)
            while True:
                self._count(operation, len(asks) - counted)
                counted = 0
                asks = steps.send(self._replies(asks, ends))
        except StopIteration as done:
            result: T = done.value
            return result

    async def arun(self, operation: str, steps: Steps[T], *, counted: int = 0) -> T:
        """As ``run``, without a thread unless a token must be had."""
        ends = time.monotonic() + self._timeout
        turns = asyncio.Semaphore(self._concurrency)
        try:
            asks = next(steps)
            while True:
                self._count(operation, len(asks) - counted)
                counted = 0
                asks = steps.send(await asyncio.gather(*(self._areply(ask, ends, turns) for ask in asks)))
        except StopIteration as done:
            result: T = done.value
            return result

    def _replies(self, asks: list[Ask], ends: float) -> list[Reply]:
        if len(asks) == 1:
            return [self._reply(asks[0], ends)]
        return list(self._threads().map(lambda ask: self._reply(ask, ends), asks))

    def _reply(self, ask: Ask, ends: float) -> Reply:
        try:
            self._session.prepare(self._client, _left(ends))
            held = self._session.held
            try:
                return self._call(ask, ends)
            except VaultRefused as error:
                if error.status != 403 or not self._session.replace(held, self._client, _left(ends)):
                    raise
            return self._call(ask, ends)
        except VaultError as error:
            return self._completed(ask, error)

    async def _areply(self, ask: Ask, ends: float, turns: asyncio.Semaphore) -> Reply:
        async with turns:
            try:
                if not self._session.is_ready:
                    await asyncio.to_thread(self._session.prepare, self._client, _left(ends))
                held = self._session.held
                try:
                    return await self._acall(ask, ends)
                except VaultRefused as error:
                    if error.status != 403:
                        raise
                    if not await asyncio.to_thread(self._session.replace, held, self._client, _left(ends)):
                        raise
                return await self._acall(ask, ends)
            except VaultError as error:
                return self._completed(ask, error)

    # The answer gets no name here, so that no frame of a traceback has it as a local variable.

    def _call(self, ask: Ask, ends: float) -> Reply:
        path = f"/v1/{self._mount}/{ask.path}"
        if ask.payload is None:
            return self._client.get(path, timeout=_left(ends))
        return self._client.post(path, ask.payload, timeout=_left(ends))

    async def _acall(self, ask: Ask, ends: float) -> Reply:
        path = f"/v1/{self._mount}/{ask.path}"
        if ask.payload is None:
            return await self._async_client.get(path, within=_left(ends))
        return await self._async_client.post(path, ask.payload, within=_left(ends))

    def _completed(self, ask: Ask, error: VaultError) -> VaultError:
        if error.status == 403:
            return VaultRefused(
                "permission denied (HTTP 403): the token is not valid any more, or its policies lack "
                f"{ask.rule(self._mount)}.",
                alias=self._alias,
                status=403,
            )
        error.alias = self._alias
        return error


def _left(ends: float) -> float:
    return max(ends - time.monotonic(), 0.001)
