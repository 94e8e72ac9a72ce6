"""The server behind ``manage.py vault_serve``: a face alone on a port, without the project's URLs and middleware."""

import ipaddress
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.core.handlers.wsgi import WSGIRequest
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

from vault_fields.server.face import PATHS, Face, refusal, safely

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["FaceApplication", "bind", "is_loopback"]

# Beyond what a face answers as too long itself, the connection is closed without reading on.
MAX_ANNOUNCED_BYTES = 1024 * 1024


class FaceApplication:
    """A WSGI application that serves one face and nothing else."""

    def __init__(self, face: Face) -> None:
        self._face = face

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = WSGIRequest(environ)
        operation = PATHS.get(request.path_info.removeprefix("/"))
        if operation is None:
            response = refusal(404, "There is nothing here.")
        else:
            response = safely(lambda: self._face, request, operation)
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
        return [response.content]


def bind(face: Face, host: str, port: int) -> ThreadedWSGIServer:
    """A server that is bound and listening; ``server_port`` is the port it got (for port 0), ``serve_forever`` it."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    server = ThreadedWSGIServer((host, port), _RequestHandler, ipv6=family == socket.AF_INET6)
    server.set_app(FaceApplication(face))
    return server


def is_loopback(host: str) -> bool:
    """Whether every address of the host is this machine only. Raises ``OSError`` for a host that has none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


class _RequestHandler(WSGIRequestHandler):
    # Headers and body leave in two writes; the second would wait for the client's delayed acknowledgement (40 ms).
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        # The handler reads as much as was announced, all at once, and takes a body of which no length was announced
        # for the next request of the connection.
        if "Transfer-Encoding" in self.headers:
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return False
        announced = self.headers.get("Content-Length", "0")
        if not (announced.isascii() and announced.isdigit()):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return False
        if int(announced[:20]) > MAX_ANNOUNCED_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return False
        return True
