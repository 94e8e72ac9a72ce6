"""The paths of the server, and the effect of each method there."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from django.urls import register_converter
from django.urls.converters import StringConverter

from vault_fields.server import eventcalls, keycalls, objectcalls
from vault_fields.server.calls import Operation

__all__ = ["EVENTS", "PROBES", "VAULT", "Probe", "Route"]


class ObjectName(StringConverter):
    """A converter for any text. Django's ``path`` stops at a line feed."""

    regex = "(?s:.+)"


with suppress(ValueError):  # Where the module is loaded again.
    register_converter(ObjectName, "vault_object_name")


@dataclass(frozen=True, slots=True)
class Route:
    """A path. ``pattern`` is one of Django's; ``template`` is the path as the API's documentation writes it."""

    pattern: str
    operations: Mapping[str, Operation]

    @property
    def template(self) -> str:
        return "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", self.pattern)


VAULT = (
    Route("vault/v1/keys/data-key", {"POST": keycalls.create}),
    Route("vault/v1/keys/decrypt", {"POST": keycalls.decrypt}),
    Route("vault/v1/keys/rekey", {"POST": keycalls.rekey}),
    Route("vault/v1/kv", {"GET": objectcalls.page, "POST": objectcalls.create}),
    # Servers decode a path before it is matched, so that a slash in a name is one in the path.
    Route("vault/v1/kv/name/<vault_object_name:name>", {"GET": objectcalls.read_by_name}),
    Route(
        "vault/v1/kv/<str:id>",
        {"GET": objectcalls.read, "PUT": objectcalls.update, "DELETE": objectcalls.delete},
    ),
    Route("vault/v1/kv/<str:id>/metadata", {"GET": objectcalls.describe}),
    Route("vault/v1/kv/<str:id>/versions", {"GET": objectcalls.versions}),
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A path that answers without a key, and tells only whether the server is well."""

    pattern: str
    asks_vault: bool

    @property
    def template(self) -> str:
        return f"/{self.pattern}"


PROBES = (Probe("healthz", asks_vault=False), Probe("readyz", asks_vault=True))

EVENTS = Route("events", {"GET": eventcalls.page})
