"""The server as an application of its own, WSGI or ASGI: an API and nothing of the project's URLs and middleware."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from vault_fields.embedded.events.log import flush_all
from vault_fields.server.api import VaultApi, safely
from vault_fields.server.bodies import MAX_BODY_BYTES
from vault_fields.server.routes import EVENTS, PROBES, VAULT, Probe, Route

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["AsgiApplication", "WsgiApplication"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class WsgiApplication:
    """An application that serves one API; ``api`` returns it, anew for each request."""

    def __init__(self, api: Callable[[], VaultApi]) -> None:
        self._api = api

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        response = _respond(self._api, WSGIRequest(environ))
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
        return [response.content]


class AsgiApplication:
    """
    The same for ASGI servers. The work is done in threads: it waits for the disk.

    A body is read into memory, up to the limit of an API.
    """

    def __init__(self, api: Callable[[], VaultApi]) -> None:
        self._api = api

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            # Servers that follow the specification close what is not accepted.
            raise ValueError(f"The vault is served over HTTP, not {scope['type']}.")
        body = await _body(receive)
        if body is None:
            return
        response = await asyncio.to_thread(_respond, self._api, ASGIRequest(scope, BytesIO(body)))
        headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        ending = message["type"] == "lifespan.shutdown"
        if ending:
            # Servers may end by the signal that told them to, without a hook in Python.
            await asyncio.to_thread(flush_all)
        await send({"type": f"{message['type']}.complete"})
        if ending:
            return


async def _body(receive: Receive) -> bytes | None:
    """Return enough of the body to know whether it is too long; None if the client went away."""
    body = b""
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def _respond(api: Callable[[], VaultApi], request: HttpRequest) -> JsonResponse:
    for pattern, route in _PATTERNS:
        if match := pattern.resolve(request.path_info.removeprefix("/")):
            return safely(api, request, route, match.kwargs)
    return safely(api, request, None, {})


_ROUTES: tuple[Route | Probe, ...] = (*VAULT, EVENTS, *PROBES)
# Patterns are asked for what they match only, but need a view.
_PATTERNS = [(path(route.pattern, HttpResponse), route) for route in _ROUTES]
