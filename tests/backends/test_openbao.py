"""``OpenBaoVault`` over a real server: the keys it makes, what it costs, rotation, and what is told apart."""

import asyncio
import base64
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from tests.backends.openbao import granted_policy, new_mount, new_policy, new_token, new_vault
from tests.byok.peers import Bao, running_bao
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.client import Endpoint
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.openbao import datakeys
from vault_fields.openbao.blob import EncryptedKeys, WrappedCopy
from vault_fields.runtime.deadline import Deadline
from vault_fields.vaults import vault_config, vaults

ACME = KeyContext({"organization_id": "acme"})
PAIR = KeyContext({"organization_id": "acme", "purpose": "care"})

MakeVault = Callable[..., OpenBaoVault]


@pytest.fixture
def mount(bao: Bao) -> str:
    return new_mount(bao)


@pytest.fixture
def make_vault(bao: Bao, mount: str) -> Iterator[MakeVault]:
    """Vaults over one mount."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(new_vault(bao, mount=mount, **options)))


@pytest.fixture
def vault(make_vault: MakeVault) -> OpenBaoVault:
    return make_vault(max_cached_keys=0)


class Keys:
    """The transit keys of a vault, as their operator sees and changes them."""

    def __init__(self, bao: Bao, mount: str, vault: OpenBaoVault) -> None:
        self._bao, self._mount, self._vault = bao, mount, vault

    def path(self, name: str, value: str) -> str:
        return f"{self._mount}/keys/{self._vault.key_name(name, value)}"

    def read(self, name: str, value: str) -> dict[str, object]:
        data: dict[str, object] = self._bao.call(self.path(name, value), method="GET")["data"]
        return data

    def rotate(self, name: str, value: str) -> None:
        self._bao.call(f"{self.path(name, value)}/rotate", {})

    def configure(self, name: str, value: str, **settings: object) -> None:
        self._bao.call(f"{self.path(name, value)}/config", settings)

    def soft_delete(self, name: str, value: str) -> None:
        self.configure(name, value, deletion_allowed=True)
        self._bao.call(f"{self.path(name, value)}/soft-delete", method="DELETE")

    def delete(self, name: str, value: str) -> None:
        self.configure(name, value, deletion_allowed=True)
        self._bao.call(self.path(name, value), method="DELETE")


@pytest.fixture
def keys(bao: Bao, mount: str, vault: OpenBaoVault) -> Keys:
    return Keys(bao, mount, vault)


# The keys that it makes.


def test_each_item_gets_a_key_that_nobody_can_take_out(bao: Bao, mount: str, vault: OpenBaoVault, keys: Keys) -> None:
    vault.create_data_key(PAIR)

    assert set(bao.call(f"{mount}/keys?list=true", method="GET")["data"]["keys"]) == {
        vault.key_name("organization_id", "acme"),
        vault.key_name("purpose", "care"),
    }
    for item in PAIR.items():
        found = keys.read(*item)
        assert found["type"] == "aes256-gcm96"
        assert not any(found[name] for name in ("exportable", "allow_plaintext_backup", "deletion_allowed", "derived"))


def test_what_the_documentation_grants_does_not_let_keys_out(bao: Bao, mount: str, vault: OpenBaoVault) -> None:
    vault.create_data_key(ACME)
    name = vault.key_name("organization_id", "acme")
    headers = {"X-Vault-Token": new_token(bao, mount)}
    with httpx.Client(base_url=f"{bao.url}/v1/{mount}", headers=headers, trust_env=False) as client:
        for method, path, payload in (
            ("POST", f"keys/{name}/config", {"exportable": True}),
            ("POST", f"keys/{name}/rotate", {}),
            ("POST", "keys/another", {"exportable": True}),
            ("POST", "keys/another", {"allow_plaintext_backup": True}),
            ("GET", f"export/encryption-key/{name}", None),
            ("GET", f"backup/{name}", None),
            ("DELETE", f"keys/{name}", None),
            ("GET", "keys?list=true", None),
        ):
            assert client.request(method, path, json=payload).status_code == 403, path


def test_where_the_engine_does_not_make_keys_by_itself_they_are_made_first(
    bao: Bao, mount: str, vault: OpenBaoVault
) -> None:
    bao.call(f"{mount}/config/keys", {"disable_upsert": True})

    key = vault.create_data_key(PAIR)

    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_a_token_that_may_not_make_keys_uses_those_that_exist(
    bao: Bao, mount: str, vault: OpenBaoVault, make_vault: MakeVault
) -> None:
    vault.create_data_key(PAIR)
    rules = granted_policy(mount).replace('capabilities = ["read", "update"]', 'capabilities = ["read"]')
    token = bao.call("auth/token/create", {"policies": [new_policy(bao, rules.replace('"create", ', ""))]})
    limited = make_vault(token=token["auth"]["client_token"])

    assert limited.create_data_key(PAIR)
    with pytest.raises(VaultRefused, match=rf'lack path "{mount}/keys/\+" {{ capabilities = \["update"\] }}'):
        limited.create_data_key(KeyContext({"organization_id": "new"}))
    with pytest.raises(VaultRefused, match=rf"encrypt/\+.* \[\"create\", \"update\"\].* Host: {bao.url[7:]}\.$"):
        limited.create_data_key(KeyContext({"organization_id": "acme", "purpose": "new"}))


def test_names_of_keys_show_the_item_but_not_its_value(vault: OpenBaoVault, make_vault: MakeVault) -> None:
    name = vault.key_name("organization_id", "acme")

    assert name.startswith("vault-fields-organization_id-")
    assert "acme" not in name
    assert make_vault(key_prefix="eu").key_name("organization_id", "acme") == name.replace("vault-fields", "eu")


# What it costs.


def test_calls_count_requests(vault: OpenBaoVault) -> None:
    key = vault.create_data_key(ACME)
    assert vault.calls == {"create": 3}, "one that finds no key, one that makes it, one for the data key"
    vault.create_data_key(PAIR)
    assert vault.calls == {"create": 5}, "the engine makes the key of a further item by itself"
    vault.create_data_key(PAIR)
    assert vault.calls == {"create": 7}
    vault.rekey_data_key(key.encrypted_keys, PAIR)
    assert vault.calls == {"create": 7, "rekey": 3}


def test_a_page_of_rows_costs_one_call_for_each_transit_key(vault: OpenBaoVault) -> None:
    made = [vault.create_data_key(PAIR) for _ in range(30)]
    vault.calls.clear()

    opened = vault.decrypt_data_keys({key.encrypted_keys: PAIR for key in made})

    assert [opened[key.encrypted_keys].plaintext for key in made] == [key.plaintext for key in made]  # type: ignore[union-attr]
    assert vault.calls == {"decrypt": 2}


def test_a_page_of_many_tenants_is_asked_for_side_by_side(vault: OpenBaoVault) -> None:
    contexts = [KeyContext({"organization_id": str(number)}) for number in range(40)]
    made = {vault.create_data_key(context).encrypted_keys: context for context in contexts}
    vault.calls.clear()

    assert all(isinstance(outcome, DataKey) for outcome in vault.decrypt_data_keys(made).values())
    assert vault.calls == {"decrypt": 40}


def test_a_thousand_cold_keys_are_opened_in_five_requests(
    bao: Bao, mount: str, make_vault: MakeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted where they are made: logging in, asking for a token's lifetime, and every retry are among them."""
    name = make_vault().key_name("organization_id", "acme")
    plaintexts = [os.urandom(32) for _ in range(1000)]
    bao.call(f"{mount}/keys/{name}", {})
    batch = [{"plaintext": base64.b64encode(plaintext).decode()} for plaintext in plaintexts]
    answers = [
        bao.call(f"{mount}/encrypt/{name}", {"batch_input": part})
        for part in (batch[:400], batch[400:800], batch[800:])
    ]
    results = [result for answer in answers for result in answer["data"]["batch_results"]]
    made: dict[str, bytes] = {}
    for plaintext, result in zip(plaintexts, results, strict=True):
        copy = WrappedCopy.of(name, result["ciphertext"])
        assert copy is not None
        made[EncryptedKeys.of(os.urandom(16), plaintext, [copy]).encode()] = plaintext
    requests: list[str] = []
    plain = Endpoint.request
    monkeypatch.setattr(Endpoint, "request", lambda *args: requests.append(args[1]) or plain(*args))
    vault = make_vault()

    opened = vault.decrypt_data_keys(dict.fromkeys(made))

    assert {text: outcome.plaintext for text, outcome in opened.items()} == made  # type: ignore[union-attr]
    assert len(requests) <= 5
    assert vault.calls == {"decrypt": 3}
    vault.calls.clear()
    assert all(isinstance(text, str) for text in vault.rewrap_data_keys(dict.fromkeys(made, ACME)).values())
    assert vault.calls == {"rewrap": 3}


def test_more_copies_than_a_request_takes_go_in_several(vault: OpenBaoVault, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [vault.create_data_key(ACME) for _ in range(7)]
    vault.calls.clear()
    monkeypatch.setattr(datakeys, "BATCH_SIZE", 3)

    opened = vault.decrypt_data_keys({key.encrypted_keys: ACME for key in made})

    assert all(isinstance(outcome, DataKey) for outcome in opened.values())
    assert vault.calls == {"decrypt": 3}


def test_coroutines_cost_the_same_and_need_no_thread(vault: OpenBaoVault) -> None:
    async def scene() -> None:
        key = await vault.acreate_data_key(PAIR)
        await vault.adecrypt_data_keys({key.encrypted_keys: PAIR})
        before = set(threading.enumerate())
        await vault.arekey_data_key(key.encrypted_keys, ACME)
        await vault.adecrypt_data_key(key.encrypted_keys)
        assert not any("vault-" in thread.name for thread in set(threading.enumerate()) - before)
        await vault.aclose()

    asyncio.run(scene())
    assert vault.calls == {"create": 4, "decrypt": 4, "rekey": 3}


# Rotation.


def test_after_a_rotation_old_copies_open_and_new_ones_are_of_the_new_version(vault: OpenBaoVault, keys: Keys) -> None:
    old = vault.create_data_key(ACME)
    assert vault.is_current(old.encrypted_keys, ACME)
    keys.rotate("organization_id", "acme")
    new = vault.create_data_key(ACME)

    assert vault.decrypt_data_key(old.encrypted_keys).plaintext == old.plaintext
    vault._versions.clear()
    assert not vault.is_current(old.encrypted_keys, ACME)
    assert vault.is_current(new.encrypted_keys, ACME)
    assert not vault.is_current("nonsense", ACME)
    assert not vault.is_current(new.encrypted_keys, PAIR)


def test_versions_are_asked_for_once_a_minute(vault: OpenBaoVault) -> None:
    key = vault.create_data_key(PAIR)
    for _ in range(3):
        assert vault.is_current(key.encrypted_keys, PAIR)
    assert vault.calls["version"] == 2


def test_every_step_can_be_asked_by_coroutines(vault: OpenBaoVault) -> None:
    key = vault.create_data_key(ACME)
    names = [vault.key_name("organization_id", "acme")]

    assert vault._decrypt(key.encrypted_keys, Deadline(5)).plaintext == key.plaintext
    assert asyncio.run(vault._engine.arun("version", vault._transit.versions(names))) == {names[0]: 1}


def test_whether_a_deleted_key_wraps_so_cannot_be_told(vault: OpenBaoVault, keys: Keys) -> None:
    key = vault.create_data_key(ACME)
    keys.delete("organization_id", "acme")

    with pytest.raises(KeyRevoked, match=r"^VAULTS\['tested'\]: there is no such transit key"):
        vault.is_current(key.encrypted_keys, ACME)


def test_rewrapping_many_costs_one_call_for_each_transit_key(vault: OpenBaoVault, keys: Keys) -> None:
    made = [vault.create_data_key(PAIR) for _ in range(10)]
    keys.rotate("organization_id", "acme")
    current = vault.create_data_key(PAIR)
    vault.calls.clear()

    rewrapped = vault.rewrap_data_keys({key.encrypted_keys: PAIR for key in [*made, current]} | {"nonsense": PAIR})

    assert vault.calls == {"rewrap": 2}
    assert rewrapped[current.encrypted_keys] == current.encrypted_keys
    assert isinstance(rewrapped["nonsense"], VaultRefused)
    assert rewrapped["nonsense"].alias == "tested"
    keys.configure("organization_id", "acme", min_decryption_version=2)
    for key in made:
        text = rewrapped[key.encrypted_keys]
        assert isinstance(text, str)
        assert vault.is_current(text, PAIR)
        assert vault.decrypt_data_key(text).plaintext == key.plaintext


def test_what_does_not_open_is_not_rewrapped(vault: OpenBaoVault, keys: Keys) -> None:
    old = vault.create_data_key(ACME)
    keys.rotate("organization_id", "acme")
    keys.configure("organization_id", "acme", min_decryption_version=2)

    assert isinstance(vault.rewrap_data_keys({old.encrypted_keys: ACME})[old.encrypted_keys], KeyRevoked)


def test_another_prefix_opens_what_the_former_wrapped_and_rewraps_it_under_its_own(make_vault: MakeVault) -> None:
    former, now = make_vault(), make_vault(key_prefix="eu", max_cached_keys=0)
    key = former.create_data_key(ACME)

    assert now.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
    assert not now.is_current(key.encrypted_keys, ACME)
    text = now.rewrap_data_keys({key.encrypted_keys: ACME})[key.encrypted_keys]
    assert isinstance(text, str)
    assert now.is_current(text, ACME)
    assert now.decrypt_data_key(text).plaintext == key.plaintext


# What is told apart.


def revoke_by_version(keys: Keys) -> None:
    keys.rotate("organization_id", "acme")
    keys.configure("organization_id", "acme", min_decryption_version=2)


@pytest.mark.parametrize(
    ("revoke", "says"),
    [
        (revoke_by_version, "was retired"),
        (lambda keys: keys.soft_delete("organization_id", "acme"), "was soft-deleted"),
        (lambda keys: keys.delete("organization_id", "acme"), "does not exist"),
    ],
    ids=["minimum version", "soft-deleted", "deleted"],
)
def test_a_key_that_was_withdrawn_is_revoked_and_others_open(
    vault: OpenBaoVault, keys: Keys, revoke: Callable[[Keys], None], says: str
) -> None:
    other_context = KeyContext({"organization_id": "other"})
    gone, pair, other = (vault.create_data_key(context) for context in (ACME, PAIR, other_context))
    revoke(keys)

    outcomes = vault.decrypt_data_keys({key.encrypted_keys: None for key in (gone, pair, other)})

    for key in (gone, pair):
        outcome = outcomes[key.encrypted_keys]
        assert isinstance(outcome, KeyRevoked)
        assert says in str(outcome)
        assert outcome.alias == "tested"
    assert isinstance(outcomes[other.encrypted_keys], DataKey)


def test_soft_deleted_key_is_not_made_anew(vault: OpenBaoVault, keys: Keys) -> None:
    vault.create_data_key(PAIR)
    for item in PAIR.items():
        keys.soft_delete(*item)
        with pytest.raises(KeyRevoked, match="soft-deleted"):
            vault.create_data_key(PAIR)


def test_what_a_deleted_key_wrapped_does_not_open_under_its_successor(vault: OpenBaoVault, keys: Keys) -> None:
    gone = vault.create_data_key(ACME)
    keys.delete("organization_id", "acme")
    vault.create_data_key(ACME)

    with pytest.raises(VaultRefused, match="do not open"):
        vault.decrypt_data_key(gone.encrypted_keys)


def test_the_first_copy_that_opens_is_enough_on_demand(make_vault: MakeVault, keys: Keys) -> None:
    first = make_vault(unwrap="first", max_cached_keys=0)
    pair, single, healthy = (
        first.create_data_key(context) for context in (PAIR, ACME, KeyContext({"purpose": "care"}))
    )
    keys.soft_delete("organization_id", "acme")

    outcomes = first.decrypt_data_keys({key.encrypted_keys: None for key in (pair, single, healthy)})

    assert outcomes[pair.encrypted_keys].plaintext == pair.plaintext  # type: ignore[union-attr]
    assert outcomes[healthy.encrypted_keys].plaintext == healthy.plaintext  # type: ignore[union-attr]
    assert isinstance(outcomes[single.encrypted_keys], KeyRevoked)
    keys.soft_delete("purpose", "care")
    with pytest.raises(KeyRevoked):
        first.decrypt_data_key(pair.encrypted_keys)


def test_copies_of_two_data_keys_in_one_blob_do_not_open(make_vault: MakeVault) -> None:
    vault = make_vault(max_cached_keys=0)
    one, two = (EncryptedKeys.decode(vault.create_data_key(PAIR).encrypted_keys) for _ in range(2))
    swapped = EncryptedKeys(one.data_key_id, (one.copies[0], two.copies[1]), one.commitment)
    moved = EncryptedKeys(one.data_key_id, two.copies, one.commitment)
    fewer = EncryptedKeys(one.data_key_id, one.copies[:1], one.commitment)

    for blob in (swapped, moved, fewer):
        with pytest.raises(VaultRefused, match="do not open"):
            vault.decrypt_data_key(blob.encode())


def test_blob_cannot_lead_out_of_the_mount(vault: OpenBaoVault) -> None:
    for name in ("../../sys/seal", "a/b", "a?b", "a%2fb", "", "-", "a..b", "ключ"):
        key = vault.create_data_key(ACME)
        blob = EncryptedKeys.decode(key.encrypted_keys)
        raw = base64.b64decode(blob.encode()).replace(
            bytes([len(blob.names[0])]) + blob.names[0].encode(), bytes([len(name.encode())]) + name.encode()
        )
        vault.calls.clear()
        with pytest.raises(VaultRefused, match="not of this kind"):
            vault.decrypt_data_key(base64.b64encode(raw).decode())
        assert WrappedCopy.of("k", "nonsense") is None
        assert not vault.calls


def test_a_token_that_may_do_nothing_says_what_to_grant(bao: Bao, mount: str, make_vault: MakeVault) -> None:
    key = make_vault().create_data_key(ACME)
    token = bao.call("auth/token/create", {"policies": ["default"]})["auth"]["client_token"]
    for vault in (make_vault(token=token), make_vault(token="s.unknown")):
        with pytest.raises(
            VaultRefused, match=rf'path "{mount}/decrypt/\+" {{ capabilities = \["update"\] }}'
        ) as caught:
            vault.decrypt_data_key(key.encrypted_keys)
        assert caught.value.status == 403
        assert type(caught.value) is VaultRefused
        with pytest.raises(VaultRefused, match=r"keys/\+.*read"):
            vault.is_current(key.encrypted_keys, ACME)


def test_an_engine_that_is_not_there_says_so(bao: Bao) -> None:
    root = bao.root.headers["X-Vault-Token"]
    with (
        closing(new_vault(bao, mount="nowhere", token=root)) as vault,
        pytest.raises(VaultRefused, match="no such engine .* Check mount and namespace"),
    ):
        vault.create_data_key(ACME)


def test_namespaces_keep_their_keys_apart(bao: Bao) -> None:
    root = bao.root.headers["X-Vault-Token"]
    for namespace in ("team-a", "team-b"):
        bao.call(f"sys/namespaces/{namespace}", {})
        bao.call(f"{namespace}/sys/mounts/transit", {"type": "transit"})
    with ExitStack() as stack:
        a, b, none = (
            stack.enter_context(closing(new_vault(bao, mount="transit", token=root, namespace=name)))
            for name in ("team-a", "team-b", "team-c")
        )
        key = a.create_data_key(ACME)
        b.create_data_key(ACME)

        with pytest.raises(VaultRefused):
            b.decrypt_data_key(key.encrypted_keys)
        with pytest.raises(VaultRefused, match="no such namespace"):
            none.create_data_key(ACME)


def test_sealed_server_is_unavailable_and_says_that_it_is_sealed(tmp_path: Path) -> None:
    with running_bao(tmp_path) as bao, closing(new_vault(bao, max_retries=0)) as vault:
        key = vault.create_data_key(ACME)
        vault.purge()
        bao.call("sys/seal", {})
        for call in (
            lambda: vault.decrypt_data_key(key.encrypted_keys),
            lambda: asyncio.run(vault.adecrypt_data_key(key.encrypted_keys)),
        ):
            with pytest.raises(VaultUnavailable, match="is sealed .* unsealed by its operators") as caught:
                call()
            assert caught.value.status == 503
        assert isinstance(vault.rewrap_data_keys({key.encrypted_keys: ACME})[key.encrypted_keys], VaultUnavailable)


# Options.


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"addresses": []}, "addresses must be a list"),
        ({"addresses": "https://hidden"}, "addresses must be a list"),
        ({"addresses": None}, "addresses must be a list"),
        ({"addresses": ["http://openbao.example"]}, "addresses must begin with https://"),
        ({"addresses": ["https://h", 7]}, "addresses must be a valid URL"),
        ({"addresses": ["https://:hidden@h"]}, "addresses must not hold credentials"),
        ({"token": None}, "give either token, or token_file, or role_id with secret_id"),
        ({"token_file": "/f"}, "give either token"),
        ({"role_id": "r"}, "give either token"),
        ({"token": None, "role_id": "r"}, "give either token"),
        ({"token": None, "secret_id": "s"}, "give either token"),
        ({"token": None, "role_id": "r", "secret_id": "hid den"}, "role_id and secret_id must be texts"),
        ({"token": "hid den"}, "token must be a text"),
        ({"token": None, "token_file": "relative"}, "token_file must be an absolute path"),
        ({"mount": "/transit"}, "mount must be a path"),
        ({"mount": "a/../b"}, "mount must be a path"),
        ({"approle_mount": ""}, "approle_mount must be a path"),
        ({"namespace": "a b"}, "namespace must be a path"),
        ({"key_prefix": "-a"}, "key_prefix must be a name"),
        ({"key_prefix": "a" * 65}, "key_prefix must be a name"),
        ({"key_prefix": 7}, "key_prefix must be a name"),
        ({"unwrap": "any"}, "unwrap must be 'all' or 'first'"),
        ({"timeout": 0}, "timeout must be a number"),
        ({"timeout": 301}, "timeout must be at most 300"),
        ({"max_retries": -1}, "max_retries must be a whole number"),
        ({"tiemout": 1}, "unknown OPTIONS: tiemout"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        OpenBaoVault("eu", **{"addresses": ["https://openbao.example"], "token": "s.hidden", **options})  # type: ignore[arg-type]
    assert str(caught.value).startswith("VAULTS['eu']: ")
    assert says in str(caught.value)
    assert "hid" not in str(caught.value)


def test_certificates_that_are_not_there_are_a_wrong_setting(tmp_path: Path) -> None:
    vault = OpenBaoVault("eu", addresses=["https://h"], token="s.t", ca_file=str(tmp_path / "none.pem"))

    with pytest.raises(ImproperlyConfigured, match=r"certificates in ca_file or named in the environment .* unusable"):
        vault.create_data_key(ACME)


def test_from_a_url_to_a_key(bao: Bao, mount: str) -> None:
    url = bao.url.replace("http://", f"openbao+http://{new_token(bao, mount)}@")
    with override_settings(VAULTS={"default": vault_config(f"{url}/{mount}?timeout=4&key_prefix=p")}):
        assert vaults["default"].create_data_key(ACME)
        assert repr(vaults["default"]) == "<OpenBaoVault 'default' at 127.0.0.1>"


def test_no_failure_is_anything_but_a_vault_error(make_vault: MakeVault) -> None:
    vault = make_vault(unwrap="first")
    for text in ("", "\x00", "=" * 4, "A" * 60_000, "\U0001f642"):
        with pytest.raises(VaultError):
            vault.decrypt_data_key(text)
