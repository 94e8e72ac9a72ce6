"""Connections of a client: every call has one to itself, and an idle one waits for the next call."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import httpx

from vault_fields.runtime.forks import follow_forks, leave_to_parent

__all__ = ["IDLE_SECONDS", "LIMITS", "MAX_CONNECTIONS", "Line", "Lines"]

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

# The most of one client at once. Further calls wait until one of them is free, or until their deadline.
MAX_CONNECTIONS = 128
# Idle connections are closed before the usual server or load balancer drops them (60 s), which would cost a failed
# try.
IDLE_SECONDS = 30.0
# The size of the pool of a line's httpx client. Every request looks through its connections, under the pool's lock.
LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_SECONDS)


class Line(Generic[C]):
    """One connection: made for the first request, kept for the next, and made anew after a failure."""

    def __init__(self, client: C, generation: int) -> None:
        self.client: C = client
        self.generation = generation
        self.resting_since = 0.0
        # The scheme and the place of the address that ``_send`` is for.
        self._address: tuple[bytes, bytes] | None = None
        self._send: Callable[[httpx.Request], Any]

    def send(self, request: httpx.Request) -> Any:
        """Return the response before its body is read; for a client of coroutines, an awaitable of it."""
        address = request.url.raw_scheme, request.url.netloc
        if self._address != address:
            self._send = _sender(self.client, request.url)
            self._address = address
        return self._send(request)


class Lines(Generic[C]):
    """
    The lines of a client. Thread-safe.

    The line that was used last is taken first, so that surplus lines become idle and are closed. After ``retire`` the
    lines in use are closed as well, each by the call that has it: to close one under a call would not end the call.
    """

    def __init__(self, connect: Callable[[], C], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._connect: Callable[[], C] = connect
        self._clock = clock
        self._generation = 0
        self._resting: list[Line[C]] = []
        self._used: set[Line[C]] = set()
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Forget the connections in a forked child: they are the parent's to use and to close."""
        leave_to_parent(self._resting, self._used)
        self._lock = threading.Lock()
        self._resting = []
        self._used = set()

    def take(self) -> Line[C]:
        """Return a line for one call, to be given back with ``leave``."""
        with self._lock:
            line = self._resting.pop() if self._resting else None
            generation = self._generation
            if line is not None:
                self._used.add(line)
                return line
        line = Line(self._connect(), generation)
        with self._lock:
            self._used.add(line)
        return line

    def leave(self, line: Line[C], *, is_sound: bool = True) -> list[Line[C]]:
        """
        End a call; return the lines that the caller has to close.

        That is its own line too unless ``is_sound``: after a fault, httpx may hold its one connection for one in use.
        """
        now = self._clock()
        with self._lock:
            if line not in self._used:
                return []  # The line is the parent's, from a call during which the process forked.
            self._used.remove(line)
            if line.generation != self._generation or not is_sound:
                return [line]
            line.resting_since = now
            self._resting.append(line)
            fresh = next(n for n, each in enumerate(self._resting) if now - each.resting_since <= IDLE_SECONDS)
            old, self._resting[:fresh] = self._resting[:fresh], []
            return old

    def retire(self) -> list[Line[C]]:
        """Let no call take a present line; return the lines that the caller has to close."""
        with self._lock:
            self._generation += 1
            resting, self._resting = self._resting, []
            return resting


def _sender(client: Any, url: httpx.URL) -> Callable[[httpx.Request], Any]:
    """
    Return a function that sends a request through the client's transport for the URL, a proxy's or its own.

    The client's own ``send`` costs as much again, for cookies, redirects and hooks that a Vault does not use. httpx
    has no public name for a client's transports: where another version has none at all, ``send`` is used.
    """
    find = getattr(client, "_transport_for_url", None)
    if find is None:
        return partial(client.send, stream=True)
    transport = find(url)
    send: Callable[[httpx.Request], Any] = (
        transport.handle_async_request if isinstance(client, httpx.AsyncClient) else transport.handle_request
    )
    return send
