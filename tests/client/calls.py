"""What the tests of the clients share: both ways to make a call, and the check that a failure leaks nothing."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.faulty_server import BLOB, DATA_KEY, PLAINTEXT, FaultyServer
from vault_fields.client import Answer, AsyncVaultClient, Endpoint, KeyCall, RetryPolicy, VaultClient
from vault_fields.exceptions import VaultError
from vault_fields.keys import KeyContext

API_KEY = "sk_test_51SecretApiKey"
TENANT = "org_tenant_4711"
CONTEXT = KeyContext({"organization_id": TENANT})
SECRETS = [API_KEY, DATA_KEY, BLOB, TENANT, repr(PLAINTEXT), PLAINTEXT.hex()]

Post = Callable[[FaultyServer, RetryPolicy, KeyCall], Answer]


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, alias="eu", headers={"Authorization": f"Bearer {API_KEY}"})


def quick(**options: Any) -> RetryPolicy:
    return RetryPolicy(**{"timeout": 20.0, "first_pause": 0.001, **options})


def post_sync(server: FaultyServer, policy: RetryPolicy, call: KeyCall) -> Answer:
    client = VaultClient(endpoint(server.url), policy)
    try:
        return client.post(call.path, call.payload)
    finally:
        client.close()


def post_async(server: FaultyServer, policy: RetryPolicy, call: KeyCall) -> Answer:
    async def post() -> Answer:
        return await AsyncVaultClient(endpoint(server.url), policy).post(call.path, call.payload)

    return asyncio.run(post())


both = pytest.mark.parametrize("post", [post_sync, post_async])
CREATE = KeyCall.create(CONTEXT)
REKEY = KeyCall.rekey(BLOB, CONTEXT)
DECRYPT = KeyCall.decrypt(BLOB)


def failure(post: Post, server: FaultyServer, policy: RetryPolicy | None = None) -> VaultError:
    with pytest.raises(VaultError) as caught:
        post(server, policy or quick(), CREATE)
    error = caught.value
    assert error.alias == "eu"
    # httpx's exceptions hold the request, and with it the Authorization header.
    assert error.__context__ is None
    assert error.__cause__ is None
    assert not isinstance(error, httpx.HTTPError)
    assert_no_secret("".join(traceback.format_exception(error)))
    return error


def assert_no_secret(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text
