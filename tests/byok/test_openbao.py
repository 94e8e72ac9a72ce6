"""A transit key of a real OpenBao server, and answers that it does not give on demand."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from tests.byok.conftest import ACME, ITEM, PAGE, activate, on_the_page
from tests.byok.peers import Bao
from tests.faulty_server import FaultyServer, Reply, faulty_server
from vault_fields.backends.local import LocalVault
from vault_fields.byok.openbao import OpenBaoTransit
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultThrottled, VaultUnavailable

BINDING = {"data_key": "d"}


@pytest.fixture
def key(bao: Bao) -> str:
    return bao.new_key()


@pytest.fixture
def provider(bao: Bao, key: str) -> Iterator[OpenBaoTransit]:
    provider = OpenBaoTransit(bao.settings(key=key))
    yield provider
    provider.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("TOKEN_OF_THE_TESTS", "s.token")
    with faulty_server() as server:
        yield server


@pytest.fixture
def scripted(server: FaultyServer) -> Iterator[OpenBaoTransit]:
    provider = OpenBaoTransit({"address": server.url, "key": "k", "token_env": "TOKEN_OF_THE_TESTS", "mount": "a/b"})
    yield provider
    provider.close()


def test_rotated_key_opens_what_its_former_version_wrapped(bao: Bao, key: str, provider: OpenBaoTransit) -> None:
    wrapped = provider.wrap(b"sealed", BINDING, timeout=5)
    bao.call(f"transit/keys/{key}/rotate", {})

    assert wrapped.startswith(b"vault:v1:")
    assert provider.wrap(b"sealed", BINDING, timeout=5).startswith(b"vault:v2:")
    assert provider.unwrap(wrapped, BINDING, timeout=5) == b"sealed"


def test_version_that_its_owner_retired_is_revoked(bao: Bao, key: str, provider: OpenBaoTransit) -> None:
    wrapped = provider.wrap(b"sealed", BINDING, timeout=5)
    bao.call(f"transit/keys/{key}/rotate", {})
    bao.call(f"transit/keys/{key}/config", {"min_decryption_version": 2})

    with pytest.raises(KeyRevoked, match="was retired"):
        provider.unwrap(wrapped, BINDING, timeout=5)


def test_deleted_key_is_revoked_and_not_made_anew(bao: Bao, key: str, provider: OpenBaoTransit) -> None:
    wrapped = provider.wrap(b"sealed", BINDING, timeout=5)
    bao.call(f"transit/keys/{key}/config", {"deletion_allowed": True})
    bao.call(f"transit/keys/{key}", method="DELETE")

    for call in (lambda: provider.unwrap(wrapped, BINDING, timeout=5), lambda: provider.wrap(b"x", BINDING, timeout=5)):
        with pytest.raises(KeyRevoked):
            call()
    assert bao.root.get(f"transit/keys/{key}").status_code == 404


def test_soft_deleted_key_is_revoked(bao: Bao, key: str, provider: OpenBaoTransit) -> None:
    bao.call(f"transit/keys/{key}/config", {"deletion_allowed": True})
    bao.call(f"transit/keys/{key}/soft-delete", method="DELETE")

    with pytest.raises(KeyRevoked):
        provider.wrap(b"sealed", BINDING, timeout=5)


def test_token_that_may_do_nothing_is_revoked(bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENIED", bao.new_token("deny"))
    provider = OpenBaoTransit(bao.settings(key=key, token_env="DENIED"))

    with pytest.raises(KeyRevoked):
        provider.wrap(b"sealed", BINDING, timeout=5)
    provider.close()


@pytest.mark.parametrize("capabilities", [("create", "update"), ("sudo", "update")])
def test_token_that_may_create_keys_fails_inspection(
    bao: Bao, monkeypatch: pytest.MonkeyPatch, capabilities: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MIGHTY", bao.new_token(*capabilities))
    provider = OpenBaoTransit(bao.settings(token_env="MIGHTY"))

    with pytest.raises(VaultRefused, match=r"the token may create keys\..* Host: 127\.0\.0\.1:\d+\.$"):
        provider.inspect(timeout=5)
    provider.close()


def test_policy_of_the_page_is_all_that_a_token_needs(
    vault: LocalVault, bao: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = on_the_page("OpenBao, HashiCorp Vault", "text")
    assert "customer-acme" in rules
    monkeypatch.setenv("FEW_RIGHTS", bao.token_for(rules))
    bao.call("transit/keys/customer-acme", {})

    activate(vault, {"provider": "openbao", "settings": bao.settings(key="customer-acme", token_env="FEW_RIGHTS")})
    key = vault.create_data_key(ACME)
    vault.purge()
    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_key_that_a_token_could_make_anew_is_not_verified(
    vault: LocalVault, bao: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine does make it, which is why: what its owner deleted is there again, under the same name."""
    monkeypatch.setenv("MIGHTY", bao.new_token("create", "update"))
    settings = bao.settings(token_env="MIGHTY")
    vault.byok.configure(*ITEM, provider="openbao", settings=settings)
    with pytest.raises(VaultRefused, match=r"the token may create keys\..* Host: 127\.0\.0\.1:\d+\.$"):
        vault.byok.verify(*ITEM)

    key = settings["key"]
    bao.call(f"transit/keys/{key}/config", {"deletion_allowed": True})
    bao.call(f"transit/keys/{key}", method="DELETE")
    provider = OpenBaoTransit(settings)
    assert provider.wrap(b"sealed", BINDING, timeout=5)
    assert bao.root.get(f"transit/keys/{key}").status_code == 200
    provider.close()


@pytest.mark.parametrize("kind", ["aes256-gcm96", "chacha20-poly1305"])
def test_key_of_a_type_with_associated_data_is_verified(vault: LocalVault, bao: Bao, kind: str) -> None:
    assert f"`{kind}`" in PAGE
    bao.call(f"transit/keys/{kind}", {"type": kind})

    activate(vault, {"provider": "openbao", "settings": bao.settings(key=kind)})


@pytest.mark.parametrize("kind", ["rsa-2048", "ed25519"])
def test_key_of_another_type_is_not_verified(vault: LocalVault, bao: Bao, kind: str) -> None:
    bao.call(f"transit/keys/{kind}", {"type": kind})
    vault.byok.configure(*ITEM, provider="openbao", settings=bao.settings(key=kind))

    with pytest.raises(VaultRefused) as caught:
        vault.byok.verify(*ITEM)
    assert not isinstance(caught.value, KeyRevoked)


def test_token_that_is_not_valid_fails_inspection(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVALID", "s.invalid")
    provider = OpenBaoTransit(bao.settings(token_env="INVALID"))

    with pytest.raises(VaultRefused, match="the token is not valid, or may not look") as caught:
        provider.inspect(timeout=5)
    assert not isinstance(caught.value, KeyRevoked)
    provider.close()


def test_token_in_a_file_may_be_renewed(bao: Bao, tmp_path: Path) -> None:
    path = tmp_path / "token"
    settings = bao.settings(token_file=str(path))
    del settings["token_env"]
    provider = OpenBaoTransit(settings)
    with pytest.raises(VaultUnavailable, match="cannot be read"):
        provider.wrap(b"sealed", BINDING, timeout=5)
    path.write_text("\n")
    with pytest.raises(VaultUnavailable, match="holds no token"):
        provider.wrap(b"sealed", BINDING, timeout=5)

    path.write_text(bao.new_token() + "\n")
    wrapped = provider.wrap(b"sealed", BINDING, timeout=5)
    path.write_text("s.revoked")
    with pytest.raises(KeyRevoked):
        provider.unwrap(wrapped, BINDING, timeout=5)
    path.write_text(bao.new_token())
    assert provider.unwrap(wrapped, BINDING, timeout=5) == b"sealed"
    provider.close()
    provider.close()


def test_missing_token_is_unavailable(scripted: OpenBaoTransit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN_OF_THE_TESTS")

    with pytest.raises(VaultUnavailable, match="TOKEN_OF_THE_TESTS holds no token"):
        scripted.wrap(b"sealed", BINDING, timeout=5)


def test_namespace_and_mount_are_sent_and_the_token_is_a_header(server: FaultyServer) -> None:
    server.usual = Reply(content={"data": {"ciphertext": "vault:v1:abcd"}})
    settings = {"address": server.url, "key": "k", "token_env": "TOKEN_OF_THE_TESTS", "mount": "a/b", "namespace": "n"}
    provider = OpenBaoTransit(settings)

    assert provider.wrap(b"sealed", BINDING, timeout=5) == b"vault:v1:abcd"
    [seen] = server.seen
    assert seen.path == "/v1/a/b/encrypt/k"
    assert (seen.headers["X-Vault-Token"], seen.headers["X-Vault-Namespace"]) == ("s.token", "n")
    assert "s.token" not in repr(provider)
    provider.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(503, content={"errors": ["Vault is sealed"]}), VaultUnavailable),
        (Reply(500, content={"errors": ["internal error"]}), VaultUnavailable),
        (Reply(429, content={"errors": ["rate limit"]}), VaultThrottled),
        (Reply(403, content={"errors": ["permission denied"]}), KeyRevoked),
        (Reply(404, content={"errors": []}), KeyRevoked),
        (Reply(400, content={"errors": ["missing client token"]}), VaultRefused),
        (Reply(400, content={"errors": None}), VaultRefused),
        (Reply(400, content={"errors": 5}), VaultRefused),
        (Reply(200, content={"data": None}), VaultRefused),
        (Reply(200, content={"data": {"ciphertext": 1, "plaintext": 1}}), VaultRefused),
        (Reply(200, content={"data": {"ciphertext": "é", "plaintext": "é"}}), VaultRefused),
        (Reply(200, raw=b"<html>", headers={"Content-Type": "text/html"}), VaultRefused),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else f"{value.status} {value.content}",
)
def test_answers_are_told_apart(
    server: FaultyServer, scripted: OpenBaoTransit, reply: Reply, error: type[VaultError]
) -> None:
    server.usual = reply

    for call in (scripted.wrap, scripted.unwrap):
        with pytest.raises(VaultError) as caught:
            call(b"bytes", BINDING, timeout=5)
        assert type(caught.value) is error


def test_answer_about_capabilities_that_makes_no_sense_fails_inspection(
    server: FaultyServer, scripted: OpenBaoTransit
) -> None:
    for content in ({"capabilities": "update"}, {}):
        server.usual = Reply(content=content)
        with pytest.raises(VaultRefused, match="may create keys"):
            scripted.inspect(timeout=1)


def test_version_that_never_was_does_not_open(provider: OpenBaoTransit) -> None:
    with pytest.raises(InvalidTag):
        provider.unwrap(b"vault:v9:" + b"A" * 80, BINDING, timeout=5)
