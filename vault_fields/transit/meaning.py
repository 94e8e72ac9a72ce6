"""What a transit engine, and the server around it, means by its failures."""

from collections.abc import Mapping
from typing import Any

from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultUnavailable

__all__ = [
    "NOT_KNOWN_YET",
    "TransitDoesNotOpen",
    "TransitKeyMissing",
    "TransitVersionMissing",
    "is_batch",
    "judge_openbao",
    "meaning",
    "said_in",
]


class TransitKeyMissing(KeyRevoked):
    """The engine has no key of that name: it was never made, or it was deleted."""


class TransitVersionMissing(VaultRefused):
    """The engine has no such version of the key."""


class TransitDoesNotOpen(VaultRefused):
    """The engine has the key, and it does not open this."""


# What a standby node says as well of a key that was made, or rotated, so recently that it has not heard of it.
NOT_KNOWN_YET = (TransitKeyMissing, TransitVersionMissing)


# What the engine says, with a status that means many things, and our words for it: its own could hold anything.
_MISSING = "encryption key not found"
_TOO_NEW = "version is too new"
_WITHDRAWN = {
    "disallowed by policy": "a version of the transit key that is needed for this was retired",
    "soft-deleted key": "the transit key that is needed for this was soft-deleted",
}
_DOES_NOT_OPEN = ("message authentication failed", "invalid ciphertext")


def said_in(content: Mapping[str, Any]) -> str:
    """What an answer says for people to read."""
    errors = content.get("errors")
    return " ".join(map(str, errors)) if isinstance(errors, list) else ""


def meaning(said: str) -> tuple[type[VaultError], str] | None:
    """What the engine says about one key, or one ciphertext."""
    if _MISSING in said:
        return TransitKeyMissing, "the transit key that is needed for this does not exist"
    if _TOO_NEW in said:
        return TransitVersionMissing, "the transit key that is needed for this has no such version"
    for text, reason in _WITHDRAWN.items():
        if text in said:
            return KeyRevoked, reason
    if any(text in said for text in _DOES_NOT_OPEN):
        return TransitDoesNotOpen, "the encrypted keys do not open"
    return None


def judge_openbao(status: int, content: Mapping[str, Any]) -> tuple[type[VaultError], str] | None:
    """What a failure means, where its status alone does not say it."""
    said = said_in(content)
    if 300 <= status < 400:
        # A standby node that may not forward. Its word for where to go would lead the token there.
        return VaultUnavailable, (
            f"a standby node redirects to the active one (HTTP {status}), which is not followed: allow nodes to "
            "forward requests, or put the addresses of all of them into addresses."
        )
    if status == 503 and "sealed" in said:
        return VaultUnavailable, "the server is sealed (HTTP 503) and must be unsealed by its operators."
    if status >= 500 and ("node not active" in said or "standby" in said or "leader" in said):
        return VaultUnavailable, f"the cluster has no active node at the moment (HTTP {status})."
    if status == 404 and content.get("errors") == []:
        return TransitKeyMissing, "there is no such transit key (HTTP 404)."
    if status == 404 and "no handler for route" in said:
        return VaultRefused, "there is no such engine (HTTP 404). Check mount and namespace."
    if status == 404 and "namespace not found" in said:
        return VaultRefused, "there is no such namespace (HTTP 404). Check namespace."
    found = meaning(said) if status == 400 else None
    return found and (found[0], f"{found[1]} (HTTP {status}).")


def is_batch(status: int, content: Mapping[str, Any]) -> bool:
    """A batch in which everything failed comes with status 400, but says of each what is wrong with it."""
    data = content.get("data")
    return status == 204 or (status == 400 and isinstance(data, dict) and isinstance(data.get("batch_results"), list))
