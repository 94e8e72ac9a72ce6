"""Where the token of an ``OpenBaoVault`` comes from, and how it stays valid; over a real server."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.backends.openbao import granted_policy, new_mount, new_policy, new_token, new_vault
from tests.byok.peers import Bao
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.exceptions import VaultRefused, VaultUnavailable
from vault_fields.keys import KeyContext
from vault_fields.openbao import session
from vault_fields.openbao.session import LOOKUP, RENEW
from vault_fields.runtime.deadline import Deadline

ACME = KeyContext({"organization_id": "acme"})

MakeVault = Callable[..., OpenBaoVault]


@pytest.fixture
def mount(bao: Bao) -> str:
    return new_mount(bao)


@pytest.fixture
def make_vault(bao: Bao, mount: str) -> Iterator[MakeVault]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(new_vault(bao, mount=mount, max_cached_keys=0, **options)))


class Role:
    """A role for AppRole, and the logins by it."""

    def __init__(self, bao: Bao, mount: str, *, auth: str | None = None, **settings: Any) -> None:
        self.auth = auth or f"approle-{mount}"
        self._bao = bao
        self._settings = {"token_policies": [new_policy(bao, granted_policy(mount))], **settings}
        bao.call(f"sys/auth/{self.auth}", {"type": "approle"})
        self.change()
        self.role_id: str = bao.call(f"auth/{self.auth}/role/app/role-id", method="GET")["data"]["role_id"]

    def change(self, **settings: Any) -> None:
        self._bao.call(f"auth/{self.auth}/role/app", self._settings | settings)

    def new_secret_id(self) -> str:
        secret_id: str = self._bao.call(f"auth/{self.auth}/role/app/secret-id", {})["data"]["secret_id"]
        return secret_id

    def options(self) -> dict[str, str]:
        return {"role_id": self.role_id, "secret_id": self.new_secret_id(), "approle_mount": self.auth}

    def tokens(self) -> list[str]:
        """The accessors of the tokens that there are by logins."""
        accessors = self._bao.call("auth/token/accessors?list=true", method="GET")["data"]["keys"]
        found = [self._bao.root.post("auth/token/lookup-accessor", json={"accessor": each}) for each in accessors]
        return [each.json()["data"]["accessor"] for each in found if each.status_code == 200 and self._is_ours(each)]

    def revoke_all(self) -> None:
        for accessor in self.tokens():
            self._bao.call("auth/token/revoke-accessor", {"accessor": accessor})

    def _is_ours(self, response: Any) -> bool:
        return str(response.json()["data"]["path"]).startswith(f"auth/{self.auth}/")


@pytest.fixture
def role(bao: Bao, mount: str) -> Role:
    return Role(bao, mount, token_ttl="1h")


def logged_in(vault: OpenBaoVault) -> session.Session:
    return vault._engine._session


def grow_old(vault: OpenBaoVault, seconds: float) -> None:
    """Let the clock of the session be so much later."""
    logged_in(vault)._clock = lambda: time.monotonic() + seconds


def test_many_threads_log_in_once(make_vault: MakeVault, role: Role) -> None:
    vault = make_vault(**role.options())

    with ThreadPoolExecutor(20) as pool:
        keys = [future.result() for future in [pool.submit(vault.create_data_key, ACME) for _ in range(20)]]

    assert len({key.plaintext for key in keys}) == 20
    assert len(role.tokens()) == 1


def test_coroutines_log_in_once(make_vault: MakeVault, role: Role) -> None:
    vault = make_vault(**role.options())

    async def scene() -> None:
        await asyncio.gather(*(vault.acreate_data_key(ACME) for _ in range(10)))
        await vault.aclose()

    asyncio.run(scene())
    assert len(role.tokens()) == 1


def test_wrong_credentials_are_refused_and_not_shown(make_vault: MakeVault, role: Role) -> None:
    for wrong in ({"role_id": "hidden"}, {"secret_id": "hidden"}, {"approle_mount": "hidden"}):
        vault = make_vault(**{**role.options(), **wrong})
        with pytest.raises(
            VaultRefused, match=r"login by AppRole was refused .* Check role_id.*Host: 127\.0\.0\.1:\d+\.$"
        ) as caught:
            vault.create_data_key(ACME)
        assert caught.value.alias == "tested"
        assert "hidden" not in str(caught.value)
        with pytest.raises(VaultRefused, match="login by AppRole was refused"):
            asyncio.run(vault.acreate_data_key(ACME))


def test_revoked_token_is_replaced_by_another_login(
    make_vault: MakeVault, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PAUSE", 0.0)
    vault = make_vault(**role.options())
    vault.create_data_key(ACME)
    role.revoke_all()

    assert vault.create_data_key(ACME)
    assert len(role.tokens()) == 1
    role.revoke_all()

    async def scene() -> None:
        assert await vault.acreate_data_key(ACME)
        await vault.aclose()

    asyncio.run(scene())


def test_many_threads_that_are_refused_log_in_once(
    make_vault: MakeVault, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = make_vault(**role.options())
    vault.create_data_key(ACME)
    refused = logged_in(vault).lease
    monkeypatch.setattr(session, "PAUSE", 0.0)
    role.revoke_all()

    with ThreadPoolExecutor(10) as pool:
        assert all(future.result() for future in [pool.submit(vault.create_data_key, ACME) for _ in range(10)])
    assert len(role.tokens()) == 1
    assert logged_in(vault).replace(refused, vault._client, Deadline(1.0)), "another thread has done it"


def test_fresh_token_that_is_refused_is_not_replaced_again_and_again(
    make_vault: MakeVault, bao: Bao, mount: str
) -> None:
    role = Role(bao, mount, token_ttl="1h", token_policies=["default"])
    vault = make_vault(**role.options())

    async def scene() -> None:
        with pytest.raises(VaultRefused, match="permission denied"):
            await vault.acreate_data_key(ACME)
        await vault.aclose()

    for _ in range(5):
        with pytest.raises(VaultRefused, match="permission denied"):
            vault.create_data_key(ACME)
    asyncio.run(scene())
    assert len(role.tokens()) == 1


def test_new_policies_count_after_another_login(
    make_vault: MakeVault, bao: Bao, mount: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PAUSE", 0.0)
    role = Role(bao, mount, token_ttl="1h")
    role.change(token_policies=["default"])
    vault = make_vault(**role.options())
    with pytest.raises(VaultRefused):
        vault.create_data_key(ACME)
    role.change()

    assert vault.create_data_key(ACME)


def test_token_of_a_login_is_renewed_before_it_expires(make_vault: MakeVault, role: Role) -> None:
    vault = make_vault(**role.options())
    vault.create_data_key(ACME)
    first = logged_in(vault).lease
    assert first is not None
    grow_old(vault, 2300)
    assert vault.create_data_key(ACME)
    assert logged_in(vault).lease is first, "not yet"
    grow_old(vault, 2500)
    assert vault.create_data_key(ACME)

    renewed = logged_in(vault).lease
    assert renewed is not None
    assert renewed is not first
    assert renewed.grant.token == first.grant.token
    assert len(role.tokens()) == 1


def test_token_near_its_greatest_age_is_replaced(make_vault: MakeVault, bao: Bao, mount: str) -> None:
    role = Role(bao, mount, token_ttl="1h", token_max_ttl="1h")
    vault = make_vault(**role.options())
    vault.create_data_key(ACME)
    held = logged_in(vault).lease
    assert held is not None
    role.change(token_max_ttl="4h")
    # As if it had been granted four hours: what a renewal brings now is much less.
    logged_in(vault)._lease = session.TokenLease(
        session.Grant(held.grant.token, 14400, renewable=True), held.since, held.since
    )
    assert vault.create_data_key(ACME)

    now = logged_in(vault).lease
    assert now is not None
    assert now.grant.token != held.grant.token


def test_expired_token_of_a_login_is_replaced(make_vault: MakeVault, role: Role) -> None:
    vault = make_vault(**role.options())
    vault.create_data_key(ACME)
    grow_old(vault, 4000)

    assert vault.create_data_key(ACME)
    assert len(role.tokens()) == 2


def test_token_that_cannot_be_renewed_now_is_used_on_and_a_warning_says_so(
    make_vault: MakeVault, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    vault = make_vault(**role.options())
    vault.create_data_key(ACME)
    held = logged_in(vault).lease
    assert held is not None
    grow_old(vault, 2500)
    broken = pytest.MonkeyPatch()
    broken.setattr(session, "RENEW", "/v1/auth/token/nothing")
    with caplog.at_level(logging.WARNING, logger="vault_fields.transit"):
        assert vault.create_data_key(ACME)
        assert vault.create_data_key(ACME)
    broken.undo()

    assert [record.getMessage()[:62] for record in caplog.records] == [
        "VAULTS['tested']: The token could not be renewed, and is valid"
    ]
    assert held.grant.token not in caplog.text
    grow_old(vault, 2520)
    assert vault.create_data_key(ACME)
    assert len(caplog.records) == 1


def test_nobody_waits_for_a_renewal_while_the_token_is_valid(make_vault: MakeVault, role: Role) -> None:
    vault = make_vault(**role.options())
    vault.create_data_key(ACME)
    grow_old(vault, 2500)
    with logged_in(vault)._lock:
        assert vault.create_data_key(ACME)


def test_without_a_token_in_time_the_vault_is_unavailable(make_vault: MakeVault, role: Role) -> None:
    vault = make_vault(timeout=0.2, **role.options())
    with (
        logged_in(vault)._lock,
        pytest.raises(VaultUnavailable, match=r"no token could be had in time\. Host: 127\.0\.0\.1:\d+\."),
    ):
        vault.create_data_key(ACME)


def test_given_token_is_renewed(make_vault: MakeVault, bao: Bao, mount: str) -> None:
    vault = make_vault(token=new_token(bao, mount, ttl="30m"))
    vault.create_data_key(ACME)
    first = logged_in(vault).lease
    assert first is not None
    assert 1700 < first.grant.seconds <= 1800
    grow_old(vault, 1300)
    vault.create_data_key(ACME)

    assert logged_in(vault).lease is not first


def test_given_token_that_cannot_be_renewed_is_used_until_it_ends(make_vault: MakeVault, bao: Bao, mount: str) -> None:
    token = new_token(bao, mount, ttl="30m", renewable=False)
    vault = make_vault(token=token)
    vault.create_data_key(ACME)
    grow_old(vault, 1300)
    assert vault.create_data_key(ACME)
    assert logged_in(vault).is_ready
    bao.call("auth/token/revoke", {"token": token})

    with pytest.raises(VaultRefused, match="the token is not valid any more"):
        vault.create_data_key(ACME)


def test_given_token_that_may_not_look_at_itself_is_used_as_it_is(make_vault: MakeVault, bao: Bao, mount: str) -> None:
    vault = make_vault(token=new_token(bao, mount, ttl="30m", no_default_policy=True))

    assert vault.create_data_key(ACME)
    assert logged_in(vault).is_ready
    assert LOOKUP != RENEW


def test_token_in_a_file_is_read_again(
    make_vault: MakeVault, bao: Bao, mount: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    path.write_text(new_token(bao, mount) + "\n")
    vault = make_vault(token_file=path)
    vault.create_data_key(ACME)
    path.write_text(new_token(bao, mount))
    grow_old(vault, 50)
    vault.create_data_key(ACME)

    held = logged_in(vault).lease
    assert held is not None
    assert held.grant.token == path.read_text()


def test_token_of_a_file_that_is_refused_is_read_again_at_once(
    make_vault: MakeVault, bao: Bao, mount: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PAUSE", 0.0)
    path = tmp_path / "token"
    path.write_text(new_token(bao, mount))
    vault = make_vault(token_file=str(path))
    vault.create_data_key(ACME)
    bao.call("auth/token/revoke", {"token": path.read_text()})
    with pytest.raises(VaultRefused, match="permission denied"):
        vault.create_data_key(ACME)
    path.write_text(new_token(bao, mount))

    assert vault.create_data_key(ACME)


@pytest.mark.parametrize("content", [None, "", "two words", "schlüssel"])
def test_file_without_a_token_is_unavailable(make_vault: MakeVault, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content, "utf-8")
    vault = make_vault(token_file=path)

    with pytest.raises(VaultUnavailable, match="file of token_file (cannot be read|holds no token)"):
        vault.create_data_key(ACME)
