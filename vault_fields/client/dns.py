"""Look-ups of host names for coroutines, in threads of their own: nothing of the caller's event loop waits for one."""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import httpx

from vault_fields.exceptions import VaultUnavailable
from vault_fields.runtime.forks import follow_forks
from vault_fields.runtime.frames import forgetful_class

__all__ = ["LookUps", "look_up_apart"]

# The seconds for which others also wait for a look-up. One that hangs does not block one that would not.
_SHARED = 1.0

# The most look-ups of a name that have not ended; further connections wait for the last of them.
_MAX_UNDER_WAY = 32

# The seconds that an address has before the next is tried beside it, as RFC 8305 advises.
_HEAD_START = 0.25


@forgetful_class
class LookUps:
    """
    The look-ups in progress: one for each name, however many connections are to be made, and another if it hangs.

    asyncio would look up in the threads that its loop has for everybody. They are few, a look-up that hangs keeps one
    for as long as the system likes, and a loop that ends waits for it.
    """

    def __init__(self) -> None:
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Forget the look-ups: the threads of the parent do not run in a forked child."""
        self._lock = threading.Lock()
        self._threads: Counter[tuple[str, int]] = Counter()
        self._under_way: dict[tuple[str, int], tuple[float, Future[list[str]]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses in the order in which the system would try them."""
        return await asyncio.wrap_future(self._look_up(host, port))

    def _look_up(self, host: str, port: int) -> "Future[list[str]]":
        with self._lock:
            began, future = self._under_way.get((host, port), (0.0, None))
            is_one_of_few = self._threads[host, port] < _MAX_UNDER_WAY
            if future is None or (is_one_of_few and time.monotonic() - began > _SHARED):
                future = Future()
                # A running future is not cancelled with the first coroutine: others wait for it too.
                future.set_running_or_notify_cancel()
                work = threading.Thread(target=self._work, args=[future, host, port], name="vault-dns", daemon=True)
                try:
                    work.start()
                except RuntimeError:
                    raise VaultUnavailable(
                        "No thread can be started to look up the host name in: this process has as many as it may."
                    ) from None
                self._threads[host, port] += 1
                self._under_way[host, port] = time.monotonic(), future
            return future

    def _work(self, future: "Future[list[str]]", host: str, port: int) -> None:
        found: list[str] = []
        fault: BaseException | None = None
        try:
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever waits.
            fault = error.with_traceback(None)
        with self._lock:
            self._threads[host, port] -= 1
            if self._under_way.get((host, port), (0.0, None))[1] is future:
                del self._under_way[host, port]
        if fault is None:
            future.set_result(list(dict.fromkeys(found)))
        else:
            future.set_exception(fault)


class _Apart:
    """The backend through which httpx connects, except for the look-up."""

    def __init__(self, backend: Any, look_ups: LookUps) -> None:
        self._backend = backend
        self._look_ups = look_ups

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def connect_tcp(self, host: str, port: int, **options: Any) -> Any:
        try:
            addresses = await self._look_ups.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(str(error)) from None
        return await _first(self._backend, addresses, port, options)


def look_up_apart(client: httpx.AsyncClient, look_ups: LookUps) -> None:
    """
    Let the client look up host names there: that of the Vault, or that of a proxy.

    httpx has no public name for the backend of its transports. Where another version has none at all, the client looks
    up as asyncio does.
    """
    for transport in [client._transport, *client._mounts.values()]:
        pool = getattr(transport, "_pool", None)
        if (backend := getattr(pool, "_network_backend", None)) is not None:
            pool._network_backend = _Apart(backend, look_ups)  # type: ignore[union-attr]


async def _first(backend: Any, addresses: Sequence[str], port: int, options: dict[str, Any]) -> Any:
    """Return the first connection that is made. One silent address does not keep the others from being tried."""
    waiting = list(addresses)
    tries: set[asyncio.Task[Any]] = set()
    fault: BaseException = httpx.ConnectError("No address")
    try:
        while waiting or tries:
            if waiting:
                tries.add(asyncio.ensure_future(backend.connect_tcp(waiting.pop(0), port, **options)))
            head_start = _HEAD_START if waiting else None
            done, tries = await asyncio.wait(tries, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            faults = [error for each in done if (error := each.exception()) is not None]
            made = [each.result() for each in done if each.exception() is None]
            for surplus in made[1:]:
                await surplus.aclose()
            if made:
                return made[0]
            fault = (faults or [fault])[0]
    finally:
        for each in tries:
            each.cancel()
    raise fault
