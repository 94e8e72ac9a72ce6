"""
Names in a transit engine: of the keys of a vault, one for each context item, and of paths.

A vault's key is called ``<prefix>-<item>-<digest>``. ``item`` is the item's name as far as a key's name allows, for
people who look for it. ``digest`` is the SHA-256 of the item's name and value in base32: no two items share a key.
The value does not show. But whoever may list the keys, or read the audit log, can test whether a value that they guess
has a key: values of key contexts are identifiers, not secrets.
"""

import base64
import hashlib
import re

from vault_fields.text.encoding import compact_json

__all__ = ["A_PATH", "MAX_NAME_LENGTH", "is_key_name", "is_path", "is_prefix", "key_name"]

_PREFIX = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")

MAX_NAME_LENGTH = 160
_READABLE_LENGTH = 40

# The names that the engine accepts. A name comes from the database and goes into the path of a request.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")

A_PATH = "a path of letters, digits and ._-, without slashes around it"
# No part of a path is "." or "..": clients and proxies would resolve it, and ask for something else.
_PART = r"[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*"
_PATH = re.compile(rf"{_PART}(/{_PART})*")


def key_name(prefix: str, name: str, value: str) -> str:
    """The name of the key for the item ``name`` = ``value``."""
    item = compact_json([name, value]).encode()
    digest = base64.b32encode(hashlib.sha256(item).digest()).decode().rstrip("=").lower()
    readable = re.sub(r"[^a-z0-9_]", "", name.lower())[:_READABLE_LENGTH] or "item"
    return f"{prefix}-{readable}-{digest}"


def is_key_name(text: str) -> bool:
    return len(text) <= MAX_NAME_LENGTH and ".." not in text and _NAME.fullmatch(text) is not None


def is_prefix(value: object) -> bool:
    """Whether the names of a vault's keys can begin with it."""
    return isinstance(value, str) and ".." not in value and _PREFIX.fullmatch(value) is not None


def is_path(value: object) -> bool:
    """Whether it can name a mount or a namespace in a URL, and leads nowhere else."""
    return isinstance(value, str) and ".." not in value and _PATH.fullmatch(value) is not None
