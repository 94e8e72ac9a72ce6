"""Stored objects as values, for callers that use one or go through all, and the limits of name and value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vault_fields.embedded.events.event import Actor
from vault_fields.exceptions import ObjectMissing, ValueRefused
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.frames import forgetful

__all__ = [
    "MAX_NAME_LENGTH",
    "MAX_VALUE_BYTES",
    "ObjectClaim",
    "ObjectMetadata",
    "StoredObject",
    "check",
    "require_text",
]

MAX_NAME_LENGTH = 200
MAX_VALUE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """The public facts about an object, known without opening it. ``key_id`` is that of the version's data key."""

    id: str
    name: str
    environment: str
    context: Mapping[str, str]
    key_id: str
    version_id: str
    updated_by: Actor
    updated_at: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    metadata: ObjectMetadata
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ObjectClaim:
    """
    The claim in the row of a version: the encrypted keys of its value, and the key context.

    Its value opens with the data key for the context that it was stored with, and for no other.
    """

    label: str
    encrypted_keys: str
    context: KeyContext
    is_proven: Callable[[DataKey], bool] = field(repr=False)
    values: int = 1

    def opening(self, key: DataKey) -> int:
        """Return how many of its values open with ``key``, for which the claim is proven."""
        return self.values


@forgetful
def check(name: str, value: str) -> None:
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise ValueRefused(f"The name of an object has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}.")
    for text, what in (name, "name"), (value, "value"):
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ValueRefused(f"The {what} holds a lone surrogate, which UTF-8 cannot encode.") from None
    if "\0" in name:
        raise ValueRefused("The name of an object has no zero character.")
    if size > MAX_VALUE_BYTES:
        raise ValueRefused(f"The value of an object has at most {MAX_VALUE_BYTES // 1024} KiB.")


def require_text(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ObjectMissing("There is no such object.") from None
