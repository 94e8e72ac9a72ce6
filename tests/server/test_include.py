"""``include("vault_fields.server.urls")`` in a project: its settings, its middleware."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path

from vault_fields.server import configuration
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key
from vault_fields.server.configuration import configured_api_keys, served_vault
from vault_fields.vaults import vaults

urlpatterns = [path("secrets/", include("vault_fields.server.urls"))]

CREATE = "/secrets/vault/v1/keys/data-key"
BEARER = "Bearer sk_test_4f9Za81"
SERVER = {"bearer_sha256": [hash_api_key("sk_test_4f9Za81")]}
NAMED = {"name": "Billing", "environment": "production", "sha256": hash_api_key("sk_test_4f9Za81")}


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    middleware = [
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=middleware, DEBUG=True, VAULT_SERVER=SERVER):
        yield


def create(**headers: str) -> Any:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    return client.post(
        CREATE,
        {"context": {"organization_id": "acme"}},
        "application/json",
        headers={"Authorization": BEARER, **headers},
    )


def test_bearer_is_enough_without_session_csrf_token_or_database() -> None:
    """Nor is there a transaction of Django's about the call: this test may not use the database."""
    response = create()

    assert response.status_code == 200
    assert vaults["default"].decrypt_data_key(response.json()["encrypted_keys"]).id == response.json()["id"]


def test_answers_come_through_asgi_too() -> None:
    async def ask() -> Any:
        return await AsyncClient().post(
            CREATE,
            json.dumps({"context": {"organization_id": "acme"}}),
            content_type="application/json",
            headers={"Authorization": BEARER},
        )

    import asyncio

    assert asyncio.run(ask()).status_code == 200


def test_other_bearer_is_401() -> None:
    assert create(Authorization="Bearer sk_wrong").status_code == 401


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10)
def test_lower_limit_of_the_project_is_413_too() -> None:
    assert create().status_code == 413


def test_length_that_is_no_number_is_400(rf: Any) -> None:
    response = Client().generic(
        "POST", CREATE, b"{}", "application/json", headers={"Authorization": BEARER, "Content-Length": "x"}
    )

    assert response.status_code == 400


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({}, "keys and bearer_sha256 are missing"),
        ({"bearer_sha256": []}, "keys and bearer_sha256 are missing"),
        ({"bearer_sha256": "ab" * 32}, "bearer_sha256 must be a list"),
        ({"bearer_sha256": ["sk_in_the_clear"]}, "must be the SHA-256 of a bearer key"),
        ({"bearer_sha256": [1]}, "must be the SHA-256 of a bearer key"),
        ({**SERVER, "bearer": 1}, "unknown keys: bearer"),
        ({**SERVER, "sk_4f9Za81": 1}, "unknown keys: (not a word)."),
        ({"bearer_sha256": [hash_api_key("sk_x")] * 2}, "the same key is there twice"),
        (
            {"bearer_sha256": ["HASH, AS vault_api_key PRINTS IT"]},
            "`python manage.py vault_api_key` prints a fresh key",
        ),
        ({"bearer_sha256": [hash_api_key("")]}, "bearer_sha256: it is the hash of an empty key"),
        ({"keys": [{**NAMED, "sha256": hash_api_key("test")}]}, "keys[0]: it is the hash of an empty key, or"),
        ({"keys": [{**NAMED, "sha256": hash_api_key("sk_example")}]}, "or of one that examples show"),
        ({"keys": [{**NAMED, "sha256": hash_api_key("${API_KEY}")}]}, "or of one that examples show"),
        ({"keys": {}}, "keys must be a list"),
        ({"keys": [{"sha256": "sk_in_the_clear"}]}, "keys[0] must be a dict of name, environment and sha256"),
        ({"keys": ["sk_in_the_clear"]}, "keys[0] must be a dict of name, environment and sha256"),
        ({"keys": [{**NAMED, "sha256": "sk_in_the_clear"}]}, "keys[0]: each entry must be the SHA-256"),
        ({"keys": [{**NAMED, "name": ""}]}, "keys[0]: the name of a key has 1 to 200 characters"),
        ({"keys": [{**NAMED, "environment": "a b"}]}, "keys[0]: an environment has 1 to 64 letters"),
        ({**SERVER, "record_key_events": "no"}, "record_key_events must be True or False"),
        ({**SERVER, "vault": "missing"}, "VAULTS['missing']: there is no such vault"),
        ({**SERVER, "vault": "hosted"}, "only an embedded vault can be served, and 'hosted' is a WorkOSVault"),
        (None, "VAULT_SERVER: must be a dict"),
    ],
)
def test_wrong_setting_is_503_and_named_in_the_log(
    caplog: pytest.LogCaptureFixture, setting: object, message: str
) -> None:
    hosted = {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": {"api_key": "sk_x"}}
    memory = {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}

    with override_settings(VAULT_SERVER=setting, VAULTS={"default": memory, "hosted": hosted}):
        response = create()

    assert response.status_code == 503
    assert response.json() == {"error": "The vault is not available."}
    assert message in caplog.text
    assert "sk_in_the_clear" not in caplog.text


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "Bearer  ", "bearer \t"])
def test_empty_key_is_never_admitted(authorization: str) -> None:
    """Not even by somebody who got its hash past the setting."""
    key = ApiKey(hash_api_key("sk_test_4f9Za81"))
    object.__setattr__(key, "sha256", hash_api_key(""))

    assert ApiKeys([key]).admit(authorization) is None


def test_hashes_on_pages_admit_nobody() -> None:
    """Who pastes an example gets an error, and no server that opens to everybody who read the example."""
    root = Path(__file__).resolve().parent.parent.parent
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("vault_fields/server/*.py")]
    shown = {found for page in pages for found in re.findall(r"\b[0-9a-f]{64}\b", page.read_text("utf-8"))}
    for sha256 in shown:
        with pytest.raises(ValueError, match="that examples show"):
            ApiKey(sha256)


def test_keys_are_validated_once_for_each_setting(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    validate = configuration.configured_api_keys

    def count() -> Any:
        read.append(settings.VAULT_SERVER)
        return validate()

    monkeypatch.setattr(configuration, "configured_api_keys", count)
    for setting, status in [({**SERVER}, 200), ({"bearer_sha256": [hash_api_key("sk_other")]}, 401), ({**SERVER}, 200)]:
        settings.VAULT_SERVER = setting
        assert [create().status_code for _ in range(3)] == [status] * 3
    assert len(read) == 3


def test_project_without_the_setting_admits_nobody(settings: Any) -> None:
    del settings.VAULT_SERVER

    assert configured_api_keys() is None
    assert create().status_code == 503


def test_vault_of_the_setting_is_served(tmp_path: Path, settings: Any) -> None:
    settings.VAULTS = {
        "default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"},
        "other": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"},
    }
    settings.VAULT_SERVER = {**SERVER, "vault": "other"}

    blob = create().json()["encrypted_keys"]

    assert served_vault() is served_vault("other")
    assert vaults["other"].decrypt_data_key(blob)


def test_hash_is_sha256_in_hex() -> None:
    assert hash_api_key("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ApiKeys([ApiKey(hash_api_key("abc"))]).admit("Bearer abc")


def test_named_keys_are_of_their_environments(settings: Any) -> None:
    other = {"name": "Staging", "environment": "staging", "sha256": hash_api_key("sk_staging_4f9Za81")}
    settings.VAULT_SERVER = {"keys": [NAMED, other]}

    blob = create().json()["encrypted_keys"]

    for bearer, status in [("sk_test_4f9Za81", 200), ("sk_staging_4f9Za81", 400)]:
        response = Client().post(
            "/secrets/vault/v1/keys/decrypt",
            {"keys": blob},
            "application/json",
            headers={"Authorization": f"Bearer {bearer}"},
        )
        assert response.status_code == status


def test_objects_are_served_too_but_not_the_events_of_the_platform() -> None:
    headers = {"Authorization": BEARER}
    body = {"name": "a/b", "value": "x", "key_context": {"a": "b"}}
    assert Client().post("/secrets/vault/v1/kv", body, "application/json", headers=headers).status_code == 201
    assert Client().get("/secrets/vault/v1/kv/name/a%2Fb", headers=headers).json()["value"] == "x"
    assert Client().get("/secrets/events", headers=headers).status_code == 404
