"""The token that an engine calls with, from its first use on: renewed early, and replaced where that is possible."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vault_fields.client import VaultClient
from vault_fields.exceptions import VaultError, VaultRefused
from vault_fields.openbao.credentials import Grant, TokenSource, grant_in, seconds_in
from vault_fields.openbao.messages import Payload, data_in
from vault_fields.runtime.deadline import Deadline, NoAnswerInTime
from vault_fields.runtime.forks import follow_forks

__all__ = ["Session", "TokenLease", "no_token"]

# Documented: projects configure the logger by this name.
logger = logging.getLogger("vault_fields.transit")

LOOKUP = "/v1/auth/token/lookup-self"
RENEW = "/v1/auth/token/renew-self"

# A token is renewed, or replaced, when this share of its lifetime has passed.
DUE_AFTER = 2 / 3
# Seconds before the next attempt: after a renewal that failed, and after a login, if its token is refused as well.
PAUSE = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class TokenLease:
    """A token ``since`` when it is held, and when it is ``due`` to be renewed or replaced, by the monotonic clock."""

    grant: Grant
    since: float
    due: float

    @property
    def ends(self) -> float:
        return self.since + self.grant.seconds


class Session:
    """
    One valid token for all threads and coroutines of an engine.

    A token is renewed before it expires. While it is valid, only the thread that renews it waits. One thread at a time
    asks for a token. ``label`` names the user of the token in logs. ``headers`` does no I/O.
    """

    def __init__(
        self, source: TokenSource, namespace: str | None, *, label: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._fixed = {} if namespace is None else {"X-Vault-Namespace": namespace}
        self._label = label
        self._clock = clock
        self.reset_in_child()
        follow_forks(self)

    def reset_in_child(self) -> None:
        """Ask for the token anew in a forked child: a thread of the parent may have been renewing it."""
        self._lock = threading.Lock()
        self._lease: TokenLease | None = None

    @property
    def lease(self) -> TokenLease | None:
        """The lease of the token that calls are made with now."""
        return self._lease

    @property
    def is_ready(self) -> bool:
        """Whether ``prepare`` would have nothing to do. Raises ``VaultError`` if a watched source has no token now."""
        lease = self._lease
        return lease is not None and self._clock() < lease.due and not self._source.has_changed(lease.grant.token)

    def headers(self) -> Mapping[str, str]:
        lease = self._lease  # Another thread may forget it.
        return self._fixed if lease is None else {**self._fixed, "X-Vault-Token": lease.grant.token}

    def prepare(self, client: VaultClient, deadline: Deadline) -> None:
        """Make sure that there is a token: none to two calls. Raises ``VaultError``."""
        lease = self._lease
        if self.is_ready:
            return
        is_valid = lease is not None and self._is_valid(lease)
        if not self._lock.acquire(blocking=not is_valid, timeout=-1 if is_valid else deadline.timeout):
            if is_valid:
                return
            raise no_token(client)
        try:
            if self._lease is lease:
                if lease is not None and is_valid:
                    self._lease = self._renewed(lease, client, deadline)
                else:
                    self._lease = self._obtained(client, deadline)
        finally:
            self._lock.release()

    def replace(self, refused: TokenLease | None, client: VaultClient, deadline: Deadline) -> bool:
        """
        Return whether there is another token than the ``refused`` one, after a 403. Raises ``VaultError``.

        A 403 may also mean that the policy forbids the call. Then a new token is refused as the old one was.
        """
        if not self._lock.acquire(timeout=deadline.timeout):
            raise no_token(client)
        try:
            if self._lease is not refused:
                return True
            if refused is None or not self._source.replaces or self._clock() < refused.since + PAUSE:
                return False
            self._lease = self._obtained(client, deadline)
            return self._lease.grant.token != refused.grant.token
        finally:
            self._lock.release()

    def _is_valid(self, lease: TokenLease) -> bool:
        return self._clock() < lease.ends and not self._source.has_changed(lease.grant.token)

    def _obtained(self, client: VaultClient, deadline: Deadline) -> TokenLease:
        if deadline.has_passed:
            # Another thread had the lock until now, and got no token.
            raise no_token(client)
        grant = self._source.obtain(client, deadline.timeout)
        if self._source.replaces:
            return self._leased(grant)
        if self._source.look_up_after:
            now = self._clock()
            return TokenLease(grant, now, now + self._source.look_up_after)
        # The lifetime of a token is looked up with the token itself.
        self._lease = self._leased(grant)
        try:
            return self._leased(_looked_up(grant, client, deadline))
        except VaultError:
            # Its lease says that it never expires, which is not known.
            self._lease = None
            raise

    def _renewed(self, lease: TokenLease, client: VaultClient, deadline: Deadline) -> TokenLease:
        """A lease of the renewed token, of another token, or of the same one if neither can be had now."""
        try:
            if not self._source.replaces and math.isinf(lease.grant.seconds):
                # It has not been looked up yet.
                return self._leased(_looked_up(lease.grant, client, deadline))
            if lease.grant.renewable:
                grant = grant_in(client.post(RENEW, Payload(), timeout=deadline.timeout))
                # Near its greatest age a token is renewed for less and less time. Then another one is better.
                if grant.seconds * 2 >= lease.grant.seconds or not self._source.replaces:
                    return self._leased(grant)
            if self._source.replaces:
                return self._obtained(client, deadline)
            return TokenLease(lease.grant, lease.since, math.inf)
        except VaultError as error:
            left = lease.ends - self._clock()
            how_long = "for an unknown time" if math.isinf(left) else f"for another {left:.0f} s"
            logger.warning("%s: The token could not be renewed, and is valid %s: %s", self._label, how_long, error)
            return TokenLease(lease.grant, lease.since, self._clock() + min(PAUSE, left))

    def _leased(self, grant: Grant) -> TokenLease:
        now = self._clock()
        return TokenLease(grant, now, now + grant.seconds * DUE_AFTER)


def no_token(client: VaultClient) -> NoAnswerInTime:
    return NoAnswerInTime(f"no token could be had in time.{client.named}")


def _looked_up(grant: Grant, client: VaultClient, deadline: Deadline) -> Grant:
    try:
        data = data_in(client.get(LOOKUP, timeout=deadline.timeout))
    except VaultRefused:
        # Its policies do not let it look, or it is not valid. The calls that it is for will tell.
        return grant
    return Grant(grant.token, seconds_in(data, data.content.get("ttl")), data.content.get("renewable") is True)
