"""A cluster of three OpenBao nodes loses its leader while it is used."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Self

import pytest

from tests.backends.cluster import Cluster, running_cluster
from tests.backends.openbao import granted_policy
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.byok.openbao import OpenBaoTransit
from vault_fields.exceptions import VaultError, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.openbao.errors import TransitKeyMissing

# Seconds: longer than an election takes, so that what fails is told from what is slow.
TIMEOUT = 5.0
THREADS = 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.call("sys/mounts/transit", {"type": "transit"})
        cluster.call("sys/policies/acl/app", {"policy": granted_policy("transit")})
        yield cluster


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> str:
    made: str = cluster.call("auth/token/create", {"policies": ["app"]})["auth"]["client_token"]
    return made


def vault_at(addresses: list[str], token: str, **options: Any) -> OpenBaoVault:
    return OpenBaoVault("tested", addresses=addresses, token=token, timeout=TIMEOUT, max_cached_keys=0, **options)


def test_standby_nodes_open_what_was_made_a_moment_ago(cluster: Cluster, token: str) -> None:
    """They answer from their own storage, and may not have heard of a key that the leader has just made."""
    with (
        closing(vault_at([cluster.leader().url], token)) as leader,
        closing(vault_at([cluster.standbys()[0].url], token)) as one,
        closing(vault_at([cluster.standbys()[1].url], token)) as other,
    ):
        for number in range(20):
            for maker in (leader, one, other):
                context = KeyContext({"number": f"{number} {id(maker)}", "other": str(number)})
                key = maker.create_data_key(context)
                for opener in (one, other, leader):
                    assert opener.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_customers_key_on_several_nodes_opens_what_was_wrapped_a_moment_ago_and_outlives_the_leader(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.call("transit/keys/customer", {})
    rules = 'path "transit/+/customer" { capabilities = ["update"] }'
    cluster.call("sys/policies/acl/customer", {"policy": rules})
    made = cluster.call("auth/token/create", {"policies": ["customer"]})
    monkeypatch.setenv("TOKEN_OF_THE_CUSTOMER", made["auth"]["client_token"])
    settings = {"key": "customer", "token_env": "TOKEN_OF_THE_CUSTOMER"}
    binding = {"data_key": "d"}
    nodes = [cluster.leader(), *cluster.standbys()]
    # Each asks another node first.
    orders = [[node.url for node in nodes[first:] + nodes[:first]] for first in range(3)]
    providers = [OpenBaoTransit({**settings, "addresses": ",".join(order)}) for order in orders]
    for _ in range(10):
        cluster.call("transit/keys/customer/rotate", {})
        wrapped = providers[0].wrap(b"sealed", binding, timeout=TIMEOUT)
        assert [each.unwrap(wrapped, binding, timeout=TIMEOUT) for each in providers] == [b"sealed"] * 3

    nodes[0].process.kill()
    cluster.await_health(200, 429)
    assert [each.unwrap(wrapped, binding, timeout=4 * TIMEOUT) for each in providers] == [b"sealed"] * 3
    for provider in providers:
        provider.close()
    cluster.restart(nodes[0])
    cluster.await_health(200, 429, 429)


class Load:
    """Threads that create data keys and open them, and keep what they were given."""

    def __init__(self, vault: OpenBaoVault) -> None:
        self.vault = vault
        self.keys: list[DataKey] = []
        self.errors: list[VaultError] = []
        self.longest = 0.0
        self.done: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=[number]) for number in range(THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_keys(self, number: int, seconds: float = 60) -> None:
        wanted, deadline = len(self.keys) + number, time.monotonic() + seconds
        while len(self.keys) < wanted:
            assert time.monotonic() < deadline, Counter(map(str, self.errors)).most_common(3)
            time.sleep(0.05)

    def _work(self, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            began = time.monotonic()
            try:
                # Every third with a context that needs a new transit key.
                value = f"{number} {turn}" if turn % 3 == 0 else "same"
                key = self.vault.create_data_key(KeyContext({"organization_id": value, "purpose": "care"}))
                self.keys.append(key)
                assert self.vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
            except VaultError as error:
                self.errors.append(error)
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.02)


def test_leader_is_killed_under_load_and_nothing_is_lost(cluster: Cluster, token: str) -> None:
    killed = cluster.leader()
    with closing(vault_at(cluster.urls, token)) as vault, Load(vault) as load:
        load.await_keys(50)
        assert not load.errors
        killed.process.kill()
        cluster.await_health(200, 429)
        load.await_keys(100)

    # Refused connections and late answers are of the first kind. The second is what a standby node says of a key that
    # was made a moment before, until it hears of it from the next leader.
    passing = (VaultUnavailable, TransitKeyMissing)
    assert all(isinstance(error, passing) for error in load.errors), Counter(map(repr, load.errors))
    # A turn is two operations. On a slow machine they end later than their deadline, but they do end.
    assert load.longest < 10 * TIMEOUT
    with closing(vault_at(cluster.urls, token)) as another:
        opened = another.decrypt_data_keys({key.encrypted_keys: None for key in load.keys})
    for key in load.keys:
        outcome = opened[key.encrypted_keys]
        assert isinstance(outcome, DataKey), outcome
        assert outcome.plaintext == key.plaintext
