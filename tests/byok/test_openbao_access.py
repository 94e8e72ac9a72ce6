"""The credentials, nodes and certificates by which a customer's key in OpenBao is asked, over a real server."""

import logging
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.backends.test_openbao_tokens import Role
from tests.byok.conftest import ACME, ITEM, activate, on_the_page
from tests.byok.peers import Bao, Gate
from tests.faulty_server import FaultyServer, Reply, faulty_server
from tests.leaks import leaks
from vault_fields.backends.local import LocalVault
from vault_fields.byok.openbao import OpenBaoTransit
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultUnavailable
from vault_fields.openbao import session

BINDING = {"data_key": "d"}
TOKEN = "s.TokenOfTheTests"
SECRET_ID = "SecretIdOfTheTests"
CIPHERTEXT = Reply(content={"data": {"ciphertext": "vault:v1:abcd"}})
TOO_NEW = Reply(400, content={"errors": ["cannot decrypt ciphertext: version is too new"]})

MakeProvider = Callable[..., OpenBaoTransit]


@pytest.fixture
def make(bao: Bao) -> Iterator[MakeProvider]:
    """Providers of keys of the server; a setting that is None is left out."""
    with ExitStack() as stack:

        def make(**settings: str | None) -> OpenBaoTransit:
            given = {name: value for name, value in (bao.settings() | settings).items() if value is not None}
            provider = OpenBaoTransit(given)
            stack.callback(provider.close)
            return provider

        yield make


@pytest.fixture
def role(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> Role:
    """A role whose tokens may use every key; one of its secret ids is in the environment."""
    role = Role(bao, "transit", auth=f"approle-{time.monotonic_ns()}", token_ttl="1h", token_policies=[policy_of(bao)])
    monkeypatch.setenv("SECRET_ID_OF_THE_TESTS", role.new_secret_id())
    return role


def policy_of(bao: Bao) -> str:
    token = bao.new_token()
    policies: list[str] = bao.call("auth/token/lookup", {"token": token})["data"]["policies"]
    return next(policy for policy in policies if policy != "default")


def by_role(role: Role, **settings: str | None) -> dict[str, str | None]:
    return {
        "token_env": None,
        "role_id": role.role_id,
        "secret_id_env": "SECRET_ID_OF_THE_TESTS",
        "approle_mount": role.auth,
        **settings,
    }


def session_of(provider: OpenBaoTransit) -> session.Session:
    return provider._engine._session


def grow_old(provider: OpenBaoTransit, seconds: float) -> None:
    session_of(provider)._clock = lambda: time.monotonic() + seconds


def token_of(provider: OpenBaoTransit) -> str:
    lease = session_of(provider).lease
    assert lease is not None
    return lease.grant.token


def test_a_role_logs_in_once_and_again_when_its_token_is_refused(
    make: MakeProvider, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = make(**by_role(role))
    wrapped = provider.wrap(b"sealed", BINDING, timeout=30)
    assert provider.unwrap(wrapped, BINDING, timeout=30) == b"sealed"
    assert len(role.tokens()) == 1
    role.revoke_all()
    with pytest.raises(KeyRevoked):
        provider.unwrap(wrapped, BINDING, timeout=30)
    monkeypatch.setattr(session, "PAUSE", 0.0)

    assert provider.unwrap(wrapped, BINDING, timeout=30) == b"sealed"
    assert len(role.tokens()) == 1


def test_token_of_a_role_is_renewed_and_replaced_once_it_has_expired(make: MakeProvider, role: Role) -> None:
    provider = make(**by_role(role))
    provider.wrap(b"sealed", BINDING, timeout=30)
    token = token_of(provider)
    grow_old(provider, 2500)
    provider.wrap(b"sealed", BINDING, timeout=30)
    assert token_of(provider) == token
    grow_old(provider, 9000)
    provider.wrap(b"sealed", BINDING, timeout=30)
    assert token_of(provider) != token


def test_secret_id_in_a_file_is_read_for_each_login(make: MakeProvider, role: Role, tmp_path: Path) -> None:
    path = tmp_path / "secret_id"
    provider = make(**by_role(role, secret_id_env=None, secret_id_file=str(path)))
    with pytest.raises(VaultUnavailable, match="the file of secret_id_file cannot be read"):
        provider.wrap(b"sealed", BINDING, timeout=30)
    path.write_text("\n")
    with pytest.raises(VaultUnavailable, match="the file of secret_id_file holds no secret id"):
        provider.wrap(b"sealed", BINDING, timeout=30)
    path.write_text("hidden")
    with pytest.raises(VaultRefused, match=r"AppRole was refused .* Check role_id, secret_id_file and") as caught:
        provider.wrap(b"sealed", BINDING, timeout=30)
    assert type(caught.value) is VaultRefused
    assert "hidden" not in str(caught.value)

    path.write_text(role.new_secret_id() + "\n")
    assert provider.wrap(b"sealed", BINDING, timeout=30)


def test_secret_id_that_is_not_in_the_environment_is_unavailable(
    make: MakeProvider, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECRET_ID_OF_THE_TESTS")
    with pytest.raises(VaultUnavailable, match="variable SECRET_ID_OF_THE_TESTS holds no secret id"):
        make(**by_role(role)).wrap(b"sealed", BINDING, timeout=30)


def test_a_role_with_the_policy_of_the_page_verifies_and_opens(vault: LocalVault, bao: Bao, role: Role) -> None:
    policy = f"page-{role.auth}"
    bao.call(f"sys/policies/acl/{policy}", {"policy": on_the_page("OpenBao, HashiCorp Vault", "text")})
    bao.call("transit/keys/customer-acme", {})
    role.change(token_policies=[policy])
    settings = by_role(role, address=bao.url, key="customer-acme")
    activate(
        vault,
        {"provider": "openbao", "settings": {name: value for name, value in settings.items() if value is not None}},
    )

    key = vault.create_data_key(ACME)
    vault.purge()
    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
    [shown] = vault.byok.all()
    assert not any(role.new_secret_id() in text for text in shown.settings.values())
    assert shown.settings["secret_id_env"] == "SECRET_ID_OF_THE_TESTS"


def test_a_role_that_may_create_keys_is_not_verified(vault: LocalVault, bao: Bao, role: Role) -> None:
    token = bao.new_token("create", "update")
    policies = bao.call("auth/token/lookup", {"token": token})["data"]["policies"]
    role.change(token_policies=policies)
    settings = by_role(role, address=bao.url, key=bao.new_key())
    vault.byok.configure(
        *ITEM, provider="openbao", settings={name: value for name, value in settings.items() if value is not None}
    )
    with pytest.raises(VaultRefused, match="the token may create keys"):
        vault.byok.verify(*ITEM)


def test_token_of_the_environment_is_looked_up_after_a_minute_and_renewed(
    make: MakeProvider, bao: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bao.call("auth/token/create", {"policies": [policy_of(bao)], "ttl": "30m"})
    monkeypatch.setenv("SHORT_TOKEN", made["auth"]["client_token"])
    provider = make(token_env="SHORT_TOKEN")
    provider.wrap(b"sealed", BINDING, timeout=30)
    first = session_of(provider).lease
    grow_old(provider, 50)
    provider.wrap(b"sealed", BINDING, timeout=30)
    assert session_of(provider).lease is first, "not yet"
    grow_old(provider, 70)
    provider.wrap(b"sealed", BINDING, timeout=30)
    looked_up = session_of(provider).lease
    assert looked_up is not None
    assert 1600 < looked_up.grant.seconds <= 1800
    grow_old(provider, 1500)
    provider.wrap(b"sealed", BINDING, timeout=30)

    renewed = session_of(provider).lease
    assert renewed is not None
    assert renewed is not looked_up
    assert renewed.grant.token == looked_up.grant.token


def test_another_token_in_the_environment_counts_at_once(
    make: MakeProvider, bao: Bao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHANGING_TOKEN", bao.new_token("deny"))
    provider = make(token_env="CHANGING_TOKEN")
    with pytest.raises(KeyRevoked):
        provider.wrap(b"sealed", BINDING, timeout=30)
    monkeypatch.setenv("CHANGING_TOKEN", bao.new_token())

    assert provider.wrap(b"sealed", BINDING, timeout=30)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("TOKEN_OF_THE_TESTS", TOKEN)
    with faulty_server() as server:
        server.usual = CIPHERTEXT
        yield server


def scripted(*addresses: str, **settings: str) -> OpenBaoTransit:
    given = {"key": "k", "token_env": "TOKEN_OF_THE_TESTS"} if "role_id" not in settings else {"key": "k"}
    return OpenBaoTransit({**given, "addresses": ", ".join(addresses), **settings})


def test_token_that_cannot_be_looked_up_now_is_used_on_and_a_warning_says_so(
    server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    provider = scripted(server.url)
    provider.wrap(b"sealed", BINDING, timeout=30)
    grow_old(provider, 70)
    server.will(*[Reply(500, raw=b"")] * 4)
    with caplog.at_level(logging.WARNING, logger="vault_fields.transit"):
        assert provider.wrap(b"sealed", BINDING, timeout=30)
        assert provider.wrap(b"sealed", BINDING, timeout=30)

    [record] = caplog.records
    assert record.getMessage().startswith(
        "The transit key transit/k: The token could not be renewed, and is valid for an unknown time: "
    )
    assert TOKEN not in caplog.text
    provider.close()


def test_next_node_is_asked_where_one_is_away(bao: Bao, make: MakeProvider) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        provider = make(address=None, addresses=f"{away},{bao.url}")
        wrapped = provider.wrap(b"sealed", BINDING, timeout=30)
        assert provider.unwrap(wrapped, BINDING, timeout=30) == b"sealed"
    assert away in repr(provider)
    assert bao.url in repr(provider)


def test_node_that_is_lost_is_left_for_another_one(bao: Bao, make: MakeProvider) -> None:
    gates = [Gate(bao.url), Gate(bao.url)]
    try:
        provider = make(address=None, addresses=",".join(gate.url for gate in gates))
        wrapped = provider.wrap(b"sealed", BINDING, timeout=30)
        for gate in gates:
            gate.shut()
            assert provider.unwrap(wrapped, BINDING, timeout=30) == b"sealed"
            gate.unlock()
    finally:
        for gate in gates:
            gate.shut()


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(307, raw=b"", headers={"Location": "http://127.0.0.1:1/"}), "standby node redirects"),
        (Reply(503, content={"errors": ["Vault is sealed"]}), "server is sealed"),
        (Reply(500, content={"errors": ["local node not active but active cluster node not found"]}), "no active node"),
    ],
    ids=["redirect", "sealed", "no leader"],
)
def test_node_that_cannot_answer_is_told_apart(server: FaultyServer, reply: Reply, says: str) -> None:
    server.usual = reply
    provider = scripted(server.url)
    with pytest.raises(VaultUnavailable, match=rf"{says}.*Host: 127\.0\.0\.1:{server.server_port}\."):
        provider.wrap(b"sealed", BINDING, timeout=2)
    provider.close()


def test_of_several_nodes_one_that_has_not_heard_of_a_version_is_asked_again(server: FaultyServer) -> None:
    plaintext = Reply(content={"data": {"plaintext": "c2VhbGVk"}})
    server.will(TOO_NEW, TOO_NEW, plaintext)
    provider = scripted(server.url, server.url)
    assert provider.unwrap(b"vault:v2:abcd", BINDING, timeout=30) == b"sealed"
    assert len(server.seen) == 3
    provider.close()


def test_of_several_nodes_a_key_that_is_missing_is_believed(server: FaultyServer) -> None:
    """A page of keys that were withdrawn must not take longer than the vault's time."""
    server.usual = Reply(400, content={"errors": ["encryption key not found"]})
    provider = scripted(server.url, server.url)
    with pytest.raises(KeyRevoked):
        provider.unwrap(b"vault:v1:abcd", BINDING, timeout=30)
    assert len(server.seen) == 1
    provider.close()


def test_certificates_that_are_not_there_are_refused(tmp_path: Path, server: FaultyServer) -> None:
    provider = scripted("https://127.0.0.1:1", ca_file=str(tmp_path / "none.pem"))
    for call in (
        lambda: provider.wrap(b"sealed", BINDING, timeout=30),
        lambda: provider.inspect(timeout=30),
    ):
        with pytest.raises(VaultRefused, match=r"^The transit key transit/k: .* certificates in ca_file"):
            call()
    provider.close()


def test_inspection_of_a_server_that_is_away_is_unavailable(server: FaultyServer) -> None:
    server.usual = Reply(500, raw=b"")
    provider = scripted(server.url)
    with pytest.raises(VaultUnavailable):
        provider.inspect(timeout=1)
    provider.close()


def test_no_secret_is_in_repr_log_or_traceback(
    server: FaultyServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SECRET_ID_OF_THE_TESTS", SECRET_ID)
    login = Reply(content={"auth": {"client_token": TOKEN, "lease_duration": 3600, "renewable": True}})
    provider = scripted(server.url, role_id="role-4711", secret_id_env="SECRET_ID_OF_THE_TESTS")
    server.will(login, CIPHERTEXT)
    provider.wrap(b"sealed-4711", BINDING, timeout=30)
    texts = [repr(provider), repr(session_of(provider).lease), repr(provider._engine)]
    leaky: dict[str, Any] = {"errors": [f"{TOKEN} {SECRET_ID}"]}
    for reply in (Reply(500, content=leaky), Reply(400, content=leaky), Reply(403, content=leaky)):
        server.usual = reply
        fresh = scripted(server.url, role_id="role-4711", secret_id_env="SECRET_ID_OF_THE_TESTS")
        for each in (provider, fresh):
            with pytest.raises(VaultError) as caught:
                each.wrap(b"sealed-4711", BINDING, timeout=1)
            texts.append("".join(traceback.format_exception(caught.value)))
            assert leaks(caught.value, [TOKEN, SECRET_ID, b"sealed-4711"]) == []
        fresh.close()
    texts += [record.getMessage() for record in caplog.records]
    for text in texts:
        assert TOKEN not in text
        assert SECRET_ID not in text
    provider.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"address": "https://a", "addresses": "https://a,https://b"}, "give either address or addresses."),
        ({"address": None}, "give either address or addresses."),
        ({"address": None, "addresses": "https://a,http://hidden"}, "addresses must begin with https://"),
        ({"address": None, "addresses": "https://a,,https://b"}, "addresses must be a valid URL"),
        ({"address": "https://u:hidden@a"}, "address must not hold credentials"),
        ({"role_id": "r"}, "give either token_env or token_file or role_id."),
        ({"token_env": None, "role_id": "r"}, "role_id needs either secret_id_env or secret_id_file."),
        (
            {"token_env": None, "role_id": "r", "secret_id_env": "S", "secret_id_file": "/s"},
            "role_id needs either secret_id_env or secret_id_file.",
        ),
        ({"token_env": None, "role_id": "r", "secret_id_file": "s"}, "secret_id_file must be absolute."),
        ({"token_env": None, "role_id": "hid den", "secret_id_env": "S"}, "role_id must be a text without spaces"),
        ({"token_env": None, "role_id": "r", "secret_id_env": "S", "approle_mount": "/a"}, "and approle_mount a path"),
        ({"token_env": None, "role_id": "r", "secret_id": "hidden"}, "unknown settings: secret_id."),
        ({"secret_id_env": "S"}, "secret_id_env, secret_id_file and approle_mount are for role_id."),
        ({"approle_mount": "a"}, "are for role_id."),
        ({"namespace": "a b"}, "namespace must be a name"),
        ({"namespace": "a/../b"}, "namespace must be a name"),
        ({"mount": "a/./b"}, "mount must be a name"),
        ({"ca_file": "ca.pem"}, "ca_file must be absolute."),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, str | None], message: str) -> None:
    given = {"address": "https://openbao.example", "key": "k", "token_env": "T", **settings}
    with pytest.raises(ValueError) as caught:
        OpenBaoTransit({name: value for name, value in given.items() if value is not None})
    assert message in str(caught.value)
    assert "hid" not in str(caught.value)


def test_namespace_may_end_with_a_slash() -> None:
    settings = {"address": "https://openbao.example", "key": "k", "token_env": "T", "namespace": "team-a/"}
    assert session_of(OpenBaoTransit(settings)).headers() == {"X-Vault-Namespace": "team-a/"}
