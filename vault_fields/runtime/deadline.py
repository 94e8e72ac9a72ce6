"""One deadline for everything that an operation asks for, in threads of its own, for which nobody else waits."""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Generic, ParamSpec, TypeVar

from vault_fields.exceptions import KeyUnavailable, VaultThrottled, VaultUnavailable

__all__ = ["LEEWAY", "Deadline", "KeySilent", "NoAnswerInTime", "ask_together", "in_own_thread", "in_time"]

K = TypeVar("K", bound=Hashable)
P = ParamSpec("P")
T = TypeVar("T")

# Seconds after the deadline in which a call may still report its result, before it is waited for no longer.
LEEWAY = 0.5


class NoAnswerInTime(VaultUnavailable):
    """The service did not answer. Another call at once would wait as long."""


class KeySilent(KeyUnavailable, NoAnswerInTime):
    """The service that keeps a key for its owner did not answer."""


class Deadline:
    """A moment, so many ``seconds`` after the operation began."""

    __slots__ = ("_ends", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """The seconds until then; not positive afterwards."""
        return self._ends - time.monotonic()

    @property
    def timeout(self) -> float:
        """The same as a time-out: never 0, which means "do not wait at all" to a socket."""
        return max(self.left, 0.001)

    @property
    def has_passed(self) -> bool:
        return self.left <= 0


def ask_together(
    names: Iterable[K],
    ask: Callable[[K], T],
    missed: Callable[[], T],
    deadline: Deadline,
    *,
    at_once: int,
    lane: Callable[[K], Hashable] = lambda name: None,
    lane_width: int | None = None,
    called: str = "vault",
) -> dict[K, T]:
    """
    Return the result of ``ask`` for each name, with up to ``at_once`` calls at once. Its errors are raised here.

    After the deadline no call is started, and names without an answer get the result of ``missed``, even if ``ask``
    itself takes longer. At most ``lane_width`` names of one lane are asked at once, so that slow lanes do not take the
    places of others. If a lane asks for fewer calls, the rest of it is not asked.
    """
    return _Together(names, ask, missed, deadline, lane, min(lane_width or at_once, at_once)).run(at_once, called)


# Whether nobody waits beyond a deadline for the work of this thread, however long it takes.
_here = threading.local()


def in_time(function: Callable[[], T], missed: Callable[[], T], deadline: Deadline, *, called: str = "vault") -> T:
    """
    Return the function's result, or after the deadline that of ``missed``. Errors of either are raised.

    The function may take longer in a thread of its own: the system decides when a look-up of a host name ends.
    """
    if getattr(_here, "is_left_alone", False):
        return function()
    run = copy_context().run
    return ask_together([None], lambda _: run(function), missed, deadline, at_once=1, called=called)[None]


async def in_own_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Return the function's result, from a thread made for it.

    The event loop has few threads, and one that waits for a Vault would keep others from looking up a host name. A
    cancelled coroutine leaves the thread to end by itself, at the deadline of its work.
    """
    future: Future[T] = Future()
    # A running future is not cancelled with the coroutine: the thread has somewhere to put its result.
    future.set_running_or_notify_cancel()
    context = copy_context()

    def work() -> None:
        try:
            result = context.run(function, *args, **kwargs)
        except BaseException as fault:  # noqa: BLE001 - it is raised to whoever waits.
            future.set_exception(_elsewhere(fault))
        else:
            future.set_result(result)

    threading.Thread(target=work, name="vault-coroutine", daemon=True).start()
    return await asyncio.wrap_future(future)


def _elsewhere(fault: BaseException) -> BaseException:
    """
    Return the fault without the frame that caught it: it may still run, and so keep its variables, when this is
    raised.
    """
    return fault.with_traceback(fault.__traceback__ and fault.__traceback__.tb_next)


class _Together(Generic[K, T]):
    def __init__(
        self,
        names: Iterable[K],
        ask: Callable[[K], T],
        missed: Callable[[], T],
        deadline: Deadline,
        lane: Callable[[K], Hashable],
        width: int,
    ) -> None:
        self._ask = ask
        self._missed = missed
        self._deadline = deadline
        self._width = width
        self._changed = threading.Condition()
        self._names = list(names)
        self._waiting: dict[Hashable, deque[K]] = {}
        for name in self._names:
            self._waiting.setdefault(lane(name), deque()).append(name)
        self._under_way: Counter[Hashable] = Counter()
        self._outcomes: dict[K, T] = {}
        self._fault: BaseException | None = None
        self._is_over = False

    def run(self, at_once: int, called: str) -> dict[K, T]:
        workers = min(at_once, sum(min(self._width, len(names)) for names in self._waiting.values()))
        try:
            for number in range(workers):
                # Daemon threads: a process that ends does not wait for them either.
                thread = threading.Thread(target=self._work, name=f"{called}-{number}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # No more threads can be started. Those that exist do all the work, one name after the other.
                    if not number:
                        raise VaultUnavailable(
                            "No thread can be started to ask in: this process has as many as it may."
                        ) from None
                    break
            with self._changed:
                self._changed.wait_for(self._is_done, self._deadline.timeout + LEEWAY)
        finally:
            with self._changed:
                self._is_over = True
        if self._fault is not None:
            raise self._fault
        return {name: self._outcomes[name] if name in self._outcomes else self._missed() for name in self._names}

    def _is_done(self) -> bool:
        return self._fault is not None or len(self._outcomes) == len(self._names)

    def _work(self) -> None:
        _here.is_left_alone = True
        while (taken := self._take()) is not None:
            lane, name = taken
            try:
                # Names that still wait for their turn are no longer asked.
                outcome = self._missed() if self._deadline.has_passed else self._ask(name)
            except BaseException as fault:  # noqa: BLE001 - it is raised to whoever waits.
                with self._changed:
                    self._fault = _elsewhere(fault)
                    self._is_over = True
                    self._changed.notify_all()
                return
            self._give_back(lane, name, outcome)

    def _take(self) -> tuple[Hashable, K] | None:
        """Return the next name that may be asked now. If all lanes are full, their threads go on with the rest."""
        with self._changed:
            if not self._is_over:
                for lane, names in self._waiting.items():
                    if names and self._under_way[lane] < self._width:
                        self._under_way[lane] += 1
                        return lane, names.popleft()
            return None

    def _give_back(self, lane: Hashable, name: K, outcome: T) -> None:
        with self._changed:
            self._under_way[lane] -= 1
            # A result after the end has no reader. Not even the dict is touched, since it is being read.
            if not self._is_over:
                self._outcomes[name] = outcome
                if isinstance(outcome, VaultThrottled):
                    self._outcomes.update(dict.fromkeys(self._waiting[lane], outcome))
                    self._waiting[lane].clear()
                self._changed.notify_all()
