"""The vaults that experiments use, with their processes: each can be killed and started again on the same data."""

import os
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx

from tests.backends.cluster import Cluster, running_cluster
from tests.backends.openbao import granted_policy
from tests.byok.peers import free_port
from tests.chaos.world import ROOT, environment_of, write_world
from vault_fields.backends.local import LocalVault
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.server.apikeys import hash_api_key

__all__ = ["ENGINES", "Embedded", "Engine", "Served", "running_engine"]

ENGINES = ["embedded", "served", "openbao", "cluster"]

BEARER = "sk_chaos_" + os.urandom(24).hex()


class Engine(ABC):
    # An entry of VAULTS.
    entry: dict[str, Any]

    # Whether there is a process of it that can be killed.
    can_be_killed = True

    @abstractmethod
    def kill(self) -> None:
        """With SIGKILL, and start it again."""

    @abstractmethod
    def rotate(self, chosen: Random) -> None:
        """Give some tenant a new version of its KEK."""

    @abstractmethod
    def keks(self) -> dict[str, int]:
        """Each KEK that there is, with the number of its versions."""


class Embedded(Engine):
    """A keystore that every process opens itself."""

    can_be_killed = False

    def __init__(self, directory: Path) -> None:
        self.options = {"path": str(directory / "vault.sqlite3"), "root_key": generate_root_key(), "timeout": 60}
        self.entry = {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": self.options}
        with self.vault() as vault:
            vault.service.create_keystore()

    @contextmanager
    def vault(self) -> Iterator[LocalVault]:
        with closing(LocalVault("default", **self.options)) as vault:
            yield vault

    def kill(self) -> None:
        raise NotImplementedError("its processes are those that write")

    def rotate(self, chosen: Random) -> None:
        with self.vault() as vault:
            keks = list(vault.service.keks)
            if keks:
                kek = chosen.choice(keks)
                vault.service.keks.rotate(kek.item_name, kek.item_value)

    def keks(self) -> dict[str, int]:
        with self.vault() as vault:
            return {f"{kek.item_name}={kek.item_value} {kek.id}": kek.version for kek in vault.service.keks}


class Served(Embedded):
    """The same, behind ``manage.py vault_serve``."""

    can_be_killed = True

    def __init__(self, directory: Path, *, timeout: float) -> None:
        directory = directory / "served"
        directory.mkdir()
        super().__init__(directory)
        server = {"keys": [{"name": "Chaos", "environment": "default", "sha256": hash_api_key(BEARER)}]}
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        self._world = write_world(directory / "world.json", database, {"default": self.entry}, server=server)
        self._log = (directory / "log").open("ab")
        self._port = free_port()
        self._start()
        self.url = f"http://127.0.0.1:{self._port}"
        options = {"base_url": self.url, "api_key": BEARER, "timeout": timeout}
        self.entry = {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": options}

    def kill(self) -> None:
        self._end()
        self._start()

    def stop(self) -> None:
        self._end()
        self._log.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "django", "vault_serve", "--port", str(self._port)],
            cwd=ROOT,
            env=environment_of(self._world),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert re.fullmatch(r"Vault ready at http://127\.0\.0\.1:\d+\n", line), line


class OpenBao(Engine):
    """One node, or three of which the leader is killed."""

    def __init__(self, cluster: Cluster, *, timeout: float) -> None:
        self._cluster = cluster
        cluster.call("sys/mounts/transit", {"type": "transit"})
        cluster.call("sys/policies/acl/app", {"policy": granted_policy("transit")})
        token = cluster.call("auth/token/create", {"policies": ["app"]})["auth"]["client_token"]
        options = {"addresses": cluster.urls, "token": token, "timeout": timeout}
        self.entry = {"BACKEND": "vault_fields.backends.openbao.OpenBaoVault", "OPTIONS": options}

    def kill(self) -> None:
        killed = self._cluster.leader()
        killed.process.kill()
        killed.process.wait()
        if len(self._cluster.nodes) > 1:
            # The others choose a leader among themselves.
            self._cluster.await_leader()
        self._cluster.restart(killed)

    def rotate(self, chosen: Random) -> None:
        names = sorted(self.keks())
        if names:
            self._cluster.call(f"transit/keys/{chosen.choice(names)}/rotate", {})

    def keks(self) -> dict[str, int]:
        try:
            names = self._cluster.call("transit/keys?list=true", method="GET")["data"]["keys"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                return {}
            raise
        return {name: self._versions(name) for name in names}

    def _versions(self, name: str) -> int:
        return len(self._cluster.call(f"transit/keys/{name}", method="GET")["data"]["keys"])


@contextmanager
def running_engine(name: str, directory: Path, *, timeout: float = 5.0) -> Iterator[Engine]:
    if name == "embedded":
        yield Embedded(directory)
    elif name == "served":
        served = Served(directory, timeout=timeout)
        try:
            yield served
        finally:
            served.stop()
    else:
        nodes = directory / "nodes"
        nodes.mkdir()
        with running_cluster(nodes, 3 if name == "cluster" else 1) as cluster:
            yield OpenBao(cluster, timeout=timeout)
