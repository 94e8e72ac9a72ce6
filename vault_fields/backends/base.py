"""The interface of a Vault to the rest of the package, and the base of every backend: cache, counting, concurrency."""

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.utils.asyncio import async_unsafe

from vault_fields.datakeys.cache import KeyCache, Outcome
from vault_fields.datakeys.prefetch import KeyReserve, make_together
from vault_fields.datakeys.sharing import KeyShare
from vault_fields.exceptions import KeyUnavailable, VaultError
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline, NoAnswerInTime, ask_together, in_own_thread
from vault_fields.runtime.forks import follow_forks
from vault_fields.runtime.frames import forget, forgetful_class
from vault_fields.text.naming import names

__all__ = ["MOST_ROWS_OF_A_KEY", "BaseVault", "as_given"]

# The most rows that may have one data key. Each of them seals with it again until chance gives it another, and all of
# them together seal far less than AES-GCM allows: see ``vault_fields.fields.seallimit``.
MOST_ROWS_OF_A_KEY = 100_000

# No request of a web application waits longer, and infinity is no number of seconds to a socket or to SQLite.
LONGEST_TIMEOUT = 300

_unsafe = async_unsafe(
    "The Vault cannot be asked from an async context. Open the values beforehand with "
    "`await vault_fields.fields.aopen(…)`, or use sync_to_async."
)


@forgetful_class
class BaseVault(ABC):
    """
    A configured Vault: one per process and alias, shared by all threads, built without I/O.

    Its options are its constructor's keywords, which are also the ``OPTIONS`` of its entry in ``VAULTS``:
    ``max_cached_keys`` and ``key_max_age`` (seconds) bound the cache of opened data keys; ``max_concurrency`` is how
    many calls may be under way for one batch; ``max_rows_per_key`` how many new rows of one bulk operation may share a
    data key. Separate saves share one only if ``data_key_max_uses`` is above 1: that many of one context, within
    ``data_key_max_age`` seconds. Their product is at most ``MOST_ROWS_OF_A_KEY``. Up to ``max_prefetched_keys`` of a
    context are made at once, ahead of the saves that use them.

    A backend supplies ``_create``, ``_decrypt`` and ``_rekey``, each of which is one call to its Vault, and
    ``_decrypt_many`` where it can do better than many of them at once. They raise ``VaultError`` and nothing else.
    ``calls`` is counted for it, except by a ``_decrypt_many`` of its own, and beyond the first call of an operation.
    All keys that are opened together have ``seconds`` between them, of which the deadline tells what is left.
    """

    # Whether only tests use it. It may be stricter than the vault that it stands for.
    is_for_tests: ClassVar[bool] = False

    # For one operation, whatever its number of keys.
    seconds: float = 5.0

    def __init__(
        self,
        alias: str = "default",
        *,
        max_cached_keys: int = 10_000,
        key_max_age: float = 60.0,
        max_concurrency: int = 16,
        max_rows_per_key: int = 1000,
        data_key_max_uses: int = 1,
        data_key_max_age: float = 60.0,
        max_prefetched_keys: int = 0,
        **unknown: Any,
    ) -> None:
        self.alias = alias
        if unknown:
            raise self.misconfigured(f"unknown OPTIONS: {names(unknown)}.")
        self._require_number("max_cached_keys", max_cached_keys, minimum=0, integral=True)
        self._require_number("key_max_age", key_max_age, minimum=0)
        self._require_number("max_concurrency", max_concurrency, minimum=1, integral=True)
        self._require_number("max_rows_per_key", max_rows_per_key, minimum=1, integral=True)
        self._require_number("data_key_max_uses", data_key_max_uses, minimum=1, integral=True)
        self._require_number("data_key_max_age", data_key_max_age, minimum=0)
        self._require_number("max_prefetched_keys", max_prefetched_keys, minimum=0, integral=True)
        if max_rows_per_key * data_key_max_uses > MOST_ROWS_OF_A_KEY:
            raise self.misconfigured(
                f"one data key would encrypt {max_rows_per_key * data_key_max_uses:,} rows (max_rows_per_key × "
                f"data_key_max_uses), and {MOST_ROWS_OF_A_KEY:,} are allowed. Lower one of the two."
            )
        self.max_rows_per_key = max_rows_per_key
        self._share = KeyShare(max_uses=data_key_max_uses, max_age=data_key_max_age)
        self._reserve = KeyReserve(most=max_prefetched_keys, max_keys=max_cached_keys, max_age=key_max_age)
        self.cache = KeyCache(max_keys=max_cached_keys, max_age=key_max_age)
        self.calls: Counter[str] = Counter()
        self._max_concurrency = max_concurrency
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Make the lock anew in a forked child. Parts reset themselves: see ``vault_fields.runtime.forks``."""
        self._calls_lock = threading.Lock()

    # The three operations of the specification.

    @_unsafe
    def create_data_key(self, context: KeyContext) -> DataKey:
        """Return a fresh random data key, wrapped under every item of ``context``. One call."""
        self._count("create")
        generation = self.cache.generation
        key = self._create(context)
        self.cache.put(key, context, generation)
        return key

    @_unsafe
    def prepare(self, contexts: Collection[KeyContext]) -> None:
        """
        Announce that data keys for all of these contexts are about to be asked for. Costs no call.

        A Vault that has to make something first, for contexts that are new to it, may do so for all of them at once.
        Raises ``VaultUnavailable`` where it cannot. The refusal of one context is raised by its ``create``.
        """
        self._prepare(contexts)

    def shared_data_key(self, context: KeyContext) -> DataKey:
        """
        Return a data key for one save: fresh, or the latest if ``data_key_max_uses`` and ``data_key_max_age`` allow.

        One call, or none for a key that is used again, or was fetched ahead; up to ``max_prefetched_keys`` calls at
        once where the saves of a context follow each other.
        """
        return self._share.take(context, lambda context: self._reserve.take(context, self._create_together))

    def decrypt_data_key(self, encrypted_keys: str, context: KeyContext | None = None) -> DataKey:
        """Return the data key behind ``encrypted_keys``. One call, or none while it is cached."""
        key = self.cache.get(encrypted_keys)
        if key is not None:
            return key
        outcome = self.decrypt_data_keys({encrypted_keys: context})[encrypted_keys]
        if isinstance(outcome, VaultError):
            raise outcome
        return outcome

    @_unsafe
    def decrypt_data_keys(self, wanted: Mapping[str, KeyContext | None]) -> dict[str, Outcome]:
        """
        Return many data keys, by their encrypted keys: each a ``DataKey`` or the ``VaultError`` in its way.

        ``wanted`` maps encrypted keys to the context they were made for (None if unknown), by which they can be
        purged. One call for each that is neither cached nor being asked for by another thread. All of them have one
        deadline: those that could not be asked for until then are ``VaultUnavailable``, and cost no call.
        """
        deadline = Deadline(self.seconds)
        return self.cache.resolve(wanted, lambda names: self._decrypt_many(names, deadline), deadline)

    @_unsafe
    def rekey_data_key(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        """Return the same data key wrapped for another context; its id may change with the wrapping. One call."""
        self._count("rekey")
        generation = self.cache.generation
        key = self._rekey(encrypted_keys, context)
        self.cache.put(key, context, generation)
        return key

    async def acreate_data_key(self, context: KeyContext) -> DataKey:
        """Return what ``create_data_key`` returns."""
        return await in_own_thread(self.create_data_key, context)

    async def adecrypt_data_key(self, encrypted_keys: str, context: KeyContext | None = None) -> DataKey:
        """Return what ``decrypt_data_key`` returns."""
        key = self.cache.get(encrypted_keys)
        if key is not None:
            return key
        outcome = (await self.adecrypt_data_keys({encrypted_keys: context}))[encrypted_keys]
        if isinstance(outcome, VaultError):
            raise outcome
        return outcome

    async def adecrypt_data_keys(self, wanted: Mapping[str, KeyContext | None]) -> dict[str, Outcome]:
        """Return what ``decrypt_data_keys`` returns."""
        return await in_own_thread(self.decrypt_data_keys, wanted)

    async def arekey_data_key(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        """Return what ``rekey_data_key`` returns."""
        return await in_own_thread(self.rekey_data_key, encrypted_keys, context)

    def purge(self, context: Mapping[str, str] | None = None) -> int:
        """Forget the cached data keys whose context has every item of ``context``, or all; return how many."""
        # A save in between shares no key that was made before.
        self._reserve.purge(context)
        self._share.purge(context)
        return self.cache.purge(context)

    def is_current(self, encrypted_keys: str, context: KeyContext) -> bool:
        """
        Whether these are wrapped by the keys that wrap for this context now, as far as the vault can tell.

        False where encrypted keys are opaque, as those of the hosted Vault are. Raises ``VaultError``.
        """
        return False

    def rewrap_data_keys(self, wanted: Mapping[str, KeyContext]) -> dict[str, str | VaultError]:
        """
        Return the same data keys wrapped by the present keys of their contexts: their new encrypted keys, or an error.

        Encrypted keys that are wrapped so already may stay as they are. One call for each, unless the backend does
        better; none for the others of a context whose key does not answer.
        """
        rewrapped: dict[str, str | VaultError] = {}
        away: dict[KeyContext, KeyUnavailable] = {}
        try:
            self.prepare(wanted.values())
        except VaultError as error:
            return dict.fromkeys(wanted, forget(error))
        for encrypted_keys, context in wanted.items():
            if context in away:
                rewrapped[encrypted_keys] = away[context]
                continue
            try:
                rewrapped[encrypted_keys] = self.rekey_data_key(encrypted_keys, context).encrypted_keys
            except KeyUnavailable as error:
                rewrapped[encrypted_keys] = away[context] = forget(error)
            except VaultError as error:
                rewrapped[encrypted_keys] = error
        return rewrapped

    def close(self) -> None:
        """Close connections and forget cached keys. The vault can be used again afterwards."""
        self.purge()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r}>"

    # The methods that a backend supplies.

    @abstractmethod
    def _create(self, context: KeyContext) -> DataKey: ...

    @abstractmethod
    def _decrypt(self, encrypted_keys: str, deadline: Deadline) -> DataKey: ...

    @abstractmethod
    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey: ...

    def _prepare(self, contexts: Collection[KeyContext]) -> None:  # noqa: B027 - most have nothing to make.
        """Do what ``prepare`` announces."""

    def _decrypt_many(self, encrypted_keys: list[str], deadline: Deadline) -> dict[str, Outcome]:
        """Ask for all of them, up to ``max_concurrency`` at a time."""
        if len(encrypted_keys) == 1:
            return {encrypted_keys[0]: self._attempt(encrypted_keys[0], deadline)}
        return ask_together(
            encrypted_keys,
            lambda name: self._attempt(name, deadline),
            self._missed,
            deadline,
            at_once=self._max_concurrency,
            called=f"vault-{self.alias}",
        )

    def _create_together(self, context: KeyContext, count: int) -> list[DataKey]:
        """Return fresh data keys of one context, up to ``max_concurrency`` calls at a time."""
        create, deadline = partial(self.create_data_key, context), Deadline(self.seconds)
        called = f"vault-{self.alias}"
        return make_together(create, count, self._missed, deadline, at_once=self._max_concurrency, called=called)

    # The methods that a backend may use.

    def misconfigured(self, reason: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(f"VAULTS[{self.alias!r}]: {reason}")

    def _attempt(self, encrypted_keys: str, deadline: Deadline) -> Outcome:
        self._count("decrypt")
        try:
            return self._decrypt(encrypted_keys, deadline)
        except VaultError as error:
            return forget(error)  # It is kept for a while, and may be shown.

    def _missed(self) -> NoAnswerInTime:
        return NoAnswerInTime(
            f"The key was not had within {self.seconds:g} s, which are for all keys that are asked for together.",
            alias=self.alias,
        )

    def _require_number(self, name: str, value: object, *, minimum: float, integral: bool = False) -> None:
        kinds = (int,) if integral else (int, float)
        # NaN fails the comparison too, which is why it is not written the other way round.
        if isinstance(value, bool) or not isinstance(value, kinds) or not value >= minimum:
            kind = "a whole number" if integral else "a number"
            raise self.misconfigured(f"{name} must be {kind} of at least {minimum}, not {as_given(value)}.")

    def _require_timeout(self, timeout: float, *, minimum: float) -> None:
        self._require_number("timeout", timeout, minimum=minimum)
        if timeout > LONGEST_TIMEOUT:
            raise self.misconfigured(f"timeout must be at most {LONGEST_TIMEOUT} seconds.")

    def _count(self, operation: str) -> None:
        with self._calls_lock:
            self.calls[operation] += 1


def as_given(value: object) -> str:
    """Return the given value, if it is a number. A text is not shown, since it may be a key in the wrong place."""
    return repr(value) if isinstance(value, int | float | None) else f"a {type(value).__name__}"
