"""Stored objects over HTTP: every call, every status; with WorkOS's own SDKs: ``tests/peers``."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from vault_fields.backends.memory import InMemoryVault
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key

from .conftest import KEY, running
from .test_http import ACME, refused

KV = "/vault/v1/kv"
MISSING = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"


@pytest.fixture
def other_client(client: httpx.Client) -> Iterator[httpx.Client]:
    """Of another environment of the same vault."""
    with httpx.Client(
        base_url=client.base_url, headers={"Authorization": "Bearer sk_staging_4f9Za81"}, trust_env=False
    ) as other:
        yield other


def create(client: httpx.Client, name: str = "", value: str = "s3cr3t", context: Any = ACME) -> dict[str, Any]:
    response = client.post(KV, json={"name": name or uuid.uuid4().hex, "value": value, "key_context": context})
    assert response.status_code == 201, response.text
    return dict(response.json())


def test_created_object_is_read_by_id_and_by_name(client: httpx.Client) -> None:
    created = create(client, "my secret/übrigens", "grüße 🙂", {"b": "2", "a": "1"})

    assert set(created) == {"id", "environment_id", "context", "key_id", "version_id", "updated_by", "updated_at"}
    assert (created["environment_id"], created["context"]) == ("default", {"a": "1", "b": "2"})
    assert created["updated_by"] == {"id": f"key_{hash_api_key(KEY)[:26]}", "name": "API key"}
    for url in (f"{KV}/{created['id']}", f"{KV}/name/my%20secret%2F%C3%BCbrigens", f"{KV}/name/my secret/übrigens"):
        read = client.get(url)
        assert read.status_code == 200
        expected = {"id": created["id"], "name": "my secret/übrigens", "value": "grüße 🙂", "metadata": created}
        assert read.json() == expected


def test_metadata_has_no_value(client: httpx.Client) -> None:
    created = create(client, "quiet")

    described = client.get(f"{KV}/{created['id']}/metadata")

    assert described.json() == {"id": created["id"], "name": "quiet", "metadata": created}


def test_update_makes_a_version(client: httpx.Client) -> None:
    created = create(client, "changing")

    updated = client.put(f"{KV}/{created['id']}", json={"value": "n3w", "version_check": created["version_id"]})

    assert updated.status_code == 201
    assert set(updated.json()) == {"id", "name", "metadata"}
    assert updated.json()["metadata"]["version_id"] != created["version_id"]
    assert updated.json()["metadata"]["key_id"] != created["key_id"]
    assert client.get(f"{KV}/{created['id']}").json()["value"] == "n3w"
    versions = client.get(f"{KV}/{created['id']}/versions").json()
    assert versions["list_metadata"] == {"before": None, "after": None}
    assert [each["current_version"] for each in versions["data"]] == [True, False]
    assert [each["id"] for each in versions["data"]][1] == created["version_id"]
    assert versions["data"][0]["size"] == 12 + 3 + 16


def test_update_that_expects_another_version_changes_nothing(client: httpx.Client) -> None:
    created = create(client, value="kept")

    for expected in (MISSING, "", "\ud800"):
        body = json.dumps({"value": "n3w", "version_check": expected})
        response = client.put(f"{KV}/{created['id']}", content=body, headers={"Content-Type": "application/json"})
        assert "another version" in refused(response, 409)
        if expected.isascii():
            deleted = client.delete(f"{KV}/{created['id']}", params={"version_check": expected})
            assert refused(deleted, 409)

    assert client.get(f"{KV}/{created['id']}").json()["value"] == "kept"


def test_deleted_object_is_gone_and_its_name_free(client: httpx.Client) -> None:
    created = create(client, "short-lived")

    deleted = client.delete(f"{KV}/{created['id']}", params={"version_check": created["version_id"]})

    assert (deleted.status_code, deleted.json()) == (200, {"success": True, "name": "short-lived"})
    for path in (created["id"], f"{created['id']}/metadata", f"{created['id']}/versions", "name/short-lived"):
        assert refused(client.get(f"{KV}/{path}"), 404) == "There is no such object."
    assert create(client, "short-lived")["id"] != created["id"]


def test_what_is_not_there_is_404(client: httpx.Client) -> None:
    for identifier in (MISSING, "nonsense", "%00", "'; DROP TABLE object; --", "🙂"):
        for method, path in [("GET", ""), ("GET", "/metadata"), ("GET", "/versions"), ("DELETE", "")]:
            assert refused(client.request(method, f"{KV}/{identifier}{path}"), 404)
        assert refused(client.put(f"{KV}/{identifier}", json={"value": "x"}), 404)
        assert refused(client.get(f"{KV}/name/{identifier}"), 404)


def test_name_that_is_taken_is_409(client: httpx.Client) -> None:
    create(client, "once")

    response = client.post(KV, json={"name": "once", "value": "", "key_context": {"other": "context"}})

    assert refused(response, 409) == "There is already an object of that name."


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 400, "name must be a string"),
        ({"name": 1, "value": "", "key_context": ACME}, 400, "name must be a string"),
        ({"name": "n", "value": None, "key_context": ACME}, 400, "value must be a string"),
        ({"name": "n", "value": ""}, 400, "key_context must be an object"),
        ({"name": "n", "value": "", "key_context": []}, 400, "key_context must be an object"),
        ({"name": "n", "value": "", "key_context": {}}, 422, "at least one item"),
        ({"name": "n", "value": "", "key_context": {"a": 1}}, 422, "Values in a key context"),
        ({"name": "", "value": "", "key_context": ACME}, 422, "1 to 200 characters"),
        ({"name": "n" * 201, "value": "", "key_context": ACME}, 422, "1 to 200 characters"),
        ({"name": "a\0b", "value": "", "key_context": ACME}, 422, "zero character"),
        ({"name": "\ud800", "value": "", "key_context": ACME}, 422, "lone surrogate"),
        ({"name": "n", "value": "\ud800", "key_context": ACME}, 422, "lone surrogate"),
    ],
)
def test_object_that_cannot_be(client: httpx.Client, body: object, status: int, reason: str) -> None:
    response = client.post(KV, content=json.dumps(body), headers={"Content-Type": "application/json"})

    assert reason in refused(response, status)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "value must be a string"),
        ({"value": 1}, "value must be a string"),
        ({"value": "\ud800"}, "lone surrogate"),
        ({"value": "", "version_check": 1}, "version_check must be a string"),
    ],
)
def test_update_that_cannot_be(client: httpx.Client, body: object, reason: str) -> None:
    created = create(client)

    url = f"{KV}/{created['id']}"
    response = client.put(url, content=json.dumps(body), headers={"Content-Type": "application/json"})

    assert reason in refused(response, 400)


def test_longest_name_fits_and_an_empty_value(client: httpx.Client) -> None:
    name = "🙂" * 200
    created = create(client, name, "")

    assert client.get(f"{KV}/name/{name}").json()["id"] == created["id"]
    assert client.get(f"{KV}/{created['id']}").json()["value"] == ""


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [each["id"] for each in response.json()["data"]]


def walk(client: httpx.Client, cursor: str, **params: Any) -> list[list[str]]:
    pages, place = [], None
    while True:
        response = client.get(KV, params={**params, **({cursor: place} if place else {})})
        pages.append(ids(response))
        place = response.json()["list_metadata"][cursor]
        if place is None:
            return pages


def test_pages_in_both_directions(client: httpx.Client) -> None:
    objects = [create(client)["id"] for _ in range(5)]

    assert walk(client, "after", limit=2, order="asc") == [objects[:2], objects[2:4], objects[4:]]
    assert walk(client, "after", limit=2) == [objects[:2:-1], objects[2:0:-1], objects[:1]]
    first, second, last = walk(client, "after", limit=2, order="asc")
    before = client.get(KV, params={"limit": 2, "order": "asc", "before": last[0]})
    assert ids(before) == second
    assert before.json()["list_metadata"] == {"before": second[0], "after": second[-1]}
    before = client.get(KV, params={"limit": 2, "order": "asc", "before": second[0]})
    assert ids(before) == first
    assert before.json()["list_metadata"] == {"before": None, "after": first[-1]}
    between = client.get(KV, params={"limit": 2, "order": "asc", "after": objects[0], "before": objects[4]})
    assert ids(between) == objects[1:3]
    assert between.json()["list_metadata"] == {"before": objects[1], "after": objects[2]}


def test_page_goes_on_where_an_object_was_deleted(client: httpx.Client) -> None:
    objects = [create(client)["id"] for _ in range(4)]
    page = client.get(KV, params={"limit": 2, "order": "asc"})
    for each in ids(page):
        client.delete(f"{KV}/{each}")

    assert ids(client.get(KV, params={"order": "asc", "after": page.json()["list_metadata"]["after"]})) == objects[2:]


def test_ten_objects_without_a_limit_and_a_hundred_at_most(client: httpx.Client, vault: InMemoryVault) -> None:
    from vault_fields.embedded.objects import StoredObjects

    for number in range(101):
        StoredObjects(vault.service).create(str(number), "", ACME)

    assert len(ids(client.get(KV))) == 10
    for limit in ("100", "101", "9" * 100):
        assert len(ids(client.get(KV, params={"limit": limit}))) == 100
    assert client.get(KV).json()["data"][0]["name"] == "100"


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("alpha", [0, 1]),
        ("ALPHA", [0, 1]),
        ("100%", [2]),
        ("%", [2]),
        ("_", [3]),
        ("\\", [3]),
        ('{"name', [4]),
        ("nothing", []),
        ("", [0, 1, 2, 3, 4]),
        ('{"name": "alpha"}', [0, 1]),
        ('{"name": "{\\"name"}', [4]),
        ('{"key_context": {"organization_id": "acme"}}', [0, 2, 3, 4]),
        ('{"name": "alpha", "key_context": {"organization_id": "acme"}}', [0]),
        ('{"key_context": {"organization_id": "globex", "q\\"uote": "\\\\ü"}}', [1]),
        ('{"key_context": {"organization_id": "globex", "other": "x"}}', []),
        ("{}", [0, 1, 2, 3, 4]),
    ],
)
def test_search(client: httpx.Client, search: str, found: list[int]) -> None:
    contexts = [ACME, {"organization_id": "globex", 'q"uote': "\\ü"}, ACME, ACME, ACME]
    names = ["alpha one", "Alpha two", "100%", "a_b\\c", '{"name']
    objects = [create(client, name, context=context)["id"] for name, context in zip(names, contexts, strict=True)]

    assert ids(client.get(KV, params={"search": search, "order": "asc"})) == [objects[number] for number in found]


def test_updated_after(client: httpx.Client) -> None:
    early = create(client)
    time.sleep(0.002)
    late = create(client)

    after = early["updated_at"]
    assert ids(client.get(KV, params={"updatedAfter": after})) == [late["id"]]
    assert len(ids(client.get(KV, params={"updatedAfter": "2024-01-01T00:00:00"}))) == 2
    assert len(ids(client.get(KV, params={"updatedAfter": "2024-01-01T00:00:00+02:00"}))) == 2
    client.put(f"{KV}/{early['id']}", json={"value": "n3w"})
    assert len(ids(client.get(KV, params={"updatedAfter": after}))) == 2


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "ten"},
        {"limit": ""},
        {"limit": "٣"},
        {"order": "normal"},
        {"updatedAfter": "yesterday"},
        {"updatedAfter": "2024-13-01T00:00:00Z"},
        {"updatedAfter": "0001-01-01T00:00:00+14:00"},
        {"search": "a\0b"},
        {"search": "x" * 10_001},
        {"search": '{"size": 3}'},
        {"search": '{"name": 3}'},
        {"search": '{"key_context": []}'},
        {"search": '{"key_context": {"a": 1}}'},
        {"search": '{"name": "\\ud800"}'},
        {"search": '{"key_context": {"\\ud800": "x"}}'},
        {"search": json.dumps({"key_context": {str(each): "" for each in range(11)}})},
    ],
)
def test_query_that_cannot_be_is_400(client: httpx.Client, params: dict[str, str]) -> None:
    assert refused(client.get(KV, params=params), 400)


def test_environments_know_nothing_of_each_other(client: httpx.Client, other_client: httpx.Client) -> None:
    ours, theirs = create(client, "shared name", "ours"), create(other_client, "shared name", "theirs")

    assert theirs["environment_id"] == "staging"
    assert client.get(f"{KV}/name/shared name").json()["value"] == "ours"
    assert other_client.get(f"{KV}/name/shared name").json()["value"] == "theirs"
    assert ids(other_client.get(KV)) == [theirs["id"]]
    for method, path in [("GET", ""), ("GET", "/metadata"), ("GET", "/versions"), ("DELETE", "")]:
        assert refused(other_client.request(method, f"{KV}/{ours['id']}{path}"), 404)
    assert refused(other_client.put(f"{KV}/{ours['id']}", json={"value": "taken over"}), 404)
    key = client.post("/vault/v1/keys/data-key", json={"context": ACME}).json()["encrypted_keys"]
    assert refused(other_client.post("/vault/v1/keys/decrypt", json={"keys": key}), 400)


def test_object_of_a_revoked_key_is_refused_and_can_be_deleted(client: httpx.Client, vault: InMemoryVault) -> None:
    created = create(client, context={"organization_id": "gone"})
    vault.revoke("organization_id", "gone")

    for response in (
        client.get(f"{KV}/{created['id']}"),
        client.put(f"{KV}/{created['id']}", json={"value": "n3w"}),
        client.post(KV, json={"name": "n", "value": "", "key_context": {"organization_id": "gone"}}),
    ):
        assert response.status_code == 403
        assert response.json()["code"] == "key_revoked"
    assert client.get(f"{KV}/{created['id']}/metadata").status_code == 200
    assert client.delete(f"{KV}/{created['id']}").status_code == 200


def test_methods_of_each_path(client: httpx.Client) -> None:
    for path, allowed in [
        ("", "GET, POST"),
        ("/name/n", "GET"),
        ("/x", "DELETE, GET, PUT"),
        ("/x/metadata", "GET"),
        ("/x/versions", "GET"),
    ]:
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(allowed.split(", ")):
            response = client.request(method, KV + path)
            assert "allowed here" in refused(response, 405)
            assert response.headers["allow"] == allowed
    assert client.head(KV).status_code == 405


def test_keys_of_the_short_form_are_of_the_default_environment() -> None:
    key = ApiKey(hash_api_key("sk_x"))

    assert (key.environment, key.name) == ("default", "API key")
    assert ApiKeys([key]).admit("Bearer sk_x") is key


def test_face_with_a_vault_of_its_own_environments() -> None:
    keys = [ApiKey(hash_api_key(each), each, each) for each in ("one", "two")]
    with running(VaultApi(InMemoryVault().service, ApiKeys(keys))) as url:
        contexts = [
            httpx.post(
                f"{url}{KV}",
                json={"name": "n", "value": "", "key_context": ACME},
                headers={"Authorization": f"Bearer {each}"},
                trust_env=False,
            ).json()["environment_id"]
            for each in ("one", "two")
        ]

    assert contexts == ["one", "two"]
