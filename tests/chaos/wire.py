"""A network that fails: a port before a server, where answers are lost, reset, halved or dripped, as a seed says."""

import select
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Self

__all__ = ["Wire"]

FAULTS = ("refuse", "lose the question", "lose the answer", "reset", "half an answer", "drip")

# Seconds between the bytes of an answer that drips: whole answers take longer than any deadline.
DRIP = 0.05


class Wire:
    """One connection in so many meets a fault, at a question that it carries."""

    def __init__(self, target: str, seed: str, *, share: float) -> None:
        host, port = target.rpartition("//")[2].split(":")
        self._target = host, int(port)
        self._random = Random(seed)
        self.share = share
        self.faults: Counter[str] = Counter()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                self._start(self._carry, self._listener.accept()[0])

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self._meets("refuse"):
                _reset(client)
                return
            with socket.create_connection(self._target, timeout=10) as server:
                self._exchange(client, server)

    def _exchange(self, client: socket.socket, server: socket.socket) -> None:
        """Until one of them has enough, or a fault ends it."""
        while not self._ended.is_set():
            for source in select.select([client, server], [], [], 0.05)[0]:
                data = source.recv(65536)
                if not data:
                    return
                if source is client:
                    if self._meets("lose the question"):
                        self._wait_for_end(client)
                        return
                    server.sendall(data)
                elif not self._answered(client, data):
                    return

    def _answered(self, client: socket.socket, data: bytes) -> bool:
        """Whether the answer came through."""
        if self._meets("lose the answer"):
            self._wait_for_end(client)
        elif self._meets("reset"):
            client.sendall(data[: len(data) // 2])
            _reset(client)
        elif self._meets("half an answer"):
            client.sendall(data[: self._random.randrange(len(data))])
        elif self._meets("drip"):
            for number in range(len(data)):
                client.sendall(data[number : number + 1])
                if self._ended.wait(DRIP):
                    break
        else:
            client.sendall(data)
            return True
        return False

    def _meets(self, fault: str) -> bool:
        if self._random.random() >= self.share / len(FAULTS):
            return False
        self.faults[fault] += 1
        return True

    def _wait_for_end(self, client: socket.socket) -> None:
        """Say nothing, until the client has waited long enough."""
        while not self._ended.is_set():
            if select.select([client], [], [], 0.05)[0] and not client.recv(65536):
                return


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
