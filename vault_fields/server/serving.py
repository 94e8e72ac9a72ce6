"""The server behind ``manage.py vault_serve``: a face alone on a port, without the project's URLs and middleware."""

import ipaddress
import socket
from http import HTTPStatus
from typing import Any

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

from vault_fields.server.application import WsgiApplication
from vault_fields.server.face import Face

__all__ = ["bind", "is_loopback"]

# Beyond what a face answers as too long itself, the connection is closed without reading on.
MAX_ANNOUNCED_BYTES = 1024 * 1024


def bind(face: Face, host: str, port: int) -> ThreadedWSGIServer:
    """A server that is bound and listening; ``server_port`` is the port it got (for port 0), ``serve_forever`` it."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    server = ThreadedWSGIServer((host, port), _RequestHandler, ipv6=family == socket.AF_INET6)
    server.set_app(WsgiApplication(lambda: face))
    return server


def is_loopback(host: str) -> bool:
    """Whether every address of the host is this machine only. Raises ``OSError`` for a host that has none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


class _RequestHandler(WSGIRequestHandler):
    # Headers and body leave in two writes; the second would wait for the client's delayed acknowledgement (40 ms).
    disable_nagle_algorithm = True

    def log_request(self, *args: Any) -> None:
        """Nothing: there is the access log of the face, which does not show paths with names in them."""

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
