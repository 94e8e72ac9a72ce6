"""The embedded Vault over a keystore file: the default, with nothing to install and no network."""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from vault_fields.backends.base import as_given
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.byok import build_provider
from vault_fields.embedded.customer.usable import CustomerKeys
from vault_fields.embedded.keywrapper import UNWRAP_POLICIES
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import DevelopmentRootKey, configured_former_root_keys, configured_root_key
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.runtime.frames import forgetful_class

__all__ = ["LocalVault"]

# A hundred years of days, with which every calendar can calculate.
LONGEST_RETENTION = 36_525


@forgetful_class
class LocalVault(EmbeddedBackend):
    """
    The embedded Vault. ``path`` is the absolute path of its keystore, an SQLite file.

    ``manage.py vault_keystore create`` makes that file. Only under a development key it is made on first use: where a
    root key is configured, a keystore that is missing was lost, and going on with an empty one would hide that.

    ``root_key`` is what ``manage.py vault_root_key`` prints. Without it the environment variable ``VAULT_ROOT_KEY``
    counts, and without that a development key, which is generated beside the keystore. ``former_root_keys``, or else
    ``VAULT_FORMER_ROOT_KEYS``, are those that ``manage.py vault_root_key rotate`` replaces by it. ``timeout`` is how
    many seconds to wait for other processes that are writing, and for the providers of customer keys.

    ``unwrap`` says how many copies of a data key must open: ``"all"``, or the ``"first"`` whose key is neither disabled
    nor withdrawn nor out of reach, as the hosted Vault is documented to do. ``record_key_events`` keeps an event of
    every data key that this process makes or opens; those of KEKs and stored objects are kept anyhow. Events that are
    older than ``event_retention_days`` are deleted by whoever stores some of use, and by ``vault_events --prune-days``.
    """

    def __init__(
        self,
        alias: str = "default",
        *,
        path: str | os.PathLike[str],
        root_key: str | None = None,
        former_root_keys: Sequence[str] | None = None,
        timeout: float = 5.0,
        unwrap: str = "all",
        record_key_events: bool = False,
        event_retention_days: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(alias, **options)
        self._require_timeout(timeout, minimum=0)
        if unwrap not in UNWRAP_POLICIES:
            raise self.misconfigured("unwrap must be 'all' or 'first'.")
        if not isinstance(record_key_events, bool):
            raise self.misconfigured(f"record_key_events must be True or False, not {as_given(record_key_events)}.")
        retention = self._retention(event_retention_days)
        self.path = self._absolute(path)
        try:
            configured = configured_root_key(root_key)
            former = configured_former_root_keys(former_root_keys)
        except ValueError as error:
            raise self.misconfigured(str(error)) from None
        self.uses_development_key = configured is None
        self.has_guessable_key = configured is not None and configured.is_guessable
        store = KeyStore.at(
            self.path, timeout=timeout, must_exist=not self.uses_development_key, event_retention=retention
        )
        ring = KeyRing(store, configured or DevelopmentRootKey(self.path), former_root_keys=former)
        customer_keys = CustomerKeys(ring, build_provider, timeout=timeout)
        self.seconds = customer_keys.timeout
        self.service = EmbeddedVault(
            ring, customer_keys=customer_keys, unwrap=unwrap, record_key_events=record_key_events
        )
        self._watch_customer_keys()

    def _retention(self, days: int | None) -> timedelta | None:
        if days is None:
            return None
        self._require_number("event_retention_days", days, minimum=1, integral=True)
        if days > LONGEST_RETENTION:
            raise self.misconfigured(f"event_retention_days must be at most {LONGEST_RETENTION}.")
        return timedelta(days=days)

    def _absolute(self, path: object) -> Path:
        if not isinstance(path, str | os.PathLike):
            raise self.misconfigured(f"path must be a string or a Path, not {type(path).__name__}.")
        path = Path(path)
        # A relative path is ambiguous: two processes started in two directories would each make a keystore.
        if not path.is_absolute():
            raise self.misconfigured('path must be absolute, for example BASE_DIR / "vault.sqlite3".')
        return path
