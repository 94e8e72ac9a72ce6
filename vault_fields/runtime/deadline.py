"""One deadline for all that an operation asks for, and threads that are its own: nobody else waits for them."""

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

# Seconds that somebody has after the deadline to tell what became of it, before nobody waits for them any more.
LEEWAY = 0.5


class NoAnswerInTime(VaultUnavailable):
    """Whoever was asked was silent. To ask again at once would be as long a wait."""


class KeySilent(KeyUnavailable, NoAnswerInTime):
    """Whoever keeps a key for its owner was silent."""


class Deadline:
    """A moment, so many ``seconds`` after the operation began."""

    __slots__ = ("_ends", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; not positive afterwards."""
        return self._ends - time.monotonic()

    @property
    def timeout(self) -> float:
        """The same for what takes a time-out: never 0, which means "do not wait at all" to a socket."""
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
    What ``ask`` returns for each name, up to ``at_once`` of them under way; what it raises is raised here.

    After the deadline nothing more is asked, and what is not answered gets what ``missed`` returns, even if ``ask``
    itself overstays. Of names in one lane at most ``lane_width`` are under way, so that those who are slow to answer
    do not take the places of others. Where one of them asks for fewer calls, the rest of its lane is not asked.
    """
    return _Together(names, ask, missed, deadline, lane, min(lane_width or at_once, at_once)).run(at_once, called)


# Whether nobody waits for what this thread does beyond a deadline, however long that takes.
_here = threading.local()


def in_time(function: Callable[[], T], missed: Callable[[], T], deadline: Deadline, *, called: str = "vault") -> T:
    """
    What the function returns, or after the deadline what ``missed`` returns; what either raises is raised.

    The function overstays in a thread of its own: a look-up of a host name ends when the system says so.
    """
    if getattr(_here, "is_left_alone", False):
        return function()
    run = copy_context().run
    return ask_together([None], lambda _: run(function), missed, deadline, at_once=1, called=called)[None]


async def in_own_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    What the function returns, from a thread that is made for it.

    Those of the event loop are few, and one that waits for a Vault would keep others from looking up a host name. Who
    is cancelled leaves the thread to end by itself, at the deadline of what it does.
    """
    future: Future[T] = Future()
    # As running, it is not cancelled with the coroutine: the thread has somewhere to put what comes of it.
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
    """The fault without the frame that caught it: it may still run, and so keep its variables, when this is raised."""
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
                # Daemons: a process that ends does not wait for them either.
                thread = threading.Thread(target=self._work, name=f"{called}-{number}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # There can be no more of them. Those that there are do it all, one after the other.
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
                # Those that were waiting for their turn until now are not asked for any more.
                outcome = self._missed() if self._deadline.has_passed else self._ask(name)
            except BaseException as fault:  # noqa: BLE001 - it is raised to whoever waits.
                with self._changed:
                    self._fault = _elsewhere(fault)
                    self._is_over = True
                    self._changed.notify_all()
                return
            self._give_back(lane, name, outcome)

    def _take(self) -> tuple[Hashable, K] | None:
        """Something that may be asked for now. If all lanes are full, those who are in them go on with the rest."""
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
            # What comes after the end is nobody's any more: not even the dict is touched, which has a reader.
            if not self._is_over:
                self._outcomes[name] = outcome
                if isinstance(outcome, VaultThrottled):
                    self._outcomes.update(dict.fromkeys(self._waiting[lane], outcome))
                    self._waiting[lane].clear()
                self._changed.notify_all()
