"""The choice among the configured root keys: the one under which a keystore wraps new KEKs, and former ones."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.database.failures import damaged
from vault_fields.embedded.managed.rootkey import (
    ENVIRONMENT_VARIABLE,
    FORMER_ENVIRONMENT_VARIABLE,
    DevelopmentRootKey,
    RootKey,
)
from vault_fields.embedded.managed.store import KeyStore

__all__ = ["ConfiguredRootKeys", "RootKeys", "StoredKey"]


class StoredKey(Protocol):
    """A key as the keystore holds it: wrapped under the root key of an id."""

    @property
    def root_key_id(self) -> str: ...

    @property
    def wrapped(self) -> bytes: ...

    @property
    def description(self) -> str:
        """The name of the key in messages."""


@dataclass(frozen=True, slots=True)
class RootKeys:
    """The root key that wraps new KEKs, and all configured root keys by their ids."""

    current: RootKey
    by_id: Mapping[str, RootKey]

    def unwrap(self, stored: "StoredKey", associated_data: bytes, location: str) -> bytes:
        """Return a key that is wrapped under the root key of that id. Raises ``InvalidTag``."""
        root_key = self.by_id.get(stored.root_key_id)
        if root_key is not None:
            # What is raised below must not carry what this one knows.
            with suppress(InvalidTag):
                return root_key.wrapping.unwrap(stored.wrapped, associated_data)
        raise damaged(location, f"{stored.description} does not open")


class ConfiguredRootKeys:
    """
    The root key of the settings, and those it replaces.

    A keystore stays with its own root key until ``rotate_root_key`` moves it to the configured one. So all processes
    can be given the new key, with the former one beside it, before any KEK is wrapped under it.
    """

    def __init__(self, configured: RootKey | DevelopmentRootKey, former: Sequence[RootKey] = ()) -> None:
        self.configured = configured
        self._former = tuple(former)
        self._obtained: RootKey | None = None

    def unlock(self, store: KeyStore) -> RootKeys:
        """Return the root keys of the keystore; a new one gets the configured key. Raises ``ImproperlyConfigured``."""
        known = store.root_key_ids()
        root_key = self.obtain(generate=not known)
        known = known or store.adopt_root_key(root_key.id)
        return self.of(known, store.location)

    def of(self, known: Sequence[str], location: str) -> RootKeys:
        """
        Return those of the keystore at ``location``, which has root keys of the ids ``known``, the current one last.
        """
        root_key = self.obtain()
        available = {key.id: key for key in (root_key, *self._former)}
        if missing := [root_key_id for root_key_id in known if root_key_id not in available]:
            raise ImproperlyConfigured(_explanation(location, known, missing, root_key.id))
        return RootKeys(available[known[-1]] if known else root_key, available)

    def obtain(self, *, generate: bool = False) -> RootKey:
        """Return the configured root key. A development key is read once."""
        if self._obtained is None:
            source = self.configured
            self._obtained = source if isinstance(source, RootKey) else source.obtain(generate=generate)
        return self._obtained

    def forget(self) -> None:
        """Read a development key again the next time."""
        self._obtained = None


def _explanation(location: str, known: Sequence[str], missing: Sequence[str], configured: str) -> str:
    if len(missing) == len(known):
        return (
            f"wrong root key: the keystore {location} was made with the root key of id {' and '.join(known)}, and this "
            f"one has the id {configured}. Set root_key in OPTIONS or the environment variable {ENVIRONMENT_VARIABLE} "
            f"to that one; or, to replace it by this one, add it to former_root_keys or {FORMER_ENVIRONMENT_VARIABLE}."
        )
    return (
        f"missing root key: keys of the keystore {location} are wrapped under the root keys of the ids "
        f"{' and '.join(known)}, because replacing one by the other was interrupted, and {' and '.join(missing)} is "
        f"not configured. Add it to former_root_keys in OPTIONS or to the environment variable "
        f"{FORMER_ENVIRONMENT_VARIABLE}, and run `manage.py vault_root_key rotate` again."
    )
