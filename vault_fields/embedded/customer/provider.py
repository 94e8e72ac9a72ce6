"""What a customer-managed key is to the embedded Vault: a key kept elsewhere, which wraps and unwraps bytes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from vault_fields.exceptions import KeyUnavailable, VaultRefused, VaultThrottled

__all__ = ["Binding", "KeyProvider", "ProviderRefused", "ProviderThrottled", "Providers", "no_providers"]

# What a wrapped copy is bound to. Providers authenticate it, and may show it to the key's owner: it is not secret.
Binding = Mapping[str, str]


class ProviderRefused(VaultRefused):
    """A provider does not do what its settings ask of it: nothing that a caller of the vault could change."""


class ProviderThrottled(KeyUnavailable, VaultThrottled):
    """A provider asks for fewer calls to its key."""


class KeyProvider(ABC):
    """
    One key of one customer, wherever it is kept. Thread-safe; built without I/O.

    What it is given to wrap is sealed already, so that neither the provider nor its logs ever have a data key.

    Every operation may take ``timeout`` seconds in all. It raises ``KeyRevoked`` if the owner has withdrawn the key,
    ``VaultUnavailable`` if the key cannot be asked now, and ``VaultRefused`` if somebody has to correct something on
    this side. No other exception of the network or of a library leaves it.
    """

    # As events name the provider.
    name: ClassVar[str]

    @abstractmethod
    def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes: ...

    @abstractmethod
    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        """Raises ``InvalidTag`` for what this key did not wrap with this binding."""

    def inspect(self, *, timeout: float) -> None:
        """Look for what makes a key that works unfit for use; raise ``VaultRefused`` if there is something."""
        return

    def close(self) -> None:
        """Let go of connections. The provider can be used again afterwards."""
        return


# Builds the provider of a kind with its settings. Raises ``ValueError`` for a kind or settings that it does not know.
Providers = Callable[[str, Mapping[str, str]], KeyProvider]


def no_providers(kind: str, settings: Mapping[str, str]) -> KeyProvider:
    raise ValueError(f"this vault has no provider {kind!r}.")
