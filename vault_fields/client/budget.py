"""A budget of calls that a process makes in a minute, over all of its threads and coroutines."""

import threading
import time
from collections.abc import Callable

from vault_fields.runtime.forks import follow_forks

__all__ = ["Budget"]

MINUTE = 60.0


class Budget:
    """
    A token bucket: at most ``per_minute`` calls in any 60 seconds. Thread-safe; a forked child has one of its own.

    The bucket holds a sixth of them, so that a page which needs many keys at once has them at once, and is refilled
    with the rest over the minute.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = max(1, per_minute // 6)
        self._each = MINUTE / max(1, per_minute - self._size)
        self._clock = clock
        self._left = float(self._size)
        self._looked = clock()
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Make the lock anew in a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def turn(self, within: float) -> tuple[float, bool]:
        """
        Return the seconds until the next call may be made, and whether it has that turn.

        A call that would have to wait for longer than ``within`` has no turn, and takes nothing from the others.
        """
        with self._lock:
            now = self._clock()
            left = min(self._size, self._left + (now - self._looked) / self._each)
            wait = max(0.0, (1.0 - left) * self._each)
            if wait > within:
                return wait, False
            # Below 0 it counts the calls that wait for their turn.
            self._left, self._looked = left - 1.0, now
            return wait, True
