import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from vault_fields.backends.memory import InMemoryVault
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key
from vault_fields.server.serving import bind

KEY = "sk_test_4f9Za81"
KEYS = [
    ApiKey(hash_api_key("sk_another")),
    ApiKey(hash_api_key(KEY)),
    ApiKey(hash_api_key("sk_staging_4f9Za81"), "Staging", "staging"),
]


@contextmanager
def running(api: VaultApi) -> Iterator[str]:
    """The URL of a server on this machine that serves the API."""
    with bind(api, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def vault() -> InMemoryVault:
    return InMemoryVault()


@pytest.fixture
def client(vault: InMemoryVault) -> Iterator[httpx.Client]:
    api = VaultApi(vault.service, ApiKeys(KEYS))
    headers = {"Authorization": f"Bearer {KEY}"}
    with running(api) as url, httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        yield client
