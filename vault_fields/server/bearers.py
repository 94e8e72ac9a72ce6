"""Bearer keys: generated once, shown once, known to the server only by their hashes."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

__all__ = ["Bearers", "generate_bearer", "hash_bearer"]


class Bearers:
    """The keys that may call, by the SHA-256 of each in hex. Raises ``ValueError`` for anything else."""

    def __init__(self, hashes: Sequence[object]) -> None:
        self._hashes = [each for each in hashes if isinstance(each, str) and re.fullmatch(r"[0-9a-f]{64}", each)]
        if len(self._hashes) != len(hashes):
            # What stands there is not shown: it may be a key that was written in place of its hash.
            raise ValueError("each entry must be the SHA-256 of a bearer key, as 64 lowercase hex digits.")

    def admit(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header carries one of the keys."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        presented = hash_bearer(key.strip())
        # Hashes are compared in constant time and all of them each time; what they hash is random and long.
        return sum(hmac.compare_digest(presented, known) for known in self._hashes) > 0


def generate_bearer() -> str:
    return f"sk_{secrets.token_urlsafe(32)}"


def hash_bearer(key: str) -> str:
    """The SHA-256 in hex, as the setting takes it."""
    # A key is ASCII; whatever else a header holds becomes something that no hash in the setting is of.
    return hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()
