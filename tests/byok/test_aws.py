"""AWS KMS: a moto server for what it can do, and scripted answers for what only the real one says."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured

from tests.byok.conftest import ACME, activate, on_the_page
from tests.byok.peers import AWS_ENVIRONMENT, Kms
from tests.faulty_server import FaultyServer, Reply, faulty_server
from vault_fields.backends.local import LocalVault
from vault_fields.byok.aws import AwsKms
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultThrottled, VaultUnavailable
from vault_fields.keys import KeyContext

ARN = "arn:aws:kms:eu-west-3:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
BINDING = {"data_key": "d"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with faulty_server() as server:
        yield server


class Clock:
    """In whose time only pauses take any."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("vault_fields.byok.aws.time", clock)
    return clock


@pytest.fixture
def provider(server: FaultyServer) -> Iterator[AwsKms]:
    provider = AwsKms({"key_id": ARN, "endpoint_url": server.url})
    yield provider
    provider.close()


def says(code: str, status: int = 400) -> Reply:
    return Reply(status, content={"__type": code, "message": "s3cr3t words"}, headers={"x-amzn-RequestId": "req_7"})


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (says("DisabledException"), KeyRevoked),
        (says("KMSInvalidStateException"), KeyRevoked),
        (says("AccessDeniedException"), KeyRevoked),
        (says("NotFoundException"), KeyRevoked),
        (says("ThrottlingException"), VaultThrottled),
        (says("LimitExceededException"), VaultThrottled),
        (says("KeyUnavailableException", 500), VaultUnavailable),
        (says("DependencyTimeoutException", 503), VaultUnavailable),
        (says("KMSInternalException", 500), VaultUnavailable),
        (says("Unheard", 502), VaultUnavailable),
        (Reply(500, raw=b"<html>"), VaultUnavailable),
        (says("UnrecognizedClientException"), VaultRefused),
        (says("ExpiredTokenException"), VaultRefused),
        (says("InvalidKeyUsageException"), VaultRefused),
        (says("Unheard"), VaultRefused),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value.content and value.content["__type"],
)
def test_answers_are_told_apart(server: FaultyServer, provider: AwsKms, reply: Reply, error: type[VaultError]) -> None:
    server.usual = reply

    for call in (provider.wrap, provider.unwrap):
        with pytest.raises(VaultError, match="AWS KMS answered") as caught:
            call(b"bytes", BINDING, timeout=15)
        assert type(caught.value) is error
        assert caught.value.status == reply.status
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
def test_what_does_not_open(server: FaultyServer, provider: AwsKms, code: str) -> None:
    server.usual = says(code)

    with pytest.raises(InvalidTag):
        provider.unwrap(b"bytes", BINDING, timeout=15)
    assert len(server.seen) == 1


def test_passing_fault_is_tried_again_within_the_timeout(server: FaultyServer, provider: AwsKms) -> None:
    server.will(says("ThrottlingException"), says("KMSInternalException", 500))
    server.usual = Reply(content={"CiphertextBlob": "d3JhcHBlZA==", "KeyId": ARN})

    assert provider.wrap(b"sealed", BINDING, timeout=5) == b"wrapped"
    assert len(server.seen) == 3


def test_refusal_is_not_tried_again(server: FaultyServer, provider: AwsKms) -> None:
    server.usual = says("DisabledException")

    with pytest.raises(KeyRevoked):
        provider.wrap(b"sealed", BINDING, timeout=5)
    assert len(server.seen) == 1


def test_last_try_begins_when_there_is_time_for_its_end(server: FaultyServer, provider: AwsKms, clock: Clock) -> None:
    server.usual = says("ThrottlingException")

    with pytest.raises(VaultThrottled):
        provider.wrap(b"sealed", BINDING, timeout=15)
    assert 1 < len(server.seen) < 10
    assert 1 < clock.time <= 5


def test_key_is_named_in_every_call_and_the_region_is_that_of_the_arn(server: FaultyServer, provider: AwsKms) -> None:
    server.usual = Reply(content={"CiphertextBlob": "d3JhcHBlZA==", "Plaintext": "c2VhbGVk", "KeyId": ARN})

    provider.wrap(b"sealed", BINDING, timeout=5)
    provider.unwrap(b"wrapped", BINDING, timeout=5)

    assert [seen.content["KeyId"] for seen in server.seen] == [ARN, ARN]
    assert [seen.content["EncryptionContext"] for seen in server.seen] == [BINDING, BINDING]
    assert all("/eu-west-3/kms/" in seen.headers["Authorization"] for seen in server.seen)


def test_what_is_asked_is_what_the_policy_of_the_page_allows(
    vault: LocalVault, kms: Kms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the whole life of a key: these actions and no other, each with an encryption context that names the vault."""
    policy = json.loads(on_the_page("AWS KMS", "json"))
    asked: list[str] = []
    contexts: list[dict[str, str]] = []
    original = AwsKms._connect

    def connect(provider: AwsKms, timeout: float) -> Any:
        client = original(provider, timeout)
        client.meta.events.register("before-parameter-build.kms", note)
        return client

    def note(params: dict[str, Any], model: Any, **kwargs: Any) -> None:
        asked.append(f"kms:{model.name}")
        contexts.append(params["EncryptionContext"])

    monkeypatch.setattr(AwsKms, "_connect", connect)
    activate(vault, {"provider": "aws", "settings": kms.settings()})
    verified = len(contexts)
    items = {"organization_id": "acme", "region": "europe"}
    key = vault.create_data_key(KeyContext(items))
    vault.purge()
    vault.decrypt_data_key(key.encrypted_keys)
    vault.rekey_data_key(key.encrypted_keys, ACME)

    assert set(asked) == set(policy["Action"])
    vault_id = vault.service.store.vault_id()
    assert policy["Condition"] == {"StringEquals": {"kms:EncryptionContext:vault": "the id of your keystore"}}
    assert {(each["vault"], each["environment"]) for each in contexts} == {(vault_id, "default")}
    assert {frozenset(each) for each in contexts[:verified]} == {frozenset({"vault", "environment", "purpose"})}
    assert {frozenset(each) for each in contexts[verified:]} == {
        frozenset({"vault", "environment", "data_key", "entry"})
    }
    assert {each["data_key"] for each in contexts[verified:]} == {key.id}
    assert all(re.fullmatch("[0-9a-f]{64}", each["entry"]) for each in contexts[verified:])
    assert not any(word in str(contexts) for item in items.items() for word in item)


def test_key_without_a_region_is_unavailable_and_says_why(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

    with pytest.raises(VaultUnavailable, match="NoRegionError"):
        AwsKms({"key_id": "alias/customer"}).wrap(b"sealed", BINDING, timeout=15)
    with pytest.raises(VaultUnavailable, match="ProfileNotFound"):
        AwsKms({"key_id": ARN, "profile": "none"}).wrap(b"sealed", BINDING, timeout=15)


def test_missing_credentials_are_unavailable(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    provider = AwsKms({"key_id": "alias/customer", "region": "eu-west-3", "endpoint_url": server.url})

    with pytest.raises(VaultUnavailable, match="NoCredentialsError"):
        provider.wrap(b"sealed", BINDING, timeout=15)
    provider.close()


def test_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(ImproperlyConfigured, match=r"pip install 'django-vault-fields\[aws\]'"):
        AwsKms({"key_id": ARN})


def test_threads_that_connect_at_once_keep_one_client(provider: AwsKms, monkeypatch: pytest.MonkeyPatch) -> None:
    original = provider._connect

    def connect(timeout: float) -> object:
        # Another thread is faster.
        provider._clients.setdefault(timeout, first)
        return original(timeout)

    first = original(1.0)
    monkeypatch.setattr(provider, "_connect", connect)

    assert provider._client(1.0) is first


def test_key_that_is_gone_is_revoked(kms: Kms) -> None:
    provider = AwsKms({"key_id": ARN.replace("eu-west-3", "eu-central-1"), "endpoint_url": kms.url})

    with pytest.raises(KeyRevoked, match="NotFoundException"):
        provider.wrap(b"sealed", BINDING, timeout=5)
    provider.close()


def test_copy_of_another_customer_is_revoked(kms: Kms) -> None:
    """Moto says AccessDeniedException here; the real KMS says IncorrectKeyException."""
    one, other = AwsKms(kms.settings()), AwsKms(kms.settings())

    with pytest.raises(KeyRevoked, match="AccessDeniedException"):
        other.unwrap(one.wrap(b"sealed", BINDING, timeout=5), BINDING, timeout=5)
    one.close()
    other.close()


def test_library_is_imported_only_when_it_is_needed() -> None:
    import subprocess

    code = "import sys, vault_fields.byok; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_debug_log_of_the_library_holds_no_data_key(kms: Kms, caplog: pytest.LogCaptureFixture) -> None:
    """It logs what it sends and receives: which is why a provider is never given a data key."""
    provider = AwsKms(kms.settings())
    with caplog.at_level(logging.DEBUG):
        provider.unwrap(provider.wrap(b"sealed before", BINDING, timeout=5), BINDING, timeout=5)

    assert "c2VhbGVkIGJlZm9yZQ==" in caplog.text
    provider.close()
