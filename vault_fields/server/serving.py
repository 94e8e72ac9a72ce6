"""The server behind ``manage.py vault_serve``: an API alone on a port, without the project's URLs and middleware."""

import ipaddress
import re
import socket
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, BinaryIO, cast

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

from vault_fields.server.accesslog import log_access
from vault_fields.server.api import VaultApi, new_request_id, refusal
from vault_fields.server.application import WsgiApplication

__all__ = ["bind", "is_loopback"]

# An API answers by itself that a body is too long. Beyond this length the connection is closed without reading on.
MAX_ANNOUNCED_BYTES = 1024 * 1024

_PROTOCOL_REFUSALS: Mapping[int, str] = {
    HTTPStatus.LENGTH_REQUIRED: "This server reads bodies of announced length only: send Content-Length.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The path is too long.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers are too long.",
}


# RFC 9112, 5: a proxy and this server might read any other line of a header differently.
_HEADER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~\x80-\xff]+ HTTP/1\.[01]\r\n")


class _Lines:
    """A reader that passes on lines of a file, and keeps them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.kept: list[bytes] = []

    def readline(self, limit: int = -1) -> bytes:
        line = self._file.readline(limit)
        self.kept.append(line)
        return line

    def are_plain(self) -> bool:
        """Whether they are headers, each in one line, up to the empty line that ends them."""
        return self.kept[-1] == b"\r\n" and all(map(_HEADER_LINE.fullmatch, self.kept[:-1]))


def bind(api: VaultApi, host: str, port: int) -> ThreadedWSGIServer:
    """
    Return a server that is bound and listening. ``server_port`` is its port (for port 0), ``serve_forever`` serves.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    server = ThreadedWSGIServer((host, port), _RequestHandler, ipv6=family == socket.AF_INET6)
    server.set_app(WsgiApplication(lambda: api))
    return server


def is_loopback(host: str) -> bool:
    """Whether every address of the host belongs to this machine only. Raises ``OSError`` for a host that has none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


class _RequestHandler(WSGIRequestHandler):
    # Headers and body leave in two writes; the second would wait for the client's delayed acknowledgement (40 ms).
    disable_nagle_algorithm = True

    def log_request(self, *args: Any) -> None:
        """Log nothing: the access log of the API does, without paths that have names in them."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is refused before the API sees it in the shape of the API's own refusals."""
        response = refusal(code, _PROTOCOL_REFUSALS.get(code, "The request is malformed."))
        request_id = response["X-Request-ID"] = new_request_id()
        self.close_connection = True
        self.send_response(code)
        for name, value in {**response.headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.content)
        log_access(request_id=request_id, method=self.command, template="", key=None, status=code, seconds=0.0)

    def parse_request(self) -> bool:
        rfile = self.rfile
        lines = _Lines(cast("BinaryIO", rfile))
        self.rfile = cast("Any", lines)
        try:
            if not super().parse_request():
                return False
        finally:
            self.rfile = rfile
        # The parser of Python's library is one of mails: at a line that is no header it stops and passes the rest over,
        # a Transfer-Encoding or a Content-Length among it, and it breaks lines where HTTP does not.
        if not (_REQUEST_LINE.fullmatch(self.raw_requestline) and lines.are_plain()):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return False
        # The handler reads as much as was announced, all at once, and takes a body of which no length was announced
        # for the next request of the connection.
        if "Transfer-Encoding" in self.headers:
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return False
        announced, *others = self.headers.get_all("Content-Length", ["0"])
        if others or not (announced.isascii() and announced.isdigit()):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return False
        if int(announced[:20]) > MAX_ANNOUNCED_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return False
        return True
