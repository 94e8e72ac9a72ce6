"""The engine that sends the requests of an operation, from threads or coroutines, within one deadline."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeGuard, TypeVar

from vault_fields.client import Answer, AsyncVaultClient, VaultClient, host_in
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused
from vault_fields.openbao.datakeys import Steps
from vault_fields.openbao.messages import Payload, Reply, Request
from vault_fields.openbao.session import Session, no_token
from vault_fields.runtime.deadline import LEEWAY, Deadline, NoAnswerInTime, ask_together, in_own_thread

__all__ = ["Engine"]

T = TypeVar("T")


class Engine:
    """
    The transit engine at ``mount``, which is asked with the token of ``session``.

    Up to ``concurrency`` requests of a round are under way at a time. ``timeout`` seconds are for all rounds of an
    operation together, and for the token that they may need, unless a deadline is given. ``count`` is called with the
    name of the operation for each request that is about to be made.
    """

    def __init__(
        self,
        session: Session,
        client: VaultClient,
        async_client: AsyncVaultClient,
        *,
        mount: str,
        alias: str | None = None,
        timeout: float = 5.0,
        concurrency: int = 1,
        count: Callable[[str], None] = lambda operation: None,
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
        """Return the outcome of the steps. The first ``counted`` requests are counted already."""
        deadline = deadline or Deadline(self._timeout)
        try:
            step = next(steps)
            while True:
                requests = self._counting(operation, step.requests, counted)
                counted = 0
                time.sleep(min(step.after, deadline.timeout))
                step = steps.send(self._replies(requests, deadline))
        except StopIteration as done:
            result: T = done.value
            return result

    async def arun(self, operation: str, steps: Steps[T], deadline: Deadline | None = None, *, counted: int = 0) -> T:
        """``run`` for coroutines. It needs a thread only for a token."""
        deadline = deadline or Deadline(self._timeout)
        turns = asyncio.Semaphore(self._concurrency)
        try:
            step = next(steps)
            while True:
                requests = self._counting(operation, step.requests, counted)
                counted = 0
                await asyncio.sleep(min(step.after, deadline.timeout))
                replies = await asyncio.gather(*(self._areply(*each, deadline, turns) for each in requests))
                step = steps.send(replies)
        except StopIteration as done:
            result: T = done.value
            return result

    def post(self, path: str, payload: Mapping[str, Any], deadline: Deadline) -> Answer:
        """Send one request to a path outside the mount. Raises ``VaultError``."""
        reply = self._sent(path, Payload(payload), deadline)
        if isinstance(reply, VaultError):
            raise reply
        return reply

    def _counting(
        self, operation: str, requests: list[Request], counted: int
    ) -> list[tuple[Request, Callable[[], None]]]:
        """Each request with a function that counts it when it is made: one that there was no time for is no call."""

        def count() -> None:
            self._count(operation)

        return [(request, count if number >= counted else lambda: None) for number, request in enumerate(requests)]

    def _replies(self, requests: list[tuple[Request, Callable[[], None]]], deadline: Deadline) -> list[Reply]:
        if len(requests) == 1:
            return [self._reply(*requests[0], deadline)]
        replies = ask_together(
            range(len(requests)),
            lambda number: self._reply(*requests[number], deadline),
            lambda: self._missed(deadline),
            deadline,
            at_once=self._concurrency,
            called=f"vault-{self._alias}",
        )
        return list(replies.values())

    def _reply(self, request: Request, count: Callable[[], None], deadline: Deadline) -> Reply:
        if deadline.has_passed:
            return self._missed(deadline)
        count()
        try:
            reply = self._sent(self._path(request), request.payload, deadline)
        except VaultError as error:
            error.alias = self._alias
            return error
        return self._explained(request, reply)

    async def _areply(
        self, request: Request, count: Callable[[], None], deadline: Deadline, turns: asyncio.Semaphore
    ) -> Reply:
        async with turns:
            if deadline.has_passed:
                return self._missed(deadline)
            count()
            try:
                if not self._session.is_ready:
                    await self._in_thread(self._session.prepare, deadline)
                lease = self._session.lease
                reply = await self._acall(request, deadline)
                if _is_forbidden(reply) and await self._in_thread(partial(self._session.replace, lease), deadline):
                    reply = await self._acall(request, deadline)
            except VaultError as error:
                error.alias = self._alias
                return error
        return self._explained(request, reply)

    def _sent(self, path: str, payload: Payload | None, deadline: Deadline) -> Reply:
        """The reply to a request with a valid token. Raises ``VaultError`` if there is none."""
        self._session.prepare(self._client, deadline)
        lease = self._session.lease
        reply = self._call(path, payload, deadline)
        if _is_forbidden(reply) and self._session.replace(lease, self._client, deadline):
            reply = self._call(path, payload, deadline)
        return reply

    async def _in_thread(self, function: Callable[[VaultClient, Deadline], T], deadline: Deadline) -> T:
        try:
            async with asyncio.timeout(deadline.timeout + LEEWAY):
                return await in_own_thread(function, self._client, deadline)
        except TimeoutError:
            raise no_token(self._client) from None

    def _path(self, request: Request) -> str:
        return f"/v1/{self._mount}/{request.path}"

    def _call(self, path: str, payload: Payload | None, deadline: Deadline) -> Reply:
        try:
            if payload is None:
                return self._client.get(path, timeout=deadline.timeout)
            return self._client.post(path, payload, timeout=deadline.timeout)
        except VaultError as error:
            return error

    async def _acall(self, request: Request, deadline: Deadline) -> Reply:
        path = self._path(request)
        try:
            if request.payload is None:
                return await self._async_client.get(path, within=deadline.timeout)
            return await self._async_client.post(path, request.payload, within=deadline.timeout)
        except VaultError as error:
            return error

    def _missed(self, deadline: Deadline) -> VaultError:
        return NoAnswerInTime(
            f"There was no answer within {deadline.seconds:g} s, the time for all requests of an operation."
            f"{self._client.named}",
            alias=self._alias,
        )

    def _explained(self, request: Request, reply: Reply) -> Reply:
        """The reply. A refusal names the rule that the policies may lack, unless it is known to be a withdrawal."""
        if not _is_forbidden(reply) or isinstance(reply, KeyRevoked):
            return reply
        return VaultRefused(
            "permission denied (HTTP 403): the token is not valid any more, or its policies lack "
            f"{request.rule(self._mount)}.{host_in(reply)}",
            alias=self._alias,
            status=403,
        )


def _is_forbidden(reply: Reply) -> TypeGuard[VaultError]:
    return isinstance(reply, VaultError) and reply.status == 403
