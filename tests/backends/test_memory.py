from concurrent.futures import ThreadPoolExecutor

import pytest

from vault_fields.backends.memory import InMemoryVault
from vault_fields.exceptions import KeyRevoked, VaultError, VaultThrottled, VaultUnavailable
from vault_fields.keys import KeyContext

ACME = KeyContext({"organization_id": "acme"})
PAIR = KeyContext({"organization_id": "acme", "purpose": "care"})
OTHER = KeyContext({"organization_id": "other"})


@pytest.fixture
def vault() -> InMemoryVault:
    return InMemoryVault("tested")


def test_threads_share_its_keys(vault: InMemoryVault) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda number: vault.create_data_key(KeyContext({"item": str(number % 5)})), range(100)))
        vault.purge()
        opened = list(pool.map(lambda key: vault.decrypt_data_key(key.encrypted_keys), keys))

    assert [key.plaintext for key in opened] == [key.plaintext for key in keys]


def test_every_call_fails_as_told_and_only_in_the_block(vault: InMemoryVault) -> None:
    key = vault.create_data_key(ACME)
    vault.purge()

    with vault.fail_with(VaultUnavailable("away")):
        for call in (
            lambda: vault.create_data_key(ACME),
            lambda: vault.decrypt_data_key(key.encrypted_keys),
            lambda: vault.rekey_data_key(key.encrypted_keys, OTHER),
        ):
            with pytest.raises(VaultUnavailable, match=r"VAULTS\['tested'\]: away"):
                call()
        assert isinstance(vault.decrypt_data_keys({key.encrypted_keys: ACME})[key.encrypted_keys], VaultError)

    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_failures_nest(vault: InMemoryVault) -> None:
    with vault.fail_with(VaultUnavailable("outer")):
        with vault.fail_with(VaultThrottled("inner")), pytest.raises(VaultThrottled):
            vault.create_data_key(ACME)
        with pytest.raises(VaultUnavailable, match="outer"):
            vault.create_data_key(ACME)


def test_other_threads_fail_too(vault: InMemoryVault) -> None:
    with vault.fail_with(VaultUnavailable("away")), ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(vault.create_data_key, ACME).exception(), VaultUnavailable)


def test_cached_key_is_served_while_the_vault_is_away(vault: InMemoryVault) -> None:
    key = vault.create_data_key(ACME)

    with vault.fail_with(VaultUnavailable("away")):
        assert vault.decrypt_data_key(key.encrypted_keys) is key


def test_revoked_item_takes_everything_with_it_at_once(vault: InMemoryVault) -> None:
    alone, pair, other = (vault.create_data_key(context) for context in (ACME, PAIR, OTHER))

    vault.revoke("organization_id", "acme")

    for key in (alone, pair):
        with pytest.raises(KeyRevoked, match=r"VAULTS\['tested'\]: .*'organization_id'"):
            vault.decrypt_data_key(key.encrypted_keys)
    with pytest.raises(KeyRevoked):
        vault.create_data_key(PAIR)
    assert vault.decrypt_data_key(other.encrypted_keys).plaintext == other.plaintext


def test_restored_item_opens_again(vault: InMemoryVault) -> None:
    key = vault.create_data_key(ACME)
    vault.revoke("organization_id", "acme")

    vault.restore("organization_id", "acme")

    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
