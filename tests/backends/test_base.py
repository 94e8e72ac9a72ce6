"""What every backend gets from ``BaseVault`` without doing anything for it."""

import asyncio
import threading
from typing import Any

import pytest

from vault_fields.backends.base import BaseVault
from vault_fields.exceptions import VaultRefused
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline

CONTEXT = KeyContext({"organization_id": "org_1"})


class Minimal(BaseVault):
    """Supplies the three calls and nothing else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.threads: set[int] = set()

    def _create(self, context: KeyContext) -> DataKey:
        return self._key("created")

    def _decrypt(self, encrypted_keys: str, deadline: Deadline) -> DataKey:
        if encrypted_keys == "revoked":
            raise VaultRefused("no", alias=self.alias)
        return self._key(encrypted_keys)

    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        if encrypted_keys == "revoked":
            raise VaultRefused("no", alias=self.alias)
        return self._key("moved")

    def _key(self, name: str) -> DataKey:
        self.threads.add(threading.get_ident())
        return DataKey("id", name, bytes(32))


@pytest.fixture
def vault():
    vault = Minimal()
    yield vault
    vault.close()


def test_coroutines_ask_in_another_thread(vault) -> None:
    async def scene() -> list[str]:
        keys = [
            await vault.acreate_data_key(CONTEXT),
            await vault.adecrypt_data_key("opened", CONTEXT),
            await vault.adecrypt_data_key("opened", CONTEXT),
            await vault.arekey_data_key("opened", CONTEXT),
        ]
        return [key.encrypted_keys for key in keys]

    assert asyncio.run(scene()) == ["created", "opened", "opened", "moved"]
    assert vault.calls == {"create": 1, "decrypt": 1, "rekey": 1}
    assert threading.get_ident() not in vault.threads


def test_a_batch_is_a_key_or_an_error_for_each(vault) -> None:
    for opened in (
        vault.decrypt_data_keys({"a": CONTEXT, "revoked": CONTEXT}),
        asyncio.run(vault.adecrypt_data_keys({"b": None, "revoked": None})),
    ):
        assert [type(outcome) for outcome in opened.values()] == [DataKey, VaultRefused]
    assert vault.calls == {"decrypt": 4}


def test_rewrapping_is_a_rekey_for_each_unless_a_backend_does_better(vault) -> None:
    rewrapped = vault.rewrap_data_keys({"a": CONTEXT, "revoked": CONTEXT})
    assert rewrapped["a"] == "moved"
    assert isinstance(rewrapped["revoked"], VaultRefused)
    assert vault.calls == {"rekey": 2}


def test_an_error_is_raised_where_one_key_is_wanted(vault) -> None:
    with pytest.raises(VaultRefused):
        vault.decrypt_data_key("revoked")
    with pytest.raises(VaultRefused):
        asyncio.run(vault.adecrypt_data_key("revoked"))


def test_after_close_a_vault_works_on(vault) -> None:
    for _ in range(2):
        vault.decrypt_data_keys({"a": CONTEXT, "b": CONTEXT})
        vault.close()
        assert len(vault.cache) == 0
    assert vault.calls == {"decrypt": 4}


def test_repr_names_the_alias_only(vault) -> None:
    assert repr(vault) == "<Minimal 'default'>"
