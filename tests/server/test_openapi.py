"""
The server against WorkOS's own description of the API: requests that schemathesis makes up, right ones and wrong ones.

What is excluded, and why:

- Security: the extract says nothing of 401; that the bearer is asked for is tested in ``test_http``.
- ``positive_data_acceptance``: some requests that fit the schemas are refused, each by the documented limits of a key
  context (an empty one, an empty name, a name of more than 120 characters) or of a name (empty, a zero character),
  which the extract does not express; ids and encrypted keys that are made up are those of nothing.
- ``unsupported_method``: tested in ``test_http``, without the bearer being withheld as this check does.
- Statuses that the extract forgets: 404 for an update of what is not there, as for every other call with an id; 413
  and 415 for bodies that are not read.
"""

import secrets
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from vault_fields.backends.memory import InMemoryVault
from vault_fields.embedded.objects import StoredObjects
from vault_fields.keys import KeyContext
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key

from .conftest import KEY, running

EXTRACT = Path(__file__).with_name("workos-vault-openapi.yaml")
description = yaml.safe_load(EXTRACT.read_text("utf-8"))
del description["security"]
schema = schemathesis.openapi.from_dict(description)

CHECKS = [
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
]


# The extract's own examples; where they stand in a request, there is an object, and a data key of this vault.
ID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
KEYS = description["components"]["schemas"]["DecryptRequest"]["properties"]["keys"]["example"]

vault = InMemoryVault().service


@pytest.fixture(scope="module")
def url():
    with running(VaultApi(vault, ApiKeys([ApiKey(hash_api_key(KEY))]))) as url:
        StoredObjects(vault).create("my-secret", "s3cr3t-v4lu3", {"organization_id": "acme"})
        yield url


@schema.parametrize()
@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_answers_are_those_of_the_description(case, url) -> None:
    if (case.path_parameters or {}).get("id") == ID:
        created = StoredObjects(vault).create(secrets.token_hex(8), "s3cr3t-v4lu3", {"organization_id": "acme"})
        case.path_parameters["id"] = created.id
    for name in ("keys", "encrypted_keys"):
        if isinstance(case.body, dict) and case.body.get(name) == KEYS:
            case.body[name] = vault.create(KeyContext({"organization_id": "acme"})).encrypted_keys

    response = case.call(base_url=url, headers={"Authorization": f"Bearer {KEY}"})

    forgotten = response.status_code in {413, 415} or (case.method, response.status_code) == ("PUT", 404)
    case.validate_response(response, checks=CHECKS, excluded_checks=[status_code_conformance] if forgotten else [])
