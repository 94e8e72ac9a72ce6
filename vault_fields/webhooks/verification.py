"""
Verification of the signature of a WorkOS webhook, in the header ``WorkOS-Signature``.

    t=1700000000000, v1=5257a869…

``t`` is the time of signing in milliseconds; ``v1`` is the hex HMAC-SHA256, under the endpoint's secret, of that
number, a full stop, and the body as it was sent.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence

__all__ = ["is_signed"]

_HEADER = re.compile(r"t=([0-9]{1,15}), ?v1=([0-9a-f]{64})")


def is_signed(header: str, body: bytes, secrets: Sequence[str], *, now: float, tolerance: float) -> bool:
    """
    Whether one of the secrets signed this body, at most ``tolerance`` seconds before or after ``now`` (a Unix time).

    Every secret is tried, in constant time, whatever the result of the others.
    """
    match = _HEADER.fullmatch(header)
    if match is None:
        return False
    signed_at, presented = match.groups()
    message = signed_at.encode() + b"." + body
    matches = [
        hmac.compare_digest(hmac.new(secret.encode(), message, hashlib.sha256).hexdigest(), presented)
        for secret in secrets
    ]
    return any(matches) and abs(now - int(signed_at) / 1000) <= tolerance
