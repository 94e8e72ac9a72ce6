"""A Vault on loopback that misbehaves as told: real sockets, scripted answers, and a record of what it was sent."""

import base64
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PLAINTEXT = bytes(range(100, 132))
DATA_KEY = base64.b64encode(PLAINTEXT).decode()
BLOB = base64.b64encode(b"WOS.EKM.v1\0wrapped copies of a data key").decode()


@dataclass
class Reply:
    """One answer. ``content`` None means the right one; ``pieces`` are sent one by one, each ``pause`` s after."""

    status: int = 200
    content: Any = None
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    pieces: list[bytes] | None = None
    pause: float = 0.0
    until: threading.Event | None = None
    """Nothing is answered before this is set."""
    reset_after: int | None = None
    """Send so many bytes of the body, then reset the connection."""


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    content: Any


class FaultyServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Reply] = []
        self.usual = Reply()
        self.seen: list[Seen] = []
        self.opened = 0
        self.closed = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def will(self, *replies: Reply) -> None:
        self.script.extend(replies)

    def next_reply(self) -> Reply:
        with self.lock:
            return self.script.pop(0) if self.script else self.usual

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away at their deadline are what these tests are about."""

    def wait_until_asked(self, times: int) -> bool:
        deadline = time.monotonic() + 30
        while len(self.seen) < times and time.monotonic() < deadline:
            time.sleep(0.005)
        return len(self.seen) >= times

    def wait_until_all_closed(self) -> bool:
        deadline = time.monotonic() + 2
        while self.closed < self.opened and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.closed == self.opened


class Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        with self.server.lock:
            self.server.opened += 1
        super().setup()

    def finish(self) -> None:
        super().finish()
        with self.server.lock:
            self.server.closed += 1

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, sent: Any) -> None:
        with self.server.lock:
            self.server.seen.append(Seen(self.path, dict(self.headers), sent))
        reply = self.server.next_reply()
        time.sleep(reply.delay)
        if reply.until is not None:
            reply.until.wait(60)
        body = reply.raw
        if body is None:
            body = json.dumps(right_answer(self.path, sent) if reply.content is None else reply.content).encode()
        pieces = reply.pieces or [body]
        headers = {
            "Content-Type": "application/json",
            "X-Request-ID": "req_01",
            "Content-Length": str(sum(map(len, pieces))),
            **reply.headers,
        }
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.reset_after is not None:
            self.wfile.write(body[: reply.reset_after])
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        for piece in pieces:
            time.sleep(reply.pause)
            self.wfile.write(piece)

    def log_message(self, *args: object) -> None:
        """Silence."""


def right_answer(path: str, sent: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": "bf51ccec-78b4-5200-b383-35730e71ef61", "data_key": DATA_KEY}
    if not path.endswith("/decrypt"):
        answer |= {"context": sent["context"], "encrypted_keys": BLOB}
    return answer


@contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
