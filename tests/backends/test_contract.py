"""What every backend promises, asked of each of them in the same words."""

import asyncio
import itertools
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.backends.openbao import new_vault
from tests.keystores import make_keystore
from tests.server.conftest import running
from vault_fields.backends.base import BaseVault
from vault_fields.backends.local import LocalVault
from vault_fields.backends.memory import InMemoryVault
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.backends.workos import WorkOSVault
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.exceptions import KeyContextError, VaultError, VaultRefused
from vault_fields.keys import DataKey, KeyContext
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key

ACME = KeyContext({"organization_id": "acme"})
PAIR = KeyContext({"organization_id": "acme", "purpose": "care"})

MakeVault = Callable[..., BaseVault]


@pytest.fixture(params=["memory", "local", "local with a customer's key", "workos", "openbao"])
def make_vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeVault]:
    """Makes vaults of one kind; each call gives one that knows nothing of the others."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def make(**options: object) -> BaseVault:
            path, root_key = tmp_path / f"{next(numbers)}.sqlite3", generate_root_key()
            make_keystore(path, root_key)
            local: dict[str, object] = {"path": path, "root_key": root_key}
            if request.param == "memory":
                return stack.enter_context(closing(InMemoryVault("tested", **options)))
            if request.param == "local":
                return stack.enter_context(closing(LocalVault("tested", **local, **options)))  # type: ignore[arg-type]
            if request.param == "local with a customer's key":
                vault = stack.enter_context(closing(LocalVault("tested", **local, **options)))  # type: ignore[arg-type]
                return with_customers_key(vault, tmp_path / f"{next(numbers)}.key")
            if request.param == "openbao":
                return with_known_item(
                    stack.enter_context(closing(new_vault(request.getfixturevalue("bao"), **options)))
                )
            served = stack.enter_context(closing(LocalVault("served", **local)))  # type: ignore[arg-type]
            served.service.unlock()
            url = stack.enter_context(
                running(VaultApi(served.service, ApiKeys([ApiKey(hash_api_key("sk_test_4f9Za81"))])))
            )
            return stack.enter_context(
                closing(WorkOSVault("tested", api_key="sk_test_4f9Za81", base_url=url, **{"timeout": 60, **options}))
            )  # type: ignore[arg-type]

        yield make


def with_customers_key(vault: LocalVault, path: Path) -> LocalVault:
    """The vault, in which the item of ``ACME`` has a key of its own."""
    path.touch(0o600)
    path.write_bytes(secrets.token_bytes(32))
    vault.byok.configure("organization_id", "acme", provider="file", settings={"path": str(path)})
    vault.byok.verify("organization_id", "acme")
    vault.byok.activate("organization_id", "acme")
    return vault


def with_known_item(vault: BaseVault) -> BaseVault:
    """The vault, in which the item of ``ACME`` is not new: making the key of an item takes calls of its own."""
    vault.create_data_key(ACME)
    vault.purge()
    vault.calls.clear()
    return vault


@pytest.fixture
def vault(make_vault: MakeVault) -> BaseVault:
    return make_vault()


def test_created_key_is_32_random_bytes_with_a_name(vault: BaseVault) -> None:
    first, second = vault.create_data_key(ACME), vault.create_data_key(ACME)

    assert len(first.plaintext) == 32
    assert first.plaintext != second.plaintext
    assert first.id != second.id
    assert first.encrypted_keys != second.encrypted_keys


@pytest.mark.parametrize(
    "context",
    [
        ACME,
        PAIR,
        KeyContext({"item": ""}),
        KeyContext({"имя": "значение", "名": "值", "🙂": "\x00"}),
        KeyContext({f"{number}" + "🙂" * 119: "🙂" * 500 for number in range(10)}),
    ],
    ids=["one item", "two items", "empty value", "other scripts", "the longest"],
)
def test_key_opens_from_its_encrypted_keys_alone(vault: BaseVault, context: KeyContext) -> None:
    key = vault.create_data_key(context)
    vault.purge()

    opened = vault.decrypt_data_key(key.encrypted_keys)

    assert (opened.id, opened.plaintext, opened.encrypted_keys) == (key.id, key.plaintext, key.encrypted_keys)


def test_rekey_keeps_the_data_key(vault: BaseVault) -> None:
    key = vault.create_data_key(ACME)

    moved = vault.rekey_data_key(key.encrypted_keys, PAIR)
    vault.purge()

    assert moved.plaintext == key.plaintext
    assert moved.encrypted_keys != key.encrypted_keys
    assert vault.decrypt_data_key(moved.encrypted_keys).plaintext == key.plaintext
    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_vault_tells_whether_a_key_is_wrapped_as_it_would_be_now_if_it_can(vault: BaseVault) -> None:
    key = vault.create_data_key(ACME)

    assert vault.is_current(key.encrypted_keys, ACME) is not isinstance(vault, WorkOSVault)
    assert not vault.is_current(key.encrypted_keys, PAIR)


@pytest.mark.parametrize("text", ["", "nonsense", "A" * 400, "ключи", "V09TLkVLTS52MQBhYmM="])
def test_what_is_no_blob_is_refused_with_the_alias(vault: BaseVault, text: str) -> None:
    for call in (lambda: vault.decrypt_data_key(text), lambda: vault.rekey_data_key(text, ACME)):
        with pytest.raises(VaultRefused) as caught:
            call()
        assert caught.value.alias == "tested"
        assert str(caught.value).startswith("VAULTS['tested']: ")
        assert not text or text not in str(caught.value)


def test_altered_blob_is_refused(vault: BaseVault) -> None:
    text = vault.create_data_key(PAIR).encrypted_keys
    for position in range(0, len(text) - 4, 9):
        other = "A" if text[position] != "A" else "B"
        with pytest.raises(VaultRefused):
            vault.decrypt_data_key(text[:position] + other + text[position + 1 :])


def test_blob_of_another_vault_is_refused(make_vault: MakeVault) -> None:
    one, other = make_vault(), make_vault()
    foreign = other.create_data_key(ACME)

    with pytest.raises(VaultRefused):
        one.decrypt_data_key(foreign.encrypted_keys)
    with pytest.raises(VaultRefused):
        one.rekey_data_key(foreign.encrypted_keys, ACME)


def test_many_keys_open_at_once_each_with_its_own_outcome(vault: BaseVault) -> None:
    keys = [vault.create_data_key(KeyContext({"item": str(number)})) for number in range(20)]
    vault.purge()

    outcomes = vault.decrypt_data_keys({**{key.encrypted_keys: None for key in keys}, "nonsense": None})

    for key in keys:
        outcome = outcomes[key.encrypted_keys]
        assert isinstance(outcome, DataKey)
        assert outcome.plaintext == key.plaintext
    assert isinstance(outcomes["nonsense"], VaultRefused)
    assert outcomes["nonsense"].alias == "tested"


def test_calls_are_counted_and_cached_keys_cost_none(vault: BaseVault) -> None:
    key = vault.create_data_key(ACME)
    vault.decrypt_data_key(key.encrypted_keys)
    assert vault.calls == {"create": 1}

    vault.purge()
    vault.decrypt_data_key(key.encrypted_keys)
    vault.decrypt_data_key(key.encrypted_keys)
    assert vault.calls == {"create": 1, "decrypt": 1}


def test_cache_can_be_off(make_vault: MakeVault) -> None:
    vault = make_vault(max_cached_keys=0)
    key = vault.create_data_key(ACME)

    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
    assert vault.calls == {"create": 1, "decrypt": 1}


def test_fifty_threads_that_read_one_cold_key_make_one_call(vault: BaseVault) -> None:
    key = vault.create_data_key(ACME)
    vault.purge()
    barrier = threading.Barrier(50)

    def read() -> bytes:
        barrier.wait()
        return vault.decrypt_data_key(key.encrypted_keys).plaintext

    with ThreadPoolExecutor(50) as pool:
        read_keys = {future.result() for future in [pool.submit(read) for _ in range(50)]}

    assert read_keys == {key.plaintext}
    assert vault.calls["decrypt"] == 1


def test_coroutines_do_the_same(vault: BaseVault) -> None:
    async def story() -> None:
        key = await vault.acreate_data_key(ACME)
        vault.purge()
        assert (await vault.adecrypt_data_key(key.encrypted_keys)).plaintext == key.plaintext
        moved = await vault.arekey_data_key(key.encrypted_keys, PAIR)
        assert moved.plaintext == key.plaintext
        with pytest.raises(VaultRefused):
            await vault.adecrypt_data_key("nonsense")
        if isinstance(vault, (WorkOSVault, OpenBaoVault)):
            await vault.aclose()

    asyncio.run(story())


def test_closed_vault_can_be_used_again(vault: BaseVault) -> None:
    key = vault.create_data_key(ACME)

    vault.close()

    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
    assert vault.calls["decrypt"] == 1


def test_context_beyond_its_limits_never_gets_here(vault: BaseVault) -> None:
    with pytest.raises(KeyContextError):
        vault.create_data_key(KeyContext({}))
    assert not vault.calls


def test_no_failure_is_anything_but_a_vault_error(vault: BaseVault) -> None:
    for text in ("", "\x00", "=" * 4, "A" * 60_000, "\U0001f642"):
        with pytest.raises(VaultError):
            vault.decrypt_data_key(text)
