"""Carries the steps of an operation out, in threads or in coroutines, within one deadline."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TypeGuard, TypeVar

from vault_fields.client import AsyncVaultClient, VaultClient, host_in
from vault_fields.exceptions import VaultError, VaultRefused
from vault_fields.runtime.deadline import LEEWAY, Deadline, NoAnswerInTime, ask_together, in_own_thread
from vault_fields.transit.asking import Ask, Reply
from vault_fields.transit.session import Session, no_token
from vault_fields.transit.steps import Steps

__all__ = ["Dialogue"]

T = TypeVar("T")


class Dialogue:
    """
    Asks the engine at ``mount`` with the token of ``session``, up to ``concurrency`` requests of a step at a time.

    ``timeout`` seconds are for all steps together, with the token that they may need, unless a deadline is given.
    ``count`` is told the operation of each request that is about to be made.
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
        count: Callable[[str], None],
    ) -> None:
        self._session = session
        self._client = client
        self._async_client = async_client
        self._alias = alias
        self._mount = mount
        self._timeout = timeout
        self._concurrency = concurrency
        self._count = count

    def run(self, operation: str, steps: Steps[T], deadline: Deadline | None = None, *, counted: int = 0) -> T:
        """What the steps return. The first ``counted`` requests are counted already."""
        deadline = deadline or Deadline(self._timeout)
        try:
            step = next(steps)
            while True:
                asks = self._counting(operation, step.asks, counted)
                counted = 0
                time.sleep(min(step.after, deadline.timeout))
                step = steps.send(self._replies(asks, deadline))
        except StopIteration as done:
            result: T = done.value
            return result

    async def arun(self, operation: str, steps: Steps[T], deadline: Deadline | None = None, *, counted: int = 0) -> T:
        """As ``run``, without a thread unless a token must be had."""
        deadline = deadline or Deadline(self._timeout)
        turns = asyncio.Semaphore(self._concurrency)
        try:
            step = next(steps)
            while True:
                asks = self._counting(operation, step.asks, counted)
                counted = 0
                await asyncio.sleep(min(step.after, deadline.timeout))
                replies = await asyncio.gather(*(self._areply(ask, count, deadline, turns) for ask, count in asks))
                step = steps.send(replies)
        except StopIteration as done:
            result: T = done.value
            return result

    def _counting(self, operation: str, asks: list[Ask], counted: int) -> list[tuple[Ask, Callable[[], None]]]:
        """Each with what counts it, when it is made: what there was no time for is no call."""

        def count() -> None:
            self._count(operation)

        return [(ask, count if number >= counted else lambda: None) for number, ask in enumerate(asks)]

    def _replies(self, asks: list[tuple[Ask, Callable[[], None]]], deadline: Deadline) -> list[Reply]:
        if len(asks) == 1:
            return [self._reply(*asks[0], deadline)]
        replies = ask_together(
            range(len(asks)),
            lambda number: self._reply(*asks[number], deadline),
            self._missed,
            deadline,
            at_once=self._concurrency,
            called=f"vault-{self._alias}",
        )
        return list(replies.values())

    def _reply(self, ask: Ask, count: Callable[[], None], deadline: Deadline) -> Reply:
        if deadline.has_passed:
            return self._missed()
        count()
        try:
            self._session.prepare(self._client, deadline)
            held = self._session.held
            reply = self._call(ask, deadline)
            if _is_forbidden(reply) and self._session.replace(held, self._client, deadline):
                reply = self._call(ask, deadline)
        except VaultError as error:
            error.alias = self._alias
            return error
        return self._told(ask, reply) if _is_forbidden(reply) else reply

    async def _areply(self, ask: Ask, count: Callable[[], None], deadline: Deadline, turns: asyncio.Semaphore) -> Reply:
        async with turns:
            if deadline.has_passed:
                return self._missed()
            count()
            try:
                if not self._session.is_ready:
                    await self._in_thread(self._session.prepare, deadline)
                held = self._session.held
                reply = await self._acall(ask, deadline)
                if _is_forbidden(reply) and await self._in_thread(partial(self._session.replace, held), deadline):
                    reply = await self._acall(ask, deadline)
            except VaultError as error:
                error.alias = self._alias
                return error
        return self._told(ask, reply) if _is_forbidden(reply) else reply

    async def _in_thread(self, function: Callable[[VaultClient, Deadline], T], deadline: Deadline) -> T:
        try:
            async with asyncio.timeout(deadline.timeout + LEEWAY):
                return await in_own_thread(function, self._client, deadline)
        except TimeoutError:
            raise no_token(self._client) from None

    def _call(self, ask: Ask, deadline: Deadline) -> Reply:
        path = f"/v1/{self._mount}/{ask.path}"
        try:
            if ask.payload is None:
                return self._client.get(path, timeout=deadline.timeout)
            return self._client.post(path, ask.payload, timeout=deadline.timeout)
        except VaultError as error:
            return error

    async def _acall(self, ask: Ask, deadline: Deadline) -> Reply:
        path = f"/v1/{self._mount}/{ask.path}"
        try:
            if ask.payload is None:
                return await self._async_client.get(path, within=deadline.timeout)
            return await self._async_client.post(path, ask.payload, within=deadline.timeout)
        except VaultError as error:
            return error

    def _missed(self) -> VaultError:
        return NoAnswerInTime(
            f"The key was not had within {self._timeout:g} s, which are for all requests of an operation."
            f"{self._client.named}",
            alias=self._alias,
        )

    def _told(self, ask: Ask, refusal: VaultError) -> VaultError:
        return VaultRefused(
            "permission denied (HTTP 403): the token is not valid any more, or its policies lack "
            f"{ask.rule(self._mount)}.{host_in(refusal)}",
            alias=self._alias,
            status=403,
        )


def _is_forbidden(reply: Reply) -> TypeGuard[VaultError]:
    return isinstance(reply, VaultError) and reply.status == 403
