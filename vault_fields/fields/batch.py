"""The companions of rows that were read together, whose data keys are asked for together."""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Protocol

from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import Model
from django.utils.asyncio import async_unsafe

from vault_fields.datakeys.cache import KeyCache, Outcome, Term
from vault_fields.exceptions import EnvelopeError, KeyUnavailable, VaultError, VaultRefused, VaultUnavailable
from vault_fields.fields.damaged import Damaged, as_text
from vault_fields.fields.failures import known_failures
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import NoAnswerInTime
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion
from vault_fields.vaults import vaults

__all__ = ["FAILURE_AGE", "Batch", "asked_ahead", "may_wait"]

# The seconds after a failure of the Vault in which it is not asked again for the rows that were read together.
FAILURE_AGE = 5.0

# Outcomes by vault and encrypted keys, which a coroutine has had for the values it opens now.
_asked_ahead: ContextVar[Mapping[tuple[str, str], Outcome]] = ContextVar(
    "vault_fields_asked_ahead", default=MappingProxyType({})
)


@contextmanager
def asked_ahead(outcomes: Mapping[tuple[str, str], Outcome]) -> Iterator[None]:
    """Use these outcomes within the block, and in threads that are started there, without a call or a cache."""
    token = _asked_ahead.set(outcomes)
    try:
        yield
    finally:
        _asked_ahead.reset(token)


@async_unsafe(
    "An encrypted value was read in async code before it was opened. That fails in production whenever its key is not "
    "cached, and so it fails here always (VAULT_REQUIRE_AOPEN). Open the values beforehand with "
    "`await vault_fields.fields.aopen(…)`, or use sync_to_async."
)
def _require_no_event_loop() -> None:
    """Raise ``SynchronousOnlyOperation`` in a running event loop."""


def may_wait() -> bool:
    """Whether code may wait for a Vault here: not in a running event loop."""
    try:
        _require_no_event_loop()
    except SynchronousOnlyOperation:
        return False
    return True


def _lasting(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """
    Return the outcomes that stay. While some keys are answered, those that were not may be, another time.

    There may be more of them than a Vault answers within one deadline.
    """
    if not any(isinstance(outcome, DataKey) for outcome in outcomes.values()):
        return dict(outcomes)
    return {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, VaultUnavailable)}


class Leading(Protocol):
    """An object that tells where relation paths lead: see ``vault_fields.fields.pathends``."""

    def lead_to(self, name: str, root: str | None, end: str | None) -> bool: ...


class Batch:
    """
    The companions of rows that one query read together: a row that needs a key asks for those of all its peers.

    It knows texts, or weak references to instances whose query could not tell; never rows that the caller dropped. It
    keeps errors for a moment, so that a page of rows that do not open costs one round of calls and one deadline. With
    ``hold``, for rows that are all opened at once, it keeps what the cache has no room for, but no longer than the
    cache would. With ``goes_on``, for operations that leave the rows of a customer alone whose key does not answer,
    that key is asked once for all rows of a key context.
    """

    __slots__ = ("_contexts", "_goes_on", "_held", "_holds", "_peers", "_texts", "path_ends", "settled")

    def __init__(
        self,
        texts: Iterable[str | None] = (),
        *,
        hold: bool = False,
        goes_on: bool = False,
        path_ends: Leading | None = None,
    ) -> None:
        self._texts = texts
        # The ends of the paths of its rows' contexts, if these are over relations.
        self.path_ends = path_ends
        self._peers: list[tuple[weakref.ref[Model], str]] = []
        # The encrypted keys that are not worth asking for again on behalf of another row: the key of a row that was
        # touched has been used, and one that was refused would be refused again each time.
        self.settled: set[str] = set()
        self._holds = hold
        self._goes_on = goes_on
        # The encrypted keys of peers.
        self._contexts: dict[str, KeyContext] = {}
        self._held: dict[str, tuple[Outcome, Term]] = {}

    def add_peer(self, instance: Model, companion_name: str) -> None:
        self._peers.append((weakref.ref(instance), companion_name))

    def key(self, companion: Companion, *, again: bool = False) -> DataKey:
        """
        Return the data key of one row's companion. Costs a call for each key of the batch that is missing, or none.

        ``again`` says that the value did not open before: its own key is asked for anew, unless the Vault was silent.
        """
        outcome = self._outcome(companion, again)
        if isinstance(outcome, VaultError):
            raise outcome
        return outcome

    def _outcome(self, companion: Companion, again: bool) -> Outcome:
        vault = vaults.opener(companion.vault)
        wanted = companion.encrypted_keys
        if getattr(settings, "VAULT_REQUIRE_AOPEN", settings.DEBUG or vault.is_for_tests):
            _require_no_event_loop()
        self.settled.add(wanted)
        if (known := self._known(companion, vault.cache, again)) is not None:
            return known
        self._contexts[wanted] = companion.context
        term = Term(vault.cache)
        # Companions still have to prove which context a key belongs to: until then, any purge drops it.
        outcomes = vault.decrypt_data_keys(dict.fromkeys((wanted, *self._peers_of(companion, vault.cache))))
        brief = term.from_now(FAILURE_AGE)
        lasting = self._shared(outcomes) if self._goes_on else _lasting(outcomes)
        for name, outcome in lasting.items():
            if self._holds and vault.cache.get(name) is None:
                self._held[name] = outcome, term
            elif isinstance(outcome, VaultError):
                self._held[name] = outcome, brief
        if (failures := known_failures()) is not None:
            failures.note(companion.vault, outcomes)
        self.settle(lasting)
        return lasting.get(wanted, outcomes[wanted])

    def _shared(self, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """
        Return the outcomes not to ask for again, with a context's KeyUnavailable for all its unanswered keys.

        Other keys may be answered another time, when nobody waits for that key.
        """
        contexts = self._contexts
        away = {contexts[name]: each for name, each in outcomes.items() if isinstance(each, KeyUnavailable)}
        if not away:
            return _lasting(outcomes)
        found = {}
        for name, outcome in outcomes.items():
            if not isinstance(outcome, VaultUnavailable):
                found[name] = outcome
            elif contexts[name] in away:
                found[name] = away[contexts[name]]
        return found

    def _known(self, companion: Companion, cache: KeyCache, again: bool) -> Outcome | None:
        """Return the outcome that is known without a call, or None."""
        wanted = companion.encrypted_keys
        if (key := cache.get(wanted)) is not None:
            return key
        if (ahead := _asked_ahead.get().get((companion.vault, wanted))) is not None:
            return ahead
        failures = known_failures()
        if failures is not None and (failure := failures.of(companion.vault, wanted)) is not None:
            return failure
        if wanted in self._held:
            outcome, term = self._held[wanted]
            if term.is_over:
                self._held.clear()
            elif not again or isinstance(outcome, DataKey | NoAnswerInTime):
                return outcome
        return None

    def missing(self, companion: Companion) -> set[str]:
        """
        Return the keys to ask for if this companion's key is needed: none while it is cached. Raises ``UnknownVault``.
        """
        cache = vaults.opener(companion.vault).cache
        if cache.get(companion.encrypted_keys) is not None:
            return set()
        self.settled.add(companion.encrypted_keys)
        return {companion.encrypted_keys, *self._peers_of(companion, cache)}

    def settle(self, outcomes: Mapping[str, Outcome]) -> None:
        """
        Stop asking, on behalf of other rows, for keys that the Vault has refused, or that the operation goes on
        without.
        """
        kinds = (VaultRefused, KeyUnavailable) if self._goes_on else VaultRefused
        self.settled.update(name for name, outcome in outcomes.items() if isinstance(outcome, kinds))

    def _peers_of(self, companion: Companion, cache: KeyCache) -> set[str]:
        """Return the keys to ask for along with one key: those of its vault, as far as they can be kept until used."""
        peers: set[str] = set()
        room = cache.max_keys - 1 if cache.keeps_keys else 0
        for text in dict.fromkeys(map(as_text, (*self._texts, *self._peer_texts()))):  # In the order of the rows.
            if not self._holds and len(peers) >= room:
                break
            if not text or isinstance(text, Damaged):
                continue
            try:
                peer = companion_format.decode(text)
            except EnvelopeError:
                continue  # The row that has it reports that, if it is touched.
            if peer.vault == companion.vault and peer.encrypted_keys not in self.settled:
                peers.add(peer.encrypted_keys)
                if self._goes_on:
                    self._contexts[peer.encrypted_keys] = peer.context
        return peers

    def _peer_texts(self) -> Iterable[str | None]:
        for reference, name in self._peers:
            instance = reference()
            if instance is not None:
                yield instance.__dict__.get(name)
