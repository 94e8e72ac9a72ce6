"""
A Vault on loopback that answers each key call after some time, in a process of its own: ``python -m benchmarks.stub``.

It wraps nothing: a data key follows from its encrypted keys, so that it holds no state and costs as little as it can.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

__all__ = ["vault_at_a_distance"]


@contextlib.contextmanager
def vault_at_a_distance(seconds: float) -> Iterator[str]:
    """The URL of a Vault that takes ``seconds`` for each call, however many there are at once."""
    command = [sys.executable, "-m", "benchmarks.stub", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield process.stdout.readline().strip()  # type: ignore[union-attr]
        finally:
            process.terminate()


async def serve(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Calls(seconds), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


class Calls(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.held += data
        head, end, body = self.held.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line[:15].lower() == b"content-length:")
        if len(body) < length:
            return
        self.held = body[length:]
        answer = json.dumps(answered(json.loads(body[:length]))).encode()
        text = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
        asyncio.get_running_loop().call_later(self.seconds, self.transport.write, text)  # type: ignore[attr-defined]


def answered(sent: dict[str, object]) -> dict[str, object]:
    wrapped = sent.get("keys")
    encrypted_keys = wrapped if isinstance(wrapped, str) else base64.b64encode(os.urandom(60)).decode()
    secret = hashlib.sha256(encrypted_keys.encode()).digest()
    key_id = str(uuid.UUID(bytes=hashlib.sha256(secret).digest()[:16], version=4))
    answer: dict[str, object] = {"id": key_id, "data_key": base64.b64encode(secret).decode()}
    if wrapped is None:
        answer |= {"context": sent["context"], "encrypted_keys": encrypted_keys}
    return answer


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(float(sys.argv[1])))
