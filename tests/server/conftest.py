import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from vault_fields.backends.memory import InMemoryVault
from vault_fields.server.bearers import ApiKey, Bearers, hash_bearer
from vault_fields.server.face import Face
from vault_fields.server.serving import bind

KEY = "sk_test_4f9Za81"
KEYS = [
    ApiKey(hash_bearer("sk_another")),
    ApiKey(hash_bearer(KEY)),
    ApiKey(hash_bearer("sk_staging_4f9Za81"), "Staging", "staging"),
]


@contextmanager
def running(face: Face) -> Iterator[str]:
    """The URL of a server on this machine that serves the face."""
    with bind(face, "127.0.0.1", 0) as server:
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
    face = Face(vault.service, Bearers(KEYS))
    headers = {"Authorization": f"Bearer {KEY}"}
    with running(face) as url, httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        yield client
