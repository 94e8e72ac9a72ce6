"""The rows of stored objects, and the query by which objects are searched."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vault_fields.embedded.events.event import timestamp

__all__ = ["ObjectQuery", "ObjectSummary", "ObjectVersion", "StoredVersion", "new_id"]

_HAS_ITEM = (
    "EXISTS (SELECT 1 FROM json_each(object.context) AS item, (SELECT ? AS wanted)"
    " WHERE item.key = json_extract(wanted, '$[0]') AND item.value = json_extract(wanted, '$[1]'))"
)


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """
    A version of an object, sealed. ``context`` is the canonical text of its key context.

    ``is_altered`` says that the object's row is not as it was written. ``vault_id`` is the id of the vault that it was
    sealed for, or read from.
    """

    object_id: str
    name: str
    context: str
    version_id: str
    data_key_id: str
    encrypted_keys: str
    sealed: bytes = field(repr=False)
    etag: str
    actor_id: str
    actor_name: str
    created_at: str
    vault_id: str
    is_altered: bool = False


@dataclass(frozen=True, slots=True)
class ObjectSummary:
    id: str
    name: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """
    A version of an object, without its value. ``size`` and ``etag`` (a hash) describe the stored bytes, which reveal
    nothing about the value but its length.
    """

    id: str
    created_at: str
    current: bool
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectQuery:
    """
    A search: the name contains ``name``, in any case of ASCII letters; the context has every item of ``context``; the
    object was written after ``updated_after``.
    """

    name: str = ""
    context: dict[str, str] = field(default_factory=dict)
    updated_after: datetime | None = None

    def conditions(self) -> Iterator[tuple[str, Any]]:
        if self.name:
            escaped = self.name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            yield "name LIKE ? ESCAPE '\\'", f"%{escaped}%"
        for item in self.context.items():
            yield _HAS_ITEM, json.dumps(item)
        if self.updated_after is not None:
            yield "updated_at > ?", timestamp(self.updated_after)


def new_id() -> str:
    """Return a UUID of version 7, with the fraction of a millisecond in it: ids sort by their time of creation."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    tail = int.from_bytes(os.urandom(8)) >> 2
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail))
