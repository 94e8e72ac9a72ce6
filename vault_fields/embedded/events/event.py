"""Events: what happened in a Vault and who did it, in the words of the WorkOS Vault's events."""

import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from vault_fields.text.encoding import compact_json

__all__ = ["IN_PROCESS", "PAYLOADS", "Actor", "Event", "acting_as", "current_actor", "insert", "timestamp"]


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of an action: an API key, or the program that ``source`` names."""

    id: str
    name: str
    source: Literal["api", "dashboard"] = "api"


# A project that uses its own vault, without a server in between.
IN_PROCESS = Actor("in_process", "In process")

_actor: ContextVar[Actor] = ContextVar("vault_fields_actor", default=IN_PROCESS)

# The payload of each event besides the actor. Events of BYOK keys name no actor.
PAYLOADS: Mapping[str, frozenset[str]] = {
    "vault.byok_key.deleted": frozenset({"organization_id", "key_provider"}),
    "vault.byok_key.verification_completed": frozenset({"organization_id", "key_provider", "verified"}),
    "vault.data.created": frozenset({"kv_name", "key_id", "key_context"}),
    "vault.data.deleted": frozenset({"kv_name"}),
    "vault.data.read": frozenset({"kv_name", "key_id"}),
    "vault.data.updated": frozenset({"kv_name", "key_id", "key_context"}),
    "vault.dek.decrypted": frozenset({"key_id"}),
    "vault.dek.read": frozenset({"key_ids", "key_context"}),
    "vault.dek.rekeyed": frozenset({"key_ids", "key_context"}),
    "vault.kek.created": frozenset({"key_name", "key_id"}),
    "vault.kek.deleted": frozenset({"key_name", "key_id"}),
    "vault.metadata.read": frozenset({"kv_name"}),
    "vault.names.listed": frozenset(),
}
_WITHOUT_ACTOR = frozenset({"vault.byok_key.deleted", "vault.byok_key.verification_completed"})

_INSERT = (
    "INSERT INTO event (id, environment, name, actor_id, actor_name, actor_source, data, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    # A caller that was interrupted after the commit does not know of it, and stores them again.
    " ON CONFLICT (id) DO NOTHING"
)


def timestamp(moment: datetime) -> str:
    """Return a moment in UTC to the millisecond, as text that sorts as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _now() -> str:
    return timestamp(datetime.now(UTC))


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Record events as this actor's within the block, in this thread or task."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def current_actor() -> Actor:
    return _actor.get()


@dataclass(frozen=True, slots=True)
class Event:
    """A thing that happened. ``data`` is the payload without the actor; ``created_at`` is UTC, as ``timestamp``."""

    environment: str
    name: str
    data: Mapping[str, Any]
    actor: Actor
    id: str = field(default_factory=lambda: f"event_{secrets.token_hex(16)}")
    created_at: str = field(default_factory=_now)

    @classmethod
    def now(cls, environment: str, name: str, /, **data: Any) -> Self:
        """Return an event of this moment, by the actor of the surrounding ``acting_as``."""
        if PAYLOADS[name] != set(data):
            raise TypeError(f"{name} has the fields {', '.join(sorted(PAYLOADS[name])) or 'of no one but the actor'}.")
        return cls(environment, name, data, current_actor())

    def as_json(self) -> dict[str, Any]:
        """Return the event as the API shows it."""
        who: dict[str, Any] = {}
        if self.name not in _WITHOUT_ACTOR:
            who = {"actor_id": self.actor.id, "actor_source": self.actor.source, "actor_name": self.actor.name}
        return {
            "object": "event",
            "id": self.id,
            "event": self.name,
            "data": {**who, **self.data},
            "created_at": self.created_at,
        }


def insert(connection: sqlite3.Connection, events: Iterable[Event]) -> None:
    """
    Store events on a keystore's connection, in the transaction that is open there.

    It is the transaction of the change that they report, so that neither exists without the other.
    """
    connection.executemany(
        _INSERT,
        [
            (
                event.id,
                event.environment,
                event.name,
                event.actor.id,
                event.actor.name,
                event.actor.source,
                compact_json(event.data),
                event.created_at,
            )
            for event in events
        ],
    )
