"""API keys: generated once, shown once, known to the server only by their hashes."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from vault_fields.embedded.events.event import Actor
from vault_fields.text.placeholders import hashes_of_placeholders

__all__ = ["COMMAND", "DEFAULT_ENVIRONMENT", "ApiKey", "ApiKeys", "generate_api_key", "hash_api_key"]

DEFAULT_ENVIRONMENT = "default"
# The command that prints a key and its hash.
COMMAND = "python manage.py vault_api_key"

# Hashes of placeholders.
_NO_SECRETS = frozenset(hashes_of_placeholders()) | {
    # Development versions of the documentation showed these two.
    "8eb00e4a6856cedb7bf399607860123b0e0a838668855f097c52f5ce5fe9afa7",
    "29d1d9f63a3b43b3ed216ab84cfd74d1736c36e10952743a69f3ccbbd860e1e6",
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that may call, for one environment. Raises ``ValueError`` for invalid parts."""

    sha256: str
    name: str = "API key"
    environment: str = DEFAULT_ENVIRONMENT

    def __post_init__(self) -> None:
        if not _is_text(self.sha256, r"[0-9a-f]{64}"):
            # The value is not shown: it may be a key that was written in place of its hash.
            raise ValueError(
                "each entry must be the SHA-256 of a bearer key, as 64 lowercase hex digits. "
                f"`{COMMAND}` prints a fresh key and its hash."
            )
        if self.sha256 in _NO_SECRETS:
            raise ValueError(
                "it is the hash of an empty key, or of one that examples show, which anybody can send. "
                f"`{COMMAND}` prints a fresh key and its hash."
            )
        if not _is_text(self.name, r".{1,200}"):
            raise ValueError("the name of a key has 1 to 200 characters, in one line.")
        if not _is_text(self.environment, r"[A-Za-z0-9_.-]{1,64}"):
            raise ValueError("an environment has 1 to 64 letters, digits, dots, hyphens and underscores.")

    @property
    def actor(self) -> Actor:
        # The key is random and long, so that a part of its hash tells nothing about it.
        return Actor(f"key_{self.sha256[:26]}", self.name)


class ApiKeys:
    """The API keys that may call. Raises ``ValueError`` if two of them are one."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)
        if len({key.sha256 for key in self._keys}) != len(self._keys):
            # Its environment would be ambiguous.
            raise ValueError("the same key is there twice.")

    def admit(self, authorization: str | None) -> ApiKey | None:
        """Return the key that an ``Authorization`` header carries, if it is one of these."""
        scheme, _, bearer = (authorization or "").partition(" ")
        bearer = bearer.strip()
        if scheme.lower() != "bearer" or not bearer:
            return None
        presented = hash_api_key(bearer)
        # All hashes are compared each time, in constant time. The keys that they hash are random and long.
        matches = [hmac.compare_digest(presented, key.sha256) for key in self._keys]
        return self._keys[matches.index(True)] if any(matches) else None


def generate_api_key() -> str:
    return f"sk_{secrets.token_urlsafe(32)}"


def hash_api_key(key: str) -> str:
    """Return the SHA-256 in hex, in the form that the setting takes."""
    # A key is ASCII. Anything else in a header becomes a text whose hash is in no setting.
    return hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()


def _is_text(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
