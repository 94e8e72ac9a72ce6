"""Keystores for tests: where a root key is configured, none is made unasked."""

from contextlib import closing
from pathlib import Path

from vault_fields.backends.local import LocalVault

__all__ = ["make_keystore"]


def make_keystore(path: str | Path, root_key: str) -> None:
    """A new keystore, unless there is one."""
    if not Path(path).exists():
        with closing(LocalVault(path=path, root_key=root_key)) as vault:
            vault.service.create_keystore()
