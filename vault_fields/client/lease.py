"""Closing a client that others may be using."""

import threading
from typing import Generic, TypeVar

__all__ = ["Lease"]

C = TypeVar("C")


class Lease(Generic[C]):
    """
    A client with a count of its users, so that it is closed when the last of them has finished.

    Closing httpx's pool under a running call would not end that call: its thread goes on waiting, for a socket that
    no longer exists or for a connection that nobody will give back.
    """

    def __init__(self, client: C) -> None:
        self.client = client
        self._lock = threading.Lock()
        self._users = 0
        self._retired = False

    def enter(self) -> bool:
        """Count a user. False if the client was retired and another must be taken."""
        with self._lock:
            if not self._retired:
                self._users += 1
            return not self._retired

    def leave(self) -> bool:
        """Count a user less. True if whoever left must close the client."""
        with self._lock:
            self._users -= 1
            return self._retired and not self._users

    def retire(self) -> bool:
        """Let nobody else in. True if there is nobody inside and the client must be closed."""
        with self._lock:
            self._retired = True
            return not self._users
