"""
The HTTP answers by which a Vault says that a key was withdrawn, or does not answer: one place for both sides.

The answer of the hosted Vault for a revoked customer key is not public. Ours answers 403, because the request
is right and the key's owner forbids it. A machine code in the body lets a client tell it from 403 for its own
credentials. If you find out what the hosted Vault answers, add it to ``tells_of_revocation``.

A key of a customer that does not answer is a 503, like every passing failure. The code tells it from a Vault that is
away.
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
