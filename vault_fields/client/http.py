"""The clients, for threads and for coroutines: all the I/O there is, and no exception of httpx leaves it."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from typing import Any, NoReturn

import httpx

from vault_fields.client.endpoint import Endpoint
from vault_fields.client.failures import Answer, Failure, Reading
from vault_fields.client.lease import Lease
from vault_fields.client.lookups import LookUps, look_up_apart
from vault_fields.client.overdue import Overdue
from vault_fields.client.retry import RetryPolicy, Tries
from vault_fields.exceptions import VaultError, VaultUnavailable
from vault_fields.runtime.deadline import Deadline, NoAnswerInTime, in_time
from vault_fields.runtime.forks import follow_forks, leave_to_parent
from vault_fields.runtime.frames import forgetful_class

__all__ = ["AsyncVaultClient", "VaultClient"]


@forgetful_class
class VaultClient:
    """
    Sends JSON to a Vault and returns its JSON, or raises ``VaultError``. Thread-safe; built without I/O.

    Connections are made on first use, kept for the next, and not shared with a forked child. Every wait on a socket
    ends at the deadline. The system's look-up of a host name cannot be cut short, nor a server that sends its headers
    byte by byte: nobody waits for them beyond it, but the thread that was made for the call. With ``MAX_OVERDUE`` of
    these no further call is begun.
    """

    def __init__(
        self, endpoint: Endpoint, policy: RetryPolicy | None = None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._endpoint = endpoint
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        self._lease: Lease[httpx.Client] | None = None
        self.reset_in_child()
        follow_forks(self)

    def post(self, path: str, payload: Mapping[str, Any], *, timeout: float | None = None) -> Answer:
        """One operation, in as many tries as it takes and the policy allows; within ``timeout`` instead of its own."""
        return self._sent(path, payload, timeout)

    def get(self, path: str, *, timeout: float | None = None) -> Answer:
        """As ``post``, but a GET."""
        return self._sent(path, None, timeout)

    def reset_in_child(self) -> None:
        """In a forked child: its parent's connections are not its own to use, or to close."""
        leave_to_parent(self._lease)
        self._lock = threading.Lock()
        self._lease = None
        # The threads of the parent do not run there.
        self._overdue = Overdue()

    @property
    def named(self) -> str:
        """The host that is asked first now, as messages end."""
        return self._endpoint.named

    def close(self) -> None:
        """Close the connections: those in use when their call ends. A later call makes new ones."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None and lease.retire():
            lease.client.close()

    def __repr__(self) -> str:
        return f"<VaultClient of {self._endpoint!r}>"

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        lease = self._leased()
        while not lease.enter():
            # Retired between these two lines. Its client let go of it before that, so the next one is another.
            lease = self._leased()
        try:
            yield lease.client
        finally:
            if lease.leave():
                lease.client.close()

    def _leased(self) -> Lease[httpx.Client]:
        with self._lock:
            if self._lease is None:
                self._lease = Lease(self._endpoint.connect(httpx.Client))
            return self._lease

    def _sent(self, path: str, payload: Mapping[str, Any] | None, timeout: float | None) -> Answer:
        deadline = Deadline(self._policy.timeout if timeout is None else timeout)
        asked = self._endpoint.netloc
        try:
            self._overdue.require_few(asked)
        except NoAnswerInTime as error:
            error.alias = self._endpoint.alias
            self._endpoint.turn_from(asked)
            raise

        def send() -> Answer:
            with self._overdue.call(asked, deadline):
                return self._send(path, payload, timeout)

        return in_time(send, lambda: self._given_up(asked), deadline, called="vault-call")

    def _given_up(self, asked: bytes) -> NoReturn:
        self._endpoint.turn_from(asked)
        raise NoAnswerInTime(
            f"The Vault did not answer in time, and the call was given up. Host: {asked.decode('ascii')}.",
            alias=self._endpoint.alias,
        )

    def _send(self, path: str, payload: Mapping[str, Any] | None, timeout: float | None) -> Answer:
        tries = self._policy.begin(timeout, places=self._endpoint.places)
        while True:
            request = self._endpoint.request(path, payload, tries)
            outcome = self._try(request, tries)
            if isinstance(outcome, Answer):
                return outcome
            if outcome.may_pass:
                self._endpoint.turn_from(request.url.netloc)
            self._sleep(outcome.pause(self._endpoint, request.url.netloc.decode("ascii"), tries))

    def _try(self, request: httpx.Request, tries: Tries) -> Answer | Failure:
        reading = None
        try:
            with self._client() as client, closing(client.send(request, stream=True)) as response:
                reading = self._endpoint.reading(response, tries)
                for chunk in response.iter_raw():
                    if not reading.take(chunk):
                        break
                return reading.outcome()
        except httpx.HTTPError as error:
            return _interrupted(reading, error)


@forgetful_class
class AsyncVaultClient:
    """
    ``VaultClient`` for coroutines, with a strict deadline; no look-up of a host name holds up the loop or its end.

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
        self._look_ups = LookUps()
        # Only a loop's own thread adds its entry, so there is nothing to lock.
        self._leases: dict[asyncio.AbstractEventLoop, Lease[httpx.AsyncClient]] = {}
        self._lifetimes: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        follow_forks(self)

    def reset_in_child(self) -> None:
        """In a forked child: the loops of the parent do not run there."""
        leave_to_parent(self._leases, self._lifetimes)
        self._leases = {}
        self._lifetimes = {}

    async def post(self, path: str, payload: Mapping[str, Any], *, within: float | None = None) -> Answer:
        """One operation, in as many tries as it takes and the policy allows; within so many seconds, if given."""
        return await self._send(path, payload, within)

    async def get(self, path: str, *, within: float | None = None) -> Answer:
        """As ``post``, but a GET."""
        return await self._send(path, None, within)

    async def aclose(self) -> None:
        """Close the connections of the running loop: those in use when their call ends. A later call makes new ones."""
        lifetime = self._lifetimes.get(asyncio.get_running_loop())
        if lifetime is not None:
            await lifetime.aclose()

    def __repr__(self) -> str:
        return f"<AsyncVaultClient of {self._endpoint!r}>"

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        loop = asyncio.get_running_loop()
        if loop not in self._leases:
            self._forget_closed_loops()
            client = self._endpoint.connect(httpx.AsyncClient)
            look_up_apart(client, self._look_ups)
            self._leases[loop] = Lease(client)
            self._lifetimes[loop] = self._lifetime(loop)
            await anext(self._lifetimes[loop])
        lease = self._leases[loop]
        lease.enter()
        try:
            yield lease.client
        finally:
            if lease.leave():
                await lease.client.aclose()

    async def _lifetime(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        # A loop that shuts down closes the async generators begun on it (asyncio.run() and asgiref see to that). It is
        # the last moment at which its connections can be closed, and this package is told of it in no other way.
        try:
            yield
        finally:
            del self._lifetimes[loop]
            lease = self._leases.pop(loop)
            if lease.retire():
                await lease.client.aclose()

    def _forget_closed_loops(self) -> None:
        for loop in list(self._leases):
            if loop.is_closed():
                self._leases.pop(loop, None)
                self._lifetimes.pop(loop, None)

    async def _send(self, path: str, payload: Mapping[str, Any] | None, within: float | None) -> Answer:
        tries = self._policy.begin(within, places=self._endpoint.places)
        while True:
            request = self._endpoint.request(path, payload, tries)
            outcome = await self._try(request, tries)
            if isinstance(outcome, Answer):
                return outcome
            if outcome.may_pass:
                self._endpoint.turn_from(request.url.netloc)
            await self._sleep(outcome.pause(self._endpoint, request.url.netloc.decode("ascii"), tries))

    async def _try(self, request: httpx.Request, tries: Tries) -> Answer | Failure:
        reading = None
        try:
            async with (
                self._client() as client,
                asyncio.timeout(tries.remaining()),
                aclosing(await client.send(request, stream=True)) as response,
            ):
                reading = self._endpoint.reading(response, tries)
                async for chunk in response.aiter_raw():
                    if not reading.take(chunk):
                        break
                return reading.outcome()
        except (httpx.HTTPError, TimeoutError) as error:
            return _interrupted(reading, error)


def _interrupted(reading: Reading | None, error: Exception) -> Answer | Failure:
    kind: type[VaultError] = VaultUnavailable
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        kind, reason = NoAnswerInTime, "The Vault did not answer in time."
    elif isinstance(error, httpx.ConnectError):
        # In the words of the system or of TLS, such as "Connection refused"; other errors may quote what was received.
        reason = f"The Vault cannot be reached ({str(error)[:200]})."
    elif isinstance(error, httpx.ProxyError):
        reason = "The proxy does not connect to the Vault."
    else:
        reason = "The connection to the Vault broke."
    failure = Failure(reason, kind)
    return failure if reading is None else reading.outcome(failure)
