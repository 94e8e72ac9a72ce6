"""Failures of a transit engine, and of the server around it, as errors of this package."""

from collections.abc import Mapping
from typing import Any

from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultUnavailable

__all__ = [
    "NOT_KNOWN_YET",
    "TransitDoesNotOpen",
    "TransitKeyMissing",
    "TransitVersionMissing",
    "failure_in",
    "is_batch",
    "judge_customer_key",
    "judge_openbao",
]


class TransitKeyMissing(KeyRevoked):
    """The engine has no key of that name: it was never made, or it was deleted."""


class TransitVersionMissing(VaultRefused):
    """The engine has no such version of the key."""


class TransitDoesNotOpen(VaultRefused):
    """The engine has the key, but the ciphertext does not open with it."""


# A standby node gives the same answers about a key that was made, or rotated, so recently that it has not heard of it.
NOT_KNOWN_YET = (TransitKeyMissing, TransitVersionMissing)


# Texts of the engine, which come with a status of many meanings. They are recognized and never quoted: an error of a
# server could hold anything.
_MISSING = "encryption key not found"
_TOO_NEW = "version is too new"
_WITHDRAWN = {
    "disallowed by policy": "the version of the transit key that is needed for this was retired",
    "soft-deleted key": "the transit key that is needed for this was soft-deleted",
}
_DOES_NOT_OPEN = ("message authentication failed", "invalid ciphertext")


def failure_in(text: str) -> tuple[type[VaultError], str] | None:
    """The error behind a text of the engine about one key or one ciphertext, and its message; None if unknown."""
    if _MISSING in text:
        return TransitKeyMissing, "the transit key that is needed for this does not exist"
    if _TOO_NEW in text:
        return TransitVersionMissing, "the transit key that is needed for this has no such version"
    for known, reason in _WITHDRAWN.items():
        if known in text:
            return KeyRevoked, reason
    if any(known in text for known in _DOES_NOT_OPEN):
        return TransitDoesNotOpen, "the encrypted keys do not open"
    return None


def judge_openbao(status: int, content: Mapping[str, Any]) -> tuple[type[VaultError], str] | None:
    """The judge of a vault's requests: the error that a failed answer becomes, if its status alone does not say it."""
    text = _text_in(content)
    if 300 <= status < 400:
        # A standby node may not forward. To follow it would take the token to an address of its choice.
        return VaultUnavailable, (
            f"a standby node redirects to the active one (HTTP {status}), which is not followed: allow nodes to "
            "forward requests, or put the addresses of all of them into addresses."
        )
    if status == 503 and "sealed" in text:
        return VaultUnavailable, "the server is sealed (HTTP 503) and must be unsealed by its operators."
    if status >= 500 and ("node not active" in text or "standby" in text or "leader" in text):
        return VaultUnavailable, f"the cluster has no active node at the moment (HTTP {status})."
    if status == 404 and content.get("errors") == []:
        return TransitKeyMissing, "there is no such transit key (HTTP 404)."
    if status == 404 and "no handler for route" in text:
        return VaultRefused, "there is no such engine (HTTP 404). Check mount and namespace."
    if status == 404 and "namespace not found" in text:
        return VaultRefused, "there is no such namespace (HTTP 404). Check namespace."
    found = failure_in(text) if status == 400 else None
    return found and (found[0], f"{found[1]} (HTTP {status}).")


def judge_customer_key(status: int, content: Mapping[str, Any]) -> tuple[type[VaultError], str] | None:
    """
    The judge of requests for a customer key.

    Taking the policy, the key, the engine or the namespace away is how its owner withdraws it. A 403 for an expired
    token looks the same.
    """
    if status in {403, 404}:
        return KeyRevoked, f"the transit engine does not let the key be used (HTTP {status})."
    return judge_openbao(status, content)


def is_batch(status: int, content: Mapping[str, Any]) -> bool:
    """Whether an answer is a batch of results: if all of them failed, the engine sends it with status 400."""
    data = content.get("data")
    return status == 204 or (status == 400 and isinstance(data, dict) and isinstance(data.get("batch_results"), list))


def _text_in(content: Mapping[str, Any]) -> str:
    errors = content.get("errors")
    return " ".join(map(str, errors)) if isinstance(errors, list) else ""
