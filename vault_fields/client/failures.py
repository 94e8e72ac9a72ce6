"""The meaning of an HTTP answer: a JSON object, or a failure with the error it becomes. No I/O, and no httpx."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from vault_fields.client.retry import Tries, seconds_until_retry
from vault_fields.errorcodes import tells_of_a_key_that_is_away, tells_of_revocation
from vault_fields.exceptions import (
    KeyRevoked,
    KeyUnavailable,
    VaultError,
    VaultRefused,
    VaultThrottled,
    VaultUnavailable,
)
from vault_fields.runtime.deadline import NoAnswerInTime

__all__ = ["MAX_ANSWER_BYTES", "Answer", "Asked", "Failure", "Judge", "Reading", "host_in", "judge_vault", "only_200"]

logger = logging.getLogger("vault_fields.client")

MAX_ANSWER_BYTES = 256 * 1024

RETRIED_STATUSES = {408, 425, 429}


# A function that returns the error for a status other than 200 and its JSON object, with its words; None if the status
# says it all. Redirects are judged without their bodies.
Judge = Callable[[int, Mapping[str, Any]], tuple[type[VaultError], str] | None]

# A function that tells whether a status other than 200 comes with an answer all the same. A 204 has an empty object.
Answers = Callable[[int, Mapping[str, Any]], bool]


def only_200(status: int, content: Mapping[str, Any]) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Answer:
    """The JSON object of an answer. It may hold a plaintext key, and so does not show in ``repr``."""

    content: Mapping[str, Any] = field(repr=False)
    request_id: str | None
    host: str | None = None

    def named(self, sentence: str) -> str:
        """Return the sentence with the host that answered."""
        return sentence if self.host is None else f"{sentence} Host: {self.host}."

    def refusal(self, sentence: str, *, alias: str | None = None) -> VaultRefused:
        """Return the error for an answer that breaks the contract: a 200 that is not what was asked for."""
        return VaultRefused(self.named(sentence), alias=alias, status=200, request_id=self.request_id)


class Asked(Protocol):
    """The addressee of a call, for messages: an alias of ``VAULTS`` if it is one."""

    alias: str | None
    label: str


@dataclass(frozen=True, slots=True)
class Failure:
    """One try that brought no answer. Nothing of the response is in it but its status and request id."""

    reason: str
    error: type[VaultError] = VaultUnavailable
    status: int | None = None
    request_id: str | None = None
    retry_after: float = 0.0

    @property
    def may_pass(self) -> bool:
        # The service that keeps a customer's key has been asked as often as is useful.
        return issubclass(self.error, VaultUnavailable) and not issubclass(self.error, KeyUnavailable)

    def pause(self, endpoint: "Asked", host: str, tries: Tries) -> float:
        """
        Return the seconds to wait before the next try. Raises the error of this failure if no other try is allowed.
        """
        pause = tries.pause(self.retry_after) if self.may_pass else None
        if pause is None:
            raise self._exception(endpoint.alias, host, tries.made)
        logger.info("%s: %s Host: %s. Trying again in %.2f s.", endpoint.label, self.reason, host, pause)
        return pause

    def _exception(self, alias: str | None, host: str, tries: int) -> VaultError:
        counted = f" Gave up after {tries} {'try' if tries == 1 else 'tries'}." if self.may_pass else ""
        message = f"{self.reason}{counted} Host: {host}."
        return self.error(
            message,
            alias=alias,
            status=self.status,
            request_id=self.request_id,
            retry_after=self.retry_after or None,
        )


def host_in(error: VaultError) -> str:
    """Return the end of a failed call's message, which names the host, for callers that word the rest differently."""
    _, found, host = str(error.args[0]).rpartition(" Host: ")
    return found + host if found else ""


class Reading:
    """A response while its body arrives: bounded in size and time, then judged."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        tries: Tries,
        judge: Judge,
        answers: Answers = only_200,
        host: str | None = None,
    ) -> None:
        self._host = host
        self._judge = judge
        self._answers = answers
        self._status = status
        self._headers = headers
        self._tries = tries
        self._body = bytearray()

    def take(self, chunk: bytes) -> bool:
        """Add a piece of the body. Return False if reading should stop."""
        self._body += chunk
        return len(self._body) <= MAX_ANSWER_BYTES and self._tries.remaining() > 0

    def outcome(self, fault: Failure | None = None) -> Answer | Failure:
        """Return the outcome of the response, given the fault that cut it short, if one did."""
        if self._status != 200:
            # The status is known and says more than the fault that hit the body.
            return self._judged()
        if fault is not None:
            return fault
        if len(self._body) > MAX_ANSWER_BYTES:
            return self._nonsense(f"more than {MAX_ANSWER_BYTES // 1024} KiB")
        if self._tries.remaining() <= 0:
            return Failure("The Vault did not finish its answer in time.", NoAnswerInTime, request_id=self._request_id)
        return self._parsed()

    def _parsed(self) -> Answer | Failure:
        media_type = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            return self._nonsense("something that is not JSON")
        try:
            content = json.loads(self._body.decode())
        except (ValueError, RecursionError):
            # Not chained: a JSONDecodeError carries the body, and with it a data key.
            content = None
        if not isinstance(content, dict):
            return self._nonsense("something that is not a JSON object")
        return Answer(content, self._request_id, self._host)

    def _judged(self) -> Answer | Failure:
        empty = self._status == 204 or 300 <= self._status < 400
        try:
            content = {} if empty else json.loads(self._body.decode())
        except (ValueError, RecursionError):
            # An answer of a proxy, or one that was cut short.
            content = None
        if not isinstance(content, dict):
            return self._failure()
        if self._answers(self._status, content):
            return Answer(content, self._request_id, self._host)
        judgement = self._judge(self._status, content)
        return Failure(judgement[1], judgement[0], self._status, self._request_id) if judgement else self._failure()

    def _failure(self) -> Failure:
        status = self._status
        error: type[VaultError] = VaultRefused
        retry_after = 0.0
        if status in RETRIED_STATUSES or status >= 500:
            error = VaultThrottled if status == 429 else VaultUnavailable
            retry_after = seconds_until_retry(self._headers.get("retry-after"), self._tries.now())
        return Failure(_meaning(status), error, status, self._request_id, retry_after)

    def _nonsense(self, what: str) -> Failure:
        # Refused and not unavailable: a 200 that breaks the contract comes from something that is not the Vault (a
        # proxy, a wrong base_url, an attacker), and must not be asked again before somebody has looked.
        return Failure(f"The Vault answered with {what}.", VaultRefused, 200, self._request_id)

    @property
    def _request_id(self) -> str | None:
        # It goes into messages and logs, so it is accepted only as far as a name needs.
        name = self._headers.get("x-request-id", "")
        return name if re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", name) else None


def judge_vault(status: int, content: Mapping[str, Any]) -> tuple[type[VaultError], str] | None:
    """The judge of a Vault that speaks the WorkOS API."""
    if tells_of_revocation(status, content):
        return KeyRevoked, f"A key that is needed for this was revoked by its owner (HTTP {status})."
    if tells_of_a_key_that_is_away(status, content):
        return (
            KeyUnavailable,
            f"A key that its owner keeps, and that is needed for this, does not answer (HTTP {status}).",
        )
    return None


def _meaning(status: int) -> str:
    if status in {401, 403}:
        return f"The Vault refused the credentials (HTTP {status}). Check the API key and what it may do."
    if status == 429:
        return "The Vault asks for fewer calls (HTTP 429)."
    if status in RETRIED_STATUSES or status >= 500:
        return f"The Vault cannot answer now (HTTP {status})."
    if 300 <= status < 400:
        return f"The Vault answered with a redirect (HTTP {status}), which is not followed. Check base_url."
    if status == 404:
        return "The Vault knows no such call or key (HTTP 404). Check base_url."
    return f"The Vault refused the request (HTTP {status})."
