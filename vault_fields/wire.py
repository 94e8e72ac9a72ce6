"""
How a Vault says over HTTP that a key was withdrawn, or does not answer: the one place where both sides have it from.

What the hosted Vault answers for a customer-managed key that was revoked is not public. Ours answers 403, because the
request is right and the key's owner forbids it, with a machine code in the body by which a client tells it from 403
for its own credentials. Whoever finds out what the hosted Vault does adds it to ``tells_of_revocation``.

A key of a customer that does not answer is a 503, as all is that may pass; the code tells it from a Vault that is away.
"""

from collections.abc import Mapping
from typing import Any

__all__ = [
    "KEY_AWAY_BODY",
    "KEY_AWAY_STATUS",
    "REVOKED_BODY",
    "REVOKED_STATUS",
    "tells_of_a_key_that_is_away",
    "tells_of_revocation",
]

REVOKED_STATUS = 403
REVOKED_BODY: Mapping[str, str] = {"error": "A key that is needed for this was revoked.", "code": "key_revoked"}


def tells_of_revocation(status: int, content: Mapping[str, Any]) -> bool:
    return status == REVOKED_STATUS and content.get("code") == REVOKED_BODY["code"]


KEY_AWAY_STATUS = 503
KEY_AWAY_BODY: Mapping[str, str] = {
    "error": "A key that is needed for this does not answer. The vault does.",
    "code": "key_unavailable",
}


def tells_of_a_key_that_is_away(status: int, content: Mapping[str, Any]) -> bool:
    return status == KEY_AWAY_STATUS and content.get("code") == KEY_AWAY_BODY["code"]
