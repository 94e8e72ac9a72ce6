"""What every provider promises, asked of each of them in the same words."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.exceptions import InvalidTag

from tests.byok.peers import Gate
from vault_fields.byok import KINDS, build_provider
from vault_fields.embedded.customer.provider import KeyProvider, no_providers
from vault_fields.exceptions import VaultUnavailable

BINDING = {"vault": "v", "environment": "default", "data_key": "d", "entry": "e"}


@pytest.fixture
def provider(customer: dict) -> KeyProvider:
    return build_provider(customer["provider"], customer["settings"])


def test_what_was_wrapped_is_unwrapped(provider: KeyProvider) -> None:
    sealed = secrets.token_bytes(72)

    wrapped = provider.wrap(sealed, BINDING, timeout=5)

    assert sealed not in wrapped
    assert len(wrapped) < 512
    assert provider.unwrap(wrapped, BINDING, timeout=5) == sealed
    provider.close()
    assert provider.unwrap(wrapped, dict(reversed(BINDING.items())), timeout=5) == sealed
    provider.close()


def test_another_binding_does_not_open(provider: KeyProvider) -> None:
    wrapped = provider.wrap(b"sealed", BINDING, timeout=5)

    for other in ({}, {**BINDING, "entry": "f"}, {**BINDING, "more": ""}):
        with pytest.raises(InvalidTag):
            provider.unwrap(wrapped, other, timeout=5)
    provider.close()


def test_altered_copy_does_not_open(provider: KeyProvider) -> None:
    wrapped = provider.wrap(b"sealed", BINDING, timeout=5)

    for altered in (wrapped[:-3], wrapped[:20], bytes([*wrapped[:-4], wrapped[-4] ^ 1, *wrapped[-3:]]), b"x", b"\xff"):
        with pytest.raises(InvalidTag):
            provider.unwrap(altered, BINDING, timeout=5)
    provider.close()


def test_good_key_passes_inspection(provider: KeyProvider) -> None:
    provider.inspect(timeout=5)
    provider.close()


def test_threads_share_a_provider(provider: KeyProvider) -> None:
    def story(number: int) -> bool:
        sealed = bytes([number]) * 72
        return provider.unwrap(provider.wrap(sealed, BINDING, timeout=10), BINDING, timeout=10) == sealed

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(story, range(16)))
    provider.close()


def test_repr_shows_where_and_no_secret(provider: KeyProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = repr(provider)

    assert any(text in shown for text in ("customer.key", "arn:aws:kms", "transit/customer-"))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("gcp", {}, "the provider must be one of aws, file, openbao"),
        ("file", {}, "settings are missing: path"),
        ("file", {"path": "relative"}, "path must be absolute"),
        ("file", {"path": "/x", "mode": "1"}, "unknown settings: mode. There are: path."),
        ("file", {"path": "/x\ny"}, "path must be a text"),
        ("file", {"path": ""}, "path must be a text"),
        ("file", {"path": 7}, "path must be a text"),
        ("aws", {}, "settings are missing: key_id"),
        ("aws", {"key_id": "k", "secret_access_key": "s3cr3t"}, "unknown settings: secret_access_key"),
        ("aws", {"key_id": "k", "endpoint_url": "http://kms.example"}, "must begin with https://"),
        ("aws", {"key_id": "k", "endpoint_url": "http://localhost.example"}, "must begin with https://"),
        ("aws", {"key_id": "k", "endpoint_url": "https://user:s3cr3t@kms.example"}, "nothing but a host"),
        ("aws", {"key_id": "k", "endpoint_url": "https://"}, "nothing but a host"),
        ("aws", {"key_id": "k", "endpoint_url": "ftp://kms.example"}, "must begin with https://"),
        ("openbao", {"address": "https://bao"}, "settings are missing: key"),
        ("openbao", {"address": "https://bao", "key": "k"}, "either token_env or token_file"),
        (
            "openbao",
            {"address": "https://bao", "key": "k", "token_env": "T", "token_file": "/t"},
            "either token_env or",
        ),
        ("openbao", {"address": "https://bao", "key": "k", "token_file": "t"}, "token_file must be absolute"),
        ("openbao", {"address": "http://bao", "key": "k", "token_env": "T"}, "address must begin with https://"),
        ("openbao", {"address": "https://bao", "key": "a/b", "token_env": "T"}, "key must be a name"),
        ("openbao", {"address": "https://bao", "key": "..", "token_env": "T"}, "key must be a name"),
        ("openbao", {"address": "https://bao", "key": "k?", "token_env": "T"}, "key must be a name"),
        ("openbao", {"address": "https://bao", "key": "k", "mount": "/a", "token_env": "T"}, "mount must be a name"),
    ],
)
def test_settings_that_cannot_be(kind: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")) as caught:
        build_provider(kind, settings)

    assert "s3cr3t" not in str(caught.value)


def test_kinds_are_documented_names() -> None:
    assert sorted(KINDS) == ["aws", "file", "openbao"]
    assert {kind.name for kind in KINDS.values()} == {"AWS_KMS", "LOCAL_FILE", "OPENBAO_TRANSIT"}  # type: ignore[attr-defined]


def test_vault_without_providers_builds_none() -> None:
    with pytest.raises(ValueError, match="no provider 'file'"):
        no_providers("file", {"path": "/x"})


@pytest.mark.parametrize("peer", ["kms", "bao"])
def test_server_that_is_away_or_silent_is_unavailable_within_the_timeout(
    peer: str, request: pytest.FixtureRequest, gate: Callable[[str], Gate]
) -> None:
    server = request.getfixturevalue(peer)
    before = gate(server.url)
    kind, address = ("aws", "endpoint_url") if peer == "kms" else ("openbao", "address")
    provider = build_provider(kind, server.settings(**{address: before.url}))
    wrapped = provider.wrap(b"sealed", BINDING, timeout=5)

    for fault in (before.shut, before.hang):
        fault()
        started = time.monotonic()
        with pytest.raises(VaultUnavailable):
            provider.unwrap(wrapped, BINDING, timeout=1)
        assert time.monotonic() - started < 30
        before.unlock()
        assert provider.unwrap(wrapped, BINDING, timeout=5) == b"sealed"
    provider.close()
