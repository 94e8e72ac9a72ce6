"""The access log: a line of JSON for each request, without a secret or a name in it."""

import json
import logging

import httpx
import pytest

from .test_http import ACME


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [json.loads(each.getMessage()) for each in caplog.records if each.name == "vault_fields.server.access"]


def test_each_request_is_one_record(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vault_fields.server.access"):
        created = client.post("/vault/v1/kv", json={"name": "the name", "value": "the value", "key_context": ACME})
        client.get("/vault/v1/kv/name/the name?search=the query")
        client.get(f"/vault/v1/kv/{created.json()['id']}", headers={"Authorization": "Bearer sk_staging_4f9Za81"})
        client.get("/nothing", headers={"Authorization": "Bearer wrong"})
        client.request("INVENT", "/vault/v1/kv")

    found = records(caplog)
    assert [(each["method"], each["path"], each["status"]) for each in found] == [
        ("POST", "/vault/v1/kv", 201),
        ("GET", "/vault/v1/kv/name/{name}", 200),
        ("GET", "/vault/v1/kv/{id}", 404),
        ("GET", "", 401),
        ("other", "/vault/v1/kv", 405),
    ]
    assert [(each["environment"], each["key"]) for each in found][:4] == [
        ("default", "API key"),
        ("default", "API key"),
        ("staging", "Staging"),
        (None, None),
    ]
    assert found[0]["request_id"] == created.headers["x-request-id"]
    assert all(isinstance(each["duration_ms"], float) for each in found)
    assert caplog.records[-1].access == found[-1]  # type: ignore[attr-defined]
    for secret in ("the name", "the value", "the query", "acme", "sk_", "wrong", "INVENT", "nothing"):
        assert not any(secret in each.getMessage() for each in caplog.records if each.name.startswith("vault_fields"))
