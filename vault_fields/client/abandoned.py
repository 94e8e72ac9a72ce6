"""Calls that run beyond their deadline, with nobody waiting: each keeps a thread, so their number is limited."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vault_fields.runtime.deadline import Deadline, NoAnswerInTime

__all__ = ["MAX_OVERDUE", "Overdue"]

# For one client and one address. A look-up of a name that hangs leaves a thread in the system.
MAX_OVERDUE = 32


class Overdue:
    """The calls in progress of a client, by the address that they asked first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[object, tuple[bytes, Deadline]] = {}

    def require_few(self, asked: bytes) -> None:
        """Raise ``NoAnswerInTime`` where so many calls are overdue that another one would probably join them."""
        if len(self._under_way) < MAX_OVERDUE:
            return
        with self._lock:
            calls = list(self._under_way.values())
        if sum(netloc == asked and deadline.has_passed for netloc, deadline in calls) >= MAX_OVERDUE:
            raise NoAnswerInTime(
                f"{MAX_OVERDUE} calls to the Vault were given up and have not ended yet; no other is begun before one "
                f"of them does. Host: {asked.decode('ascii')}."
            )

    @contextmanager
    def call(self, asked: bytes, deadline: Deadline) -> Iterator[None]:
        token = object()
        with self._lock:
            self._under_way[token] = asked, deadline
        try:
            yield
        finally:
            with self._lock:
                del self._under_way[token]
