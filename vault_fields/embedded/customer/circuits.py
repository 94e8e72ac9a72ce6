"""Circuit breakers: a customer's provider that does not answer costs only that customer, and only once."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vault_fields.exceptions import VaultUnavailable
from vault_fields.runtime.deadline import Deadline, NoAnswerInTime
from vault_fields.runtime.forks import follow_forks

__all__ = ["MAX_CALLS_AT_ONCE", "PAUSE", "Circuit"]

# Calls of this process to one customer's key that may run at once.
MAX_CALLS_AT_ONCE = 8

# Seconds after a time-out in which no call waits for the same key again.
PAUSE = 5.0


class Circuit:
    """
    The calls to one customer key: a limited number at once, and none for a while after one without an answer.

    After that pause one call at a time finds out whether the key answers again. All other calls fail at once with
    ``VaultUnavailable``. Thread-safe.

    A call counts as not answered if it had ``patience`` seconds. One that began just before the deadline of a long
    page tells nothing about the key.
    """

    def __init__(self, *, patience: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Forget the calls in progress: they are the parent's."""
        self._changed = threading.Condition()
        self._calls = 0
        # The time until which no call is made, and the reason; -inf and nothing while the key answers.
        self._resumes = -math.inf
        self._reason = ""
        self._is_probed = False

    @contextmanager
    def turn(self, timeout: float) -> Iterator[Deadline]:
        """Make a call within the block, until the deadline. Raises ``VaultUnavailable`` where none may be made now."""
        deadline = Deadline(timeout)
        is_probe = self._enter(deadline)
        outcome: str | None = None
        had = deadline.left
        try:
            yield deadline
            outcome = ""
        except NoAnswerInTime as error:
            outcome = str(error) if had >= self._patience else None
            raise
        except Exception:
            # Whatever it was, it was an answer.
            outcome = ""
            raise
        finally:
            self._leave(is_probe, outcome)

    def mend(self) -> None:
        """Record that the key answers."""
        with self._changed:
            self._reason = ""

    def _enter(self, deadline: Deadline) -> bool:
        """Wait for a turn. Return whether this call is a probe."""
        with self._changed:
            while not self._reason and self._calls >= MAX_CALLS_AT_ONCE:
                if not self._changed.wait(deadline.timeout):
                    raise NoAnswerInTime(
                        f"{MAX_CALLS_AT_ONCE} other calls wait for its provider, and none was answered in time."
                    )
            is_probe = bool(self._reason)
            if is_probe:
                self._require_probe()
                self._is_probed = True
            self._calls += 1
            return is_probe

    def _require_probe(self) -> None:
        left = self._resumes - self._clock()
        if left > 0 or self._is_probed:
            when = "is being asked now by another call" if self._is_probed else f"is asked again in {left:.0f} s"
            message = f"its provider was silent a moment ago and {when}; it was not asked. {self._reason}"
            raise VaultUnavailable(message, retry_after=max(left, 1.0))

    def _leave(self, is_probe: bool, outcome: str | None) -> None:
        """End a call with the reason for silence: empty if the key answered, None if the call tells nothing."""
        with self._changed:
            self._calls -= 1
            if is_probe:
                self._is_probed = False
            if outcome is not None:
                self._reason = outcome
                self._resumes = self._clock() + PAUSE if outcome else -math.inf
            # Calls that wait for a turn get one now, or an error.
            self._changed.notify_all()
