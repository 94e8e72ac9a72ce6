"""The token that a vault over OpenBao calls with, and how it stays valid."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vault_fields.client import VaultClient
from vault_fields.exceptions import VaultError, VaultRefused
from vault_fields.runtime.deadline import Deadline, NoAnswerInTime
from vault_fields.runtime.forks import follow_forks
from vault_fields.transit.asking import Payload, data_in
from vault_fields.transit.sources import Grant, Source, grant_in, seconds_in

__all__ = ["Held", "Session"]

logger = logging.getLogger("vault_fields.transit")

LOOKUP = "/v1/auth/token/lookup-self"
RENEW = "/v1/auth/token/renew-self"

# A token is renewed, or replaced, when this share of its time has passed.
DUE_AFTER = 2 / 3
# Seconds before the next attempt: after a renewal that failed, and after a login, if its token is refused as well.
PAUSE = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A token from ``since`` on; ``due`` is when to renew or replace it. Times are of the monotonic clock."""

    grant: Grant
    since: float
    due: float

    @property
    def ends(self) -> float:
        return self.since + self.grant.seconds


class Session:
    """
    Holds one token for all threads and coroutines, and sees that there is one that works.

    It is renewed early; while it is valid nobody waits for that but the thread that does it. One thread at a time asks
    for a token. ``headers`` never does I/O.
    """

    def __init__(
        self, source: Source, namespace: str | None, *, alias: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._fixed = {} if namespace is None else {"X-Vault-Namespace": namespace}
        self._alias = alias
        self._clock = clock
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """A token that was being asked for may be held half known."""
        self._lock = threading.Lock()
        self._held: Held | None = None

    @property
    def held(self) -> Held | None:
        """What calls are made with at the moment."""
        return self._held

    @property
    def is_ready(self) -> bool:
        """Whether ``prepare`` would have nothing to do."""
        return self._held is not None and self._clock() < self._held.due

    def headers(self) -> Mapping[str, str]:
        return self._fixed if self._held is None else {**self._fixed, "X-Vault-Token": self._held.grant.token}

    def prepare(self, client: VaultClient, deadline: Deadline) -> None:
        """See that there is a token. Up to two calls; none while it is young. Raises ``VaultError``."""
        held = self._held
        if self.is_ready:
            return
        is_valid = held is not None and self._clock() < held.ends
        if not self._lock.acquire(blocking=not is_valid, timeout=-1 if is_valid else deadline.timeout):
            if is_valid:
                return
            raise no_token(client)
        try:
            if self._held is held:
                if held is not None and is_valid:
                    self._held = self._renewed(held, client, deadline)
                else:
                    self._held = self._obtained(client, deadline)
        finally:
            self._lock.release()

    def replace(self, refused: Held | None, client: VaultClient, deadline: Deadline) -> bool:
        """
        After a 403: see whether there is another token than the ``refused`` one. Raises ``VaultError``.

        A 403 may also mean that the policy forbids the call, in which case a new token is refused as the old one was.
        """
        if not self._lock.acquire(timeout=deadline.timeout):
            raise no_token(client)
        try:
            if self._held is not refused:
                return True
            if refused is None or not self._source.replaces or self._clock() < refused.since + PAUSE:
                return False
            self._held = self._obtained(client, deadline)
            return self._held.grant.token != refused.grant.token
        finally:
            self._lock.release()

    def _obtained(self, client: VaultClient, deadline: Deadline) -> Held:
        if deadline.has_passed:
            # It was waited for somebody else, who asked in vain.
            raise no_token(client)
        grant = self._source.obtain(client, deadline.timeout)
        if not self._source.replaces:
            # How long it lasts is looked up, which is done with the token itself.
            self._held = self._hold(grant)
            try:
                grant = _looked_up(grant, client, deadline)
            except VaultError:
                # Held on, it would pass for a token that never ends.
                self._held = None
                raise
        return self._hold(grant)

    def _renewed(self, held: Held, client: VaultClient, deadline: Deadline) -> Held:
        """The token for longer, or another one, or the same as it is if neither can be had now."""
        try:
            if held.grant.renewable:
                grant = grant_in(client.post(RENEW, Payload(), timeout=deadline.timeout))
                # Towards its greatest age a token is renewed for less and less; then it is better replaced.
                if grant.seconds * 2 >= held.grant.seconds or not self._source.replaces:
                    return self._hold(grant)
            return self._obtained(client, deadline) if self._source.replaces else Held(held.grant, held.since, math.inf)
        except VaultError as error:
            left = held.ends - self._clock()
            text = "VAULTS[%r]: The token could not be renewed, and is valid for another %.0f s: %s"
            logger.warning(text, self._alias, left, error)
            return Held(held.grant, held.since, self._clock() + min(PAUSE, left))

    def _hold(self, grant: Grant) -> Held:
        now = self._clock()
        return Held(grant, now, now + grant.seconds * DUE_AFTER)


def no_token(client: VaultClient) -> NoAnswerInTime:
    return NoAnswerInTime(f"no token could be had in time.{client.named}")


def _looked_up(grant: Grant, client: VaultClient, deadline: Deadline) -> Grant:
    try:
        data = data_in(client.get(LOOKUP, timeout=deadline.timeout))
    except VaultRefused:
        # Its policies do not let it look, or it is not valid: the calls that it is for will tell.
        return grant
    return Grant(grant.token, seconds_in(data, data.content.get("ttl")), data.content.get("renewable") is True)
