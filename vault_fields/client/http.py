"""The clients, for threads and for coroutines. They do all of the I/O, and no exception of httpx leaves them."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, closing
from typing import Any, NoReturn

import httpx

from vault_fields.client.abandoned import Overdue
from vault_fields.client.connections import MAX_CONNECTIONS, Lines
from vault_fields.client.dns import LookUps, look_up_apart
from vault_fields.client.endpoint import Endpoint
from vault_fields.client.failures import Answer, Failure, Reading
from vault_fields.client.retry import RetryPolicy, Tries
from vault_fields.exceptions import VaultError, VaultUnavailable
from vault_fields.runtime.deadline import Deadline, NoAnswerInTime, in_time
from vault_fields.runtime.forks import follow_forks, leave_to_parent
from vault_fields.runtime.frames import forgetful_class

__all__ = ["AsyncVaultClient", "VaultClient"]


@forgetful_class
class VaultClient:
    """
    A client that sends JSON to a Vault and returns its JSON, or raises ``VaultError``.

    Thread-safe; built without I/O. Connections are made on first use, kept for the next, and not shared with a forked
    child. Every wait on a socket ends at the deadline. The system's look-up of a host name cannot be cut short, nor
    can a server that sends its headers byte by byte: only the thread that was made for the call waits for them longer.
    With ``MAX_OVERDUE`` of these no further call is begun.
    """

    def __init__(
        self, endpoint: Endpoint, policy: RetryPolicy | None = None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._endpoint = endpoint
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        self._lines = Lines(lambda: endpoint.connect(httpx.Client))
        self.reset_in_child()
        follow_forks(self)

    def post(self, path: str, payload: Mapping[str, Any], *, timeout: float | None = None) -> Answer:
        """
        Run one operation, in as many tries as it takes and the policy allows; within ``timeout`` instead of its own.
        """
        return self._sent(path, payload, timeout)

    def get(self, path: str, *, timeout: float | None = None) -> Answer:
        """Run one operation as ``post`` does, with a GET."""
        return self._sent(path, None, timeout)

    def reset_in_child(self) -> None:
        """Forget the calls of the parent, whose threads do not run in a forked child."""
        self._overdue = Overdue()
        self._places = threading.Semaphore(MAX_CONNECTIONS)

    @property
    def named(self) -> str:
        """The host that is asked first now, as the end of a message."""
        return self._endpoint.named

    def close(self) -> None:
        """Close the connections: those in use when their call ends. A later call makes new ones."""
        for line in self._lines.retire():
            line.client.close()

    def __repr__(self) -> str:
        return f"<VaultClient of {self._endpoint!r}>"

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
            if wait := self._endpoint.turn(tries):
                self._sleep(wait)
            request = self._endpoint.request(path, payload, tries)
            outcome = self._try(request, tries)
            if isinstance(outcome, Answer):
                return outcome
            if outcome.may_pass:
                self._endpoint.turn_from(request.url.netloc)
            self._sleep(outcome.pause(self._endpoint, request.url.netloc.decode("ascii"), tries))

    def _try(self, request: httpx.Request, tries: Tries) -> Answer | Failure:
        if not self._places.acquire(timeout=max(tries.remaining(), 0)):
            return _interrupted(None, TimeoutError())
        reading, line, is_sound = None, None, False
        try:
            line = self._lines.take()
            with closing(line.send(request)) as response:
                reading = self._endpoint.reading(request, response, tries)
                for chunk in response.iter_raw():
                    if not reading.take(chunk):
                        break
                outcome = reading.outcome()
        except httpx.HTTPError as error:
            return _interrupted(reading, error)
        else:
            is_sound = True
            return outcome
        finally:
            if line is not None:
                for old in self._lines.leave(line, is_sound=is_sound):
                    old.client.close()
            self._places.release()


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
        # Only a loop's own thread adds its entry, so nothing needs a lock.
        self._lines: dict[asyncio.AbstractEventLoop, Lines[httpx.AsyncClient]] = {}
        self._places: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}
        self._lifetimes: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Forget the loops of the parent, which do not run in a forked child."""
        leave_to_parent(self._lines, self._lifetimes)
        self._lines = {}
        self._places = {}
        self._lifetimes = {}

    async def post(self, path: str, payload: Mapping[str, Any], *, within: float | None = None) -> Answer:
        """Run one operation, in as many tries as it takes and the policy allows; within so many seconds, if given."""
        return await self._send(path, payload, within)

    async def get(self, path: str, *, within: float | None = None) -> Answer:
        """Run one operation as ``post`` does, with a GET."""
        return await self._send(path, None, within)

    async def aclose(self) -> None:
        """Close the connections of the running loop: those in use when their call ends. A later call makes new ones."""
        lifetime = self._lifetimes.get(asyncio.get_running_loop())
        if lifetime is not None:
            await lifetime.aclose()

    def __repr__(self) -> str:
        return f"<AsyncVaultClient of {self._endpoint!r}>"

    async def _of_loop(self) -> tuple[Lines[httpx.AsyncClient], asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            self._forget_closed_loops()
            self._lines[loop] = Lines(self._connect)
            self._places[loop] = asyncio.Semaphore(MAX_CONNECTIONS)
            self._lifetimes[loop] = self._lifetime(loop)
            await anext(self._lifetimes[loop])
        return self._lines[loop], self._places[loop]

    def _connect(self) -> httpx.AsyncClient:
        client = self._endpoint.connect(httpx.AsyncClient)
        look_up_apart(client, self._look_ups)
        return client

    async def _lifetime(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        # A loop that shuts down closes the async generators begun on it (asyncio.run() and asgiref see to that). It is
        # the last moment at which its connections can be closed, and this package has no other way to learn of it.
        try:
            yield
        finally:
            lines = self._forget(loop)
            for line in lines.retire():
                await line.client.aclose()

    def _forget_closed_loops(self) -> None:
        for loop in list(self._lines):
            if loop.is_closed():
                self._forget(loop)

    def _forget(self, loop: asyncio.AbstractEventLoop) -> Lines[httpx.AsyncClient]:
        del self._lifetimes[loop], self._places[loop]
        return self._lines.pop(loop)

    async def _send(self, path: str, payload: Mapping[str, Any] | None, within: float | None) -> Answer:
        tries = self._policy.begin(within, places=self._endpoint.places)
        while True:
            if wait := self._endpoint.turn(tries):
                await self._sleep(wait)
            request = self._endpoint.request(path, payload, tries)
            outcome = await self._try(request, tries)
            if isinstance(outcome, Answer):
                return outcome
            if outcome.may_pass:
                self._endpoint.turn_from(request.url.netloc)
            await self._sleep(outcome.pause(self._endpoint, request.url.netloc.decode("ascii"), tries))

    async def _try(self, request: httpx.Request, tries: Tries) -> Answer | Failure:
        reading, line, is_sound = None, None, False
        lines, places = await self._of_loop()
        try:
            async with asyncio.timeout(tries.remaining()), places:
                line = lines.take()
                async with aclosing(await line.send(request)) as response:
                    reading = self._endpoint.reading(request, response, tries)
                    async for chunk in response.aiter_raw():
                        if not reading.take(chunk):
                            break
                    outcome = reading.outcome()
        except (httpx.HTTPError, TimeoutError) as error:
            return _interrupted(reading, error)
        else:
            is_sound = True
            return outcome
        finally:
            if line is not None:
                for old in lines.leave(line, is_sound=is_sound):
                    await old.client.aclose()


def _interrupted(reading: Reading | None, error: Exception) -> Answer | Failure:
    kind: type[VaultError] = VaultUnavailable
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        kind, reason = NoAnswerInTime, "The Vault did not answer in time."
    elif isinstance(error, httpx.ConnectError):
        # In the words of the system or of TLS, such as "Connection refused"; other errors may quote received text.
        reason = f"The Vault cannot be reached ({str(error)[:200]})."
    elif isinstance(error, httpx.ProxyError):
        reason = "The proxy does not connect to the Vault."
    else:
        reason = "The connection to the Vault broke."
    failure = Failure(reason, kind)
    return failure if reading is None else reading.outcome(failure)
