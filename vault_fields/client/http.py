"""The clients, for threads and for coroutines: all the I/O there is, and no exception of httpx leaves it."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, closing
from typing import Any

import httpx

from vault_fields.client.endpoint import Endpoint
from vault_fields.client.failures import Answer, Failure, Reading
from vault_fields.client.retry import RetryPolicy, Tries

__all__ = ["AsyncVaultClient", "VaultClient"]


class VaultClient:
    """
    Sends JSON to a Vault and returns its JSON, or raises ``VaultError``. Thread-safe; built without I/O.

    Connections are made on first use, kept for the next, and not shared with a forked child. Every wait on a socket
    ends at the deadline, but the system's look-up of a host name cannot be cut short, nor a server that sends its
    headers byte by byte.
    """

    def __init__(
        self, endpoint: Endpoint, policy: RetryPolicy | None = None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._endpoint = endpoint
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        # By process id, and without a lock: one that was held during a fork would stay locked in the child.
        self._clients: dict[int, httpx.Client] = {}

    def post(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """One operation, in as many tries as it takes and the policy allows."""
        tries = self._policy.begin()
        while True:
            outcome = self._try(self._client(), self._endpoint.request(path, payload, tries), tries)
            if isinstance(outcome, Answer):
                return outcome
            self._sleep(outcome.pause(self._endpoint.alias, tries))

    def close(self) -> None:
        """Close the connections. Calls that are under way try again, on new ones."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    def __repr__(self) -> str:
        return f"<VaultClient of {self._endpoint!r}>"

    def _client(self) -> httpx.Client:
        client = self._clients.get(os.getpid())
        if client is None:
            client = self._clients.setdefault(os.getpid(), self._endpoint.connect(httpx.Client))
        return client

    def _try(self, client: httpx.Client, request: httpx.Request, tries: Tries) -> Answer | Failure:
        reading = None
        try:
            with closing(client.send(request, stream=True)) as response:
                reading = Reading(response.status_code, response.headers, tries)
                for chunk in response.iter_raw():
                    if not reading.take(chunk):
                        break
                return reading.outcome()
        except httpx.HTTPError as error:
            return _interrupted(reading, error)
        except RuntimeError:
            if not client.is_closed:
                raise
            return _closed()


class AsyncVaultClient:
    """
    ``VaultClient`` for coroutines, with a strict deadline.

    Connections belong to the event loop that made them and are closed when that loop shuts down.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        policy: RetryPolicy | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        # Only a loop's own thread adds its entry, so there is nothing to lock.
        self._clients: dict[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, AsyncGenerator[None, None]]] = {}

    async def post(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """One operation, in as many tries as it takes and the policy allows."""
        tries = self._policy.begin()
        while True:
            outcome = await self._try(await self._client(), self._endpoint.request(path, payload, tries), tries)
            if isinstance(outcome, Answer):
                return outcome
            await self._sleep(outcome.pause(self._endpoint.alias, tries))

    async def aclose(self) -> None:
        """Close the connections of the running loop. Calls that are under way try again, on new ones."""
        entry = self._clients.get(asyncio.get_running_loop())
        if entry is not None:
            await entry[1].aclose()

    def __repr__(self) -> str:
        return f"<AsyncVaultClient of {self._endpoint!r}>"

    async def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        entry = self._clients.get(loop)
        if entry is None:
            for other in [other for other in list(self._clients) if other.is_closed()]:
                self._clients.pop(other, None)
            client = self._endpoint.connect(httpx.AsyncClient)
            entry = self._clients[loop] = client, self._lifetime(loop, client)
            await anext(entry[1])
        return entry[0]

    async def _lifetime(self, loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
        # A loop that shuts down closes the async generators begun on it (asyncio.run() and asgiref see to that). It is
        # the last moment at which its connections can be closed, and this package is told of it in no other way.
        try:
            yield
        finally:
            self._clients.pop(loop, None)
            await client.aclose()

    async def _try(self, client: httpx.AsyncClient, request: httpx.Request, tries: Tries) -> Answer | Failure:
        reading = None
        try:
            async with (
                asyncio.timeout(tries.remaining()),
                aclosing(await client.send(request, stream=True)) as response,
            ):
                reading = Reading(response.status_code, response.headers, tries)
                async for chunk in response.aiter_raw():
                    if not reading.take(chunk):
                        break
                return reading.outcome()
        except (httpx.HTTPError, TimeoutError) as error:
            return _interrupted(reading, error)
        except RuntimeError:
            if not client.is_closed:
                raise
            return _closed()


def _interrupted(reading: Reading | None, error: Exception) -> Answer | Failure:
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        reason = "The Vault did not answer in time."
    elif isinstance(error, httpx.ConnectError):
        # In the words of the system or of TLS, such as "Connection refused"; other errors may quote what was received.
        reason = f"The Vault cannot be reached ({str(error)[:200]})."
    elif isinstance(error, httpx.ProxyError):
        reason = "The proxy does not connect to the Vault."
    else:
        reason = "The connection to the Vault broke."
    failure = Failure(reason)
    return failure if reading is None else reading.outcome(failure)


def _closed() -> Failure:
    # httpx raises a bare RuntimeError where close() was called between taking the client and using it.
    return Failure("The connections to the Vault were closed.")
