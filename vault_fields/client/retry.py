"""The retry policy: one deadline over all tries of an operation, with jittered, growing pauses between them."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from secrets import SystemRandom

__all__ = ["RetryPolicy", "Tries", "seconds_until_retry"]

# Not the shared generator of the random module: forked workers inherit its state and would all pause equally long.
_random = SystemRandom().random


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    The limits of an operation: its time in all and the number of its tries. All times are seconds.

    The pause before retry *n* is random between 0 and ``first_pause`` × 2ⁿ⁻¹, at most ``longest_pause``, and never
    shorter than the server asked for.
    """

    timeout: float = 5.0
    max_retries: int = 3
    first_pause: float = 0.1
    longest_pause: float = 2.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    wall_clock: Callable[[], float] = field(default=time.time, repr=False)
    random: Callable[[], float] = field(default=_random, repr=False)

    def begin(self, timeout: float | None = None, *, places: int = 1) -> "Tries":
        """Begin an operation. ``places`` servers can be asked in turn; the first try asks one of them."""
        return Tries(self, self.timeout if timeout is None else timeout, places)


class Tries:
    """
    The tries of one operation, from the moment it began.

    Where several servers can be asked, a retry begins when all of them have been tried: they follow each other without
    a pause, and share the time, so that one that does not answer leaves some to the others.
    """

    def __init__(self, policy: RetryPolicy, timeout: float, places: int = 1) -> None:
        self._policy = policy
        self._places = places
        begins = policy.clock()
        self._deadline = begins + timeout
        self.made = 1
        self._allot_time(begins)

    def remaining(self) -> float:
        """The seconds that the current try may take; not positive after the last."""
        return self._ends - self._policy.clock()

    def now(self) -> float:
        """Return the wall clock's time, by which dates in headers are measured."""
        return self._policy.wall_clock()

    def pause(self, at_least: float = 0.0) -> float | None:
        """Count another try and return how long to wait before it; None if the operation has to end instead."""
        policy = self._policy
        retries, untried = divmod(self.made, self._places)
        if not untried and retries > policy.max_retries:
            return None
        longest = 0.0 if untried else min(policy.longest_pause, policy.first_pause * 2.0 ** (retries - 1))
        pause = max(at_least, policy.random() * longest)
        begins = policy.clock() + pause
        if begins >= self._deadline:
            # A pause before the error would only delay it.
            return None
        self.made += 1
        self._allot_time(begins)
        return pause

    def _allot_time(self, begins: float) -> None:
        untried = self._places - (self.made - 1) % self._places
        self._ends = begins + (self._deadline - begins) / untried


def seconds_until_retry(header: str | None, now: float) -> float:
    """
    Return what a ``Retry-After`` header asks for, as seconds from ``now`` (a Unix time); 0 without a valid one.

    Both forms of RFC 9110 are understood: seconds and an HTTP date.
    """
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        # So many digits that float() returns inf are a very long time all the same.
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    # HTTP dates are in UTC; the parser leaves that out where the text does.
    return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now)
