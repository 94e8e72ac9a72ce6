"""
How a Vault says over HTTP that a key was withdrawn: the one place where both sides have it from.

What the hosted Vault answers for a customer-managed key that was revoked is not public. Ours answers 403, because the
request is right and the key's owner forbids it, with a machine code in the body by which a client tells it from 403
for its own credentials. Whoever finds out what the hosted Vault does adds it to ``tells_of_revocation``.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["REVOKED_BODY", "REVOKED_STATUS", "tells_of_revocation"]

REVOKED_STATUS = 403
REVOKED_BODY: Mapping[str, str] = {"error": "A key that is needed for this was revoked.", "code": "key_revoked"}


def tells_of_revocation(status: int, content: Mapping[str, Any]) -> bool:
    return status == REVOKED_STATUS and content.get("code") == REVOKED_BODY["code"]
