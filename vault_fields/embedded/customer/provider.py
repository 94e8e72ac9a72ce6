"""
The interface of a customer key to the embedded Vault: a key kept elsewhere, which wraps and unwraps bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from vault_fields.exceptions import KeyUnavailable, VaultRefused, VaultThrottled

__all__ = ["Binding", "KeyProvider", "ProviderRefused", "ProviderThrottled", "Providers", "no_providers"]

# The binding of a wrapped copy. Providers authenticate it, and may show it to the key's owner: it is not secret.
Binding = Mapping[str, str]


class ProviderRefused(VaultRefused):
    """A provider does not do what its settings ask for, and no caller of the vault can change that."""


class ProviderThrottled(KeyUnavailable, VaultThrottled):
    """A provider asks for fewer calls to its key."""


class KeyProvider(ABC):
    """
    One key of one customer, wherever it is kept. Thread-safe; built without I/O.

    It wraps bytes that are sealed already, so that neither the provider nor its logs ever have a data key.

    Every operation may take ``timeout`` seconds in all. It raises ``KeyRevoked`` if the owner has withdrawn the key,
    ``VaultUnavailable`` if the key cannot be reached now, and ``VaultRefused`` if somebody has to correct something on
    this side. No other exception of the network or of a library leaves it.
    """

    # The name of the provider in events.
    name: ClassVar[str]

    @abstractmethod
    def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes: ...

    @abstractmethod
    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        """Unwrap a copy. Raises ``InvalidTag`` unless this key wrapped it with this binding."""

    def inspect(self, *, timeout: float) -> None:
        """Look for facts that make a working key unfit for use. Raises ``VaultRefused`` if there are any."""
        return

    def close(self) -> None:
        """Close connections. The provider can be used again afterwards."""
        return


# A function that builds the provider of a kind from settings. Raises ``ValueError`` for an unknown kind or setting.
Providers = Callable[[str, Mapping[str, str]], KeyProvider]


def no_providers(kind: str, settings: Mapping[str, str]) -> KeyProvider:
    raise ValueError(f"this vault has no provider {kind!r}.")
