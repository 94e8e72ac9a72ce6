"""A call to the server: its caller, the vault, and its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from vault_fields.embedded.objects import StoredObjects
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.keys import KeyContext
from vault_fields.server.bodies import Rejected, read_body

__all__ = ["Answer", "Call", "Operation", "key_context"]


@dataclass(frozen=True, slots=True)
class Call:
    """``vault`` is that of the caller's environment; ``path`` holds the parameters of the path."""

    vault: EmbeddedVault
    request: HttpRequest
    path: Mapping[str, str]

    @property
    def objects(self) -> StoredObjects:
        return StoredObjects(self.vault)

    def body(self) -> Mapping[str, Any]:
        return read_body(self.request)


@dataclass(frozen=True, slots=True)
class Answer:
    content: Mapping[str, Any]
    status: int = 200


Operation = Callable[[Call], Answer]


def key_context(body: Mapping[str, Any], name: str) -> KeyContext:
    context = body.get(name)
    if not isinstance(context, Mapping):
        raise Rejected(400, f"{name} must be an object.")
    return KeyContext(context)
