from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault

ROOT_KEY = RootKey(bytes(range(32)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.sqlite3"


@pytest.fixture
def root_key() -> RootKey:
    return ROOT_KEY


@pytest.fixture
def open_vault(path: Path) -> Iterator[Callable[..., EmbeddedVault]]:
    """Vaults over the one keystore, each with connections and caches of its own, as another process would have."""
    opened: list[EmbeddedVault] = []

    def open_vault(root_key: RootKey = ROOT_KEY, *, timeout: float = 5.0, **options: str) -> EmbeddedVault:
        vault = EmbeddedVault(KeyRing(KeyStore.at(path, timeout=timeout), root_key), **options)
        opened.append(vault)
        return vault

    yield open_vault
    for vault in opened:
        vault.close()


@pytest.fixture
def vault(open_vault: Callable[..., EmbeddedVault]) -> EmbeddedVault:
    return open_vault()
