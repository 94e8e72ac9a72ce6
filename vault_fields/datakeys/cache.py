"""The per-process cache of data keys: bounded in time and number, and one question to the Vault per key at a time."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice

from vault_fields.exceptions import VaultError
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import LEEWAY, Deadline, NoAnswerInTime
from vault_fields.runtime.forks import follow_forks

__all__ = ["HeldKey", "KeyCache", "Outcome", "Term"]

Outcome = DataKey | VaultError

# The seconds for which an operation may use the keys that it asked for where nothing is cached.
UNCACHED_AGE = 5.0


# The number of the oldest keys that are examined together for one that can go.
_LOOKED_AT = 256


class HeldKey:
    """
    A data key that a cache holds; ``key`` is None from the moment when the cache drops it.

    Code that keeps a reference may use the key no longer than the cache: see ``KeyCache.is_fresh``.
    """

    __slots__ = ("context", "expires", "key", "used")

    def __init__(self, key: DataKey, context: KeyContext | None, expires: float) -> None:
        self.key: DataKey | None = key
        self.context = context
        self.expires = expires
        # Whether it was used since the cache last looked for a key that can go.
        self.used = False


class _Abandoned(Exception):
    """The thread that was asking the Vault was interrupted; the threads that waited for it ask again."""


class Term:
    """
    The time for which a caller may use an answer: a key as long as the cache would, or ``age``; until the cache is
    purged.

    Made before the Vault is asked.
    """

    __slots__ = ("_cache", "_expires", "_generation")

    def __init__(self, cache: "KeyCache", age: float | None = None) -> None:
        self._cache = cache
        self._generation = cache.generation
        self._expires = cache.now() + (age or cache.max_age or UNCACHED_AGE)

    def from_now(self, age: float) -> "Term":
        """Return a term that begins now, for an answer without a key; a purge during the call ends it too."""
        term = Term(self._cache, age)
        term._generation = self._generation
        return term

    @property
    def is_over(self) -> bool:
        return self._cache.generation != self._generation or self._cache.now() >= self._expires


class KeyCache:
    """
    Data keys by their encrypted keys, each for at most ``max_age`` seconds after the Vault opened it.

    Use does not prolong the age, so that a revoked key is not served for ever. At most ``max_keys`` are held; the
    oldest go first, and one that was used since it was last examined stays once more. With either at 0 nothing is
    kept. Expired keys are forgotten whenever the cache is used, at most a tenth of ``max_age`` late. Thread-safe.
    """

    def __init__(
        self, *, max_keys: int = 10_000, max_age: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_keys = max_keys
        self.max_age = max_age
        self._clock = clock
        self._purges = 0
        self._next_sweep = 0.0
        self._last_expires = 0.0
        self._entries: dict[str, HeldKey] = {}
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Begin without keys. The calls in progress belong to threads of the parent."""
        self._lock = threading.Lock()
        for held in self._entries.values():
            held.key = None
        self._entries = {}
        self._oldest: deque[tuple[str, HeldKey]] = deque()
        self._in_flight: dict[str, Future[Outcome]] = {}

    def now(self) -> float:
        """Return the time by the cache's clock, in seconds."""
        return self._clock()

    @property
    def keeps_keys(self) -> bool:
        return self.max_keys > 0 and self.max_age > 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, encrypted_keys: str) -> DataKey | None:
        """Return the data key, if it is held and young enough."""
        held = self.held(encrypted_keys)
        return None if held is None else held.key

    def held(self, encrypted_keys: str) -> HeldKey | None:
        """Return the same as an object, for callers that check it again with ``is_fresh``."""
        with self._lock:
            return self._get(encrypted_keys)

    def is_fresh(self, held: HeldKey) -> bool:
        """Whether a key from this cache may still be used. Takes no lock. After False, call ``held`` again."""
        now = self._clock()
        return now < held.expires and now < self._next_sweep and held.key is not None

    @property
    def generation(self) -> int:
        """The number of purges so far: see ``put``."""
        return self._purges

    def put(self, key: DataKey, context: KeyContext | None, generation: int | None = None) -> None:
        """
        Hold a key that the Vault has just handed out for ``context`` (None where that is not known).

        ``generation`` is the one at the moment when the Vault was asked: a key that a purge has overtaken since is not
        held.
        """
        with self._lock:
            if generation is None or generation == self._purges:
                self._put(key, key.encrypted_keys, context)

    def confirm(self, encrypted_keys: str, context: KeyContext) -> None:
        """Record for which context a held key was made, once that is known."""
        with self._lock:
            held = self._entries.get(encrypted_keys)
            if held is not None:
                held.context = context

    def purge(self, context: Mapping[str, str] | None = None) -> int:
        """
        Drop the keys whose context has every item of ``context`` (all keys without one); return how many.

        A key whose context is unknown is dropped too, and so is the answer to any question in progress.
        """
        with self._lock:
            self._purges += 1
            gone = [name for name, held in self._entries.items() if _matches(held.context, context)]
            for name in gone:
                self._drop(name)
            return len(gone)

    def resolve(
        self,
        wanted: Mapping[str, KeyContext | None],
        fetch: Callable[[list[str]], Mapping[str, Outcome]],
        deadline: Deadline | None = None,
    ) -> dict[str, Outcome]:
        """
        Return each wanted key or its error. ``fetch`` is called once for all that nobody else is asking for.

        ``wanted`` maps encrypted keys to the context they were made for. Errors are not held. A caller waits for
        another's answer only until its own ``deadline``; ``fetch`` has to end there by itself.
        """
        results: dict[str, Outcome] = {}
        while missing := {name: context for name, context in wanted.items() if name not in results}:
            mine, others = self._claim(missing, results)
            if mine:
                with self._asking(mine, wanted) as answers:
                    answers.update(fetch(list(mine)))
                results.update(answers)
            for name, future in others.items():
                try:
                    results[name] = future.result(_patience(deadline))
                except _Abandoned:
                    continue
                except TimeoutError:
                    results[name] = _not_told()
        return results

    async def aresolve(
        self,
        wanted: Mapping[str, KeyContext | None],
        fetch: Callable[[list[str]], Awaitable[Mapping[str, Outcome]]],
        deadline: Deadline | None = None,
    ) -> dict[str, Outcome]:
        """Resolve keys for coroutines: threads and the coroutines of any loop ask once between them."""
        results: dict[str, Outcome] = {}
        while missing := {name: context for name, context in wanted.items() if name not in results}:
            mine, others = self._claim(missing, results)
            if mine:
                with self._asking(mine, wanted) as answers:
                    answers.update(await fetch(list(mine)))
                results.update(answers)
            for name, future in others.items():
                try:
                    async with asyncio.timeout(_patience(deadline)):
                        results[name] = await asyncio.wrap_future(future)
                except _Abandoned:
                    continue
                except TimeoutError:
                    results[name] = _not_told()
        return results

    def _claim(
        self, missing: Iterable[str], results: dict[str, Outcome]
    ) -> tuple[dict[str, Future[Outcome]], dict[str, Future[Outcome]]]:
        mine: dict[str, Future[Outcome]] = {}
        others: dict[str, Future[Outcome]] = {}
        with self._lock:
            for name in missing:
                if (held := self._get(name)) is not None and (key := held.key) is not None:
                    results[name] = key
                elif (future := self._in_flight.get(name)) is not None:
                    others[name] = future
                else:
                    mine[name] = self._in_flight[name] = Future()
                    # A running future cannot be cancelled by a coroutine that waits for it and is cancelled itself.
                    mine[name].set_running_or_notify_cancel()
        return mine, others

    @contextmanager
    def _asking(
        self, mine: Mapping[str, Future[Outcome]], wanted: Mapping[str, KeyContext | None]
    ) -> Iterator[dict[str, Outcome]]:
        """
        Yield a dict for the answers; keys that are missing from it in the end have to be asked for by somebody else.
        """
        purges = self._purges
        answers: dict[str, Outcome] = {}
        try:
            yield answers
        finally:
            with self._lock:
                for name, future in mine.items():
                    del self._in_flight[name]
                    answer = answers.get(name)
                    if answer is None:
                        future.set_exception(_Abandoned())
                        continue
                    if isinstance(answer, DataKey) and purges == self._purges:
                        self._put(answer, name, wanted[name])
                    future.set_result(answer)

    def _get(self, name: str) -> HeldKey | None:
        now = self._clock()
        if now >= self._next_sweep:
            self._sweep(now)
        held = self._entries.get(name)
        if held is None:
            return None
        if held.expires <= now:
            self._drop(name)
            return None
        held.used = True
        return held

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + self.max_age / 10
        for name in [name for name, held in self._entries.items() if held.expires <= now]:
            self._drop(name)

    def _put(self, key: DataKey, name: str, context: KeyContext | None) -> None:
        if not self.keeps_keys:
            return
        now = self._clock()
        if now >= self._next_sweep:
            self._sweep(now)
        self._drop(name)
        expires = now + self.max_age
        if 0 <= expires - self._last_expires < self.max_age / 1000:
            expires = self._last_expires  # One number for the keys that came together: 24 bytes less for each.
        self._last_expires = expires
        held = self._entries[name] = HeldKey(key, context, expires)
        if len(self._entries) > self.max_keys:
            held.used = True  # Where all others are in use, one of them goes.
            while len(self._entries) > self.max_keys:
                self._make_room()
            held.used = False

    def _make_room(self) -> None:
        """Drop the oldest key, unless it was used: then it counts as new."""
        if not self._oldest:
            # Several at once: to find the first one that a dict still has takes as long as many were taken from it.
            self._oldest.extend(islice(self._entries.items(), _LOOKED_AT))
        name, held = self._oldest.popleft()
        if self._entries.get(name) is not held:
            return
        if held.used:
            held.used = False
            self._entries[name] = self._entries.pop(name)
        else:
            self._drop(name)

    def _drop(self, name: str) -> None:
        held = self._entries.get(name)
        if held is not None:
            # First: a child that is forked in between would not find it any more.
            held.key = None
            del self._entries[name]


def _patience(deadline: Deadline | None) -> float | None:
    # The caller that asks has begun earlier, with a deadline of the same length, and reports the error that ends it.
    return None if deadline is None else deadline.timeout + LEEWAY


def _not_told() -> NoAnswerInTime:
    return NoAnswerInTime("The key is being asked for elsewhere in this process, and no answer came in time.")


def _matches(held: KeyContext | None, wanted: Mapping[str, str] | None) -> bool:
    if held is None or wanted is None:
        return True
    return all(held.get(name) == value for name, value in wanted.items())
