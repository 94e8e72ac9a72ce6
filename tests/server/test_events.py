"""Events over HTTP, as the platform's ``GET /events`` answers."""

from typing import Any

import httpx
import pytest

from vault_fields.backends.memory import InMemoryVault
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key

from .conftest import KEY, running
from .test_http import ACME, refused


def events(client: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    response = client.get("/events", params=params)
    assert response.status_code == 200, response.text
    return list(response.json()["data"])


@pytest.fixture
def used(client: httpx.Client) -> httpx.Client:
    """A vault in which something has happened."""
    key = client.post("/vault/v1/keys/data-key", json={"context": ACME}).json()
    client.post("/vault/v1/keys/decrypt", json={"keys": key["encrypted_keys"]})
    client.get("/vault/v1/kv")
    return client


def test_events_name_the_key_that_called(used: httpx.Client) -> None:
    found = events(used, limit=100)

    assert {each["event"] for each in found} == {
        "vault.kek.created",
        "vault.dek.read",
        "vault.dek.decrypted",
        "vault.names.listed",
    }
    for each in found:
        assert set(each) == {"object", "id", "event", "data", "created_at"}
        assert each["data"]["actor_name"] == "API key"
        assert each["data"]["actor_id"] == f"key_{hash_api_key(KEY)[:26]}"


def test_events_are_of_the_environment_of_the_key(used: httpx.Client) -> None:
    assert events(used, limit=100) != []
    assert used.get("/events", headers={"Authorization": "Bearer sk_staging_4f9Za81"}).json()["data"] == []


def test_events_by_name_and_page(used: httpx.Client) -> None:
    assert len(events(used, events="vault.dek.read,vault.dek.decrypted")) == 2
    assert len(events(used, **{"events[]": ["vault.dek.read", "vault.names.listed"]})) == 2
    assert events(used, events="dsync.user.created") == []
    whole = events(used)
    page = used.get("/events", params={"limit": 2}).json()
    assert page["object"] == "list"
    assert page["data"] == whole[:2]
    assert page["list_metadata"] == {"before": None, "after": whole[1]["id"]}
    assert events(used, after=whole[1]["id"]) == whole[2:]
    assert events(used, before=whole[1]["id"]) == whole[:1]
    assert events(used, order="desc") == whole[::-1]
    assert events(used, range_start="2024-01-01T00:00:00Z") == whole
    assert events(used, range_end="2024-01-01T00:00:00Z") == []


def test_what_cannot_be_is_400(used: httpx.Client) -> None:
    for params in ({"after": "event_x"}, {"before": "event_x"}, {"limit": "0"}, {"range_end": "now"}, {"order": "up"}):
        assert refused(used.get("/events", params=params), 400)
    assert refused(used.post("/events"), 405)


def test_key_events_can_be_off() -> None:
    api = VaultApi(InMemoryVault().service, ApiKeys([ApiKey(hash_api_key(KEY))]), record_key_events=False)
    headers = {"Authorization": f"Bearer {KEY}"}
    with running(api) as url, httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        client.post("/vault/v1/keys/data-key", json={"context": ACME})

        assert [each["event"] for each in events(client)] == ["vault.kek.created"]
