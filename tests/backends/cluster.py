"""OpenBao nodes on this machine, three or one, that keep their storage by raft, as processes that can be killed."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.byok.peers import bao_program, free_port, running_process

CONFIGURATION = """
ui = false
disable_mlock = true
cluster_addr = "http://127.0.0.1:{cluster_port}"
api_addr = "http://127.0.0.1:{port}"
storage "raft" {{
  path = "{path}"
  node_id = "node{number}"
  performance_multiplier = 1
  {joins}
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_disable = true
}}
"""


class Node:
    def __init__(self, number: int) -> None:
        self.number = number
        self.port, self.cluster_port = free_port(), free_port()
        self.process: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Cluster:
    def __init__(self, nodes: list[Node], root_token: str, unseal_key: str, start: Callable[[Node], None]) -> None:
        self.nodes = nodes
        self._start = start
        self._headers = {"X-Vault-Token": root_token}
        self._unseal_key = unseal_key

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def call(self, path: str, payload: Any = None, method: str = "POST", node: Node | None = None) -> Any:
        url = f"{(node or self.leader()).url}/v1/{path}"
        response = httpx.request(method, url, json=payload, headers=self._headers, trust_env=False, timeout=10)
        response.raise_for_status()
        return response.json() if response.content else None

    def leader(self) -> Node:
        return next(node for node in self.alive() if self.health(node) == 200)

    def standbys(self) -> list[Node]:
        return [node for node in self.alive() if self.health(node) == 429]

    def alive(self) -> list[Node]:
        return [node for node in self.nodes if node.process.poll() is None]

    def health(self, node: Node) -> int:
        """200 of the leader, 429 of a standby, 503 of a sealed node, and 0 of none."""
        try:
            return httpx.get(f"{node.url}/v1/sys/health", trust_env=False, timeout=5).status_code
        except httpx.HTTPError:
            return 0

    def unseal(self, node: Node) -> None:
        httpx.post(f"{node.url}/v1/sys/unseal", json={"key": self._unseal_key}, trust_env=False, timeout=10)

    def restart(self, node: Node) -> None:
        """Start one that was killed, on its storage, until it does its part again."""
        self._start(node)
        self.await_unsealed(node)

    def await_unsealed(self, node: Node) -> None:
        deadline = time.monotonic() + 40
        while self.health(node) not in {200, 429}:
            assert time.monotonic() < deadline, f"node {node.number} answers {self.health(node)}"
            self.unseal(node)
            time.sleep(0.2)

    def await_leader(self) -> None:
        deadline = time.monotonic() + 40
        while 200 not in map(self.health, self.alive()):
            assert time.monotonic() < deadline, "no node became the leader"
            time.sleep(0.1)

    def await_health(self, *statuses: int, seconds: float = 40) -> None:
        """Wait until the nodes that live have these statuses, in any order."""
        deadline = time.monotonic() + seconds
        while (found := sorted(map(self.health, self.alive()))) != sorted(statuses):
            assert time.monotonic() < deadline, f"the nodes answer {found}"
            time.sleep(0.1)

    def await_voters(self, number: int) -> None:
        deadline = time.monotonic() + 40
        while True:
            found = self.call("sys/storage/raft/configuration", method="GET")["data"]["config"]["servers"]
            if sum(server["voter"] for server in found) == number:
                return
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


@contextmanager
def running_cluster(directory: Path, size: int = 3) -> Iterator[Cluster]:
    nodes = [Node(number) for number in range(size)]
    joins = "\n  ".join(f'retry_join {{ leader_api_addr = "{node.url}" }}' for node in nodes)
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())

        def start(node: Node) -> None:
            path = directory / f"node{node.number}"
            path.mkdir(exist_ok=True)
            configuration = path / "server.hcl"
            others = "" if node.number == 0 else joins
            configuration.write_text(CONFIGURATION.format(**vars(node), path=path, joins=others), "utf-8")
            command = [bao_program(), "server", f"-config={configuration}", "-log-level=info"]
            ready = f"{node.url}/v1/sys/health?sealedcode=200&uninitcode=200&standbyok=true"
            node.process = stack.enter_context(running_process(command, path / "log", ready, HOME=home))

        for node in nodes:
            start(node)
        initialized = httpx.put(
            f"{nodes[0].url}/v1/sys/init", json={"secret_shares": 1, "secret_threshold": 1}, trust_env=False, timeout=30
        ).json()
        cluster = Cluster(nodes, initialized["root_token"], initialized["keys_base64"][0], start)
        for node in nodes:
            cluster.await_unsealed(node)
        cluster.await_health(200, *[429] * (size - 1))
        # A node has no vote until it has been well for a while, and without votes nobody can take over.
        cluster.call("sys/storage/raft/autopilot/configuration", {"server_stabilization_time": "1s"})
        cluster.await_voters(size)
        yield cluster
