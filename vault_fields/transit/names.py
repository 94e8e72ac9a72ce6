"""
How the transit key of a context item is called: one name for one item, and no two items with one name.

``<prefix>-<item>-<digest>``: the item's name as far as it can stand there, so that people find their way, and the
SHA-256 of name and value in base32. The value does not show, but who may list the keys or read the audit log can try
whether a value that he guesses has a key: values of key contexts are identifiers, not secrets.
"""

import base64
import hashlib
import json
import re

__all__ = ["MAX_NAME_LENGTH", "PREFIX", "is_key_name", "key_name"]

PREFIX = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")

MAX_NAME_LENGTH = 160
_READABLE_LENGTH = 40

# What the engine accepts. A name comes from the database and goes into the path of a request.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def key_name(prefix: str, name: str, value: str) -> str:
    """The name of the key for the item ``name`` = ``value``."""
    item = json.dumps([name, value], ensure_ascii=False, separators=(",", ":")).encode()
    digest = base64.b32encode(hashlib.sha256(item).digest()).decode().rstrip("=").lower()
    readable = re.sub(r"[^a-z0-9_]", "", name.lower())[:_READABLE_LENGTH] or "item"
    return f"{prefix}-{readable}-{digest}"


def is_key_name(text: str) -> bool:
    return len(text) <= MAX_NAME_LENGTH and ".." not in text and _NAME.fullmatch(text) is not None
