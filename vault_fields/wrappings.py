"""New wrappings for companions whose data key stays. Rows share data keys, so each is asked for once."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from vault_fields import cipher, companion as companion_format
from vault_fields.backends.base import BaseVault
from vault_fields.companion import Companion
from vault_fields.exceptions import VaultError
from vault_fields.keys import KeyContext

__all__ = ["Wrappings"]

# How many data keys are remembered for the other rows that share them.
MAX_REMEMBERED = 10_000


class Wrappings:
    """What the encrypted keys of one vault become. For one thread."""

    def __init__(self, vault: BaseVault) -> None:
        self._vault = vault
        self._rekey = lru_cache(MAX_REMEMBERED)(vault.rekey_data_key)
        self._rewrapped: dict[str, str | VaultError] = {}

    def is_current(self, companion: Companion) -> bool:
        """Whether the keys that wrap for its context now have wrapped it, if the vault can tell. ``VaultError``."""
        return self._vault.wraps_so(companion.encrypted_keys, companion.context)

    def prepare(self, companions: Iterable[Companion]) -> None:
        """Ask for what ``rewrapped`` will need for these, together: some vaults do that in few calls."""
        if len(self._rewrapped) > MAX_REMEMBERED:
            self._rewrapped.clear()
        wanted = {each.encrypted_keys: each.context for each in companions}
        for text in self._rewrapped.keys() & wanted:
            del wanted[text]
        if wanted:
            self._rewrapped |= self._vault.rewrap_data_keys(wanted)

    def rewrapped(self, companion: Companion) -> Companion:
        """
        The same, wrapped anew for the context that it has; ``prepare`` was told of it. Raises ``VaultError``.

        Its proof stays what it is: it does not say how the data key is wrapped.
        """
        found = self._rewrapped[companion.encrypted_keys]
        if isinstance(found, VaultError):
            raise found
        return replace(companion, encrypted_keys=found)

    def rekeyed(self, companion: Companion, context: KeyContext) -> Companion:
        """
        The same, wrapped for another context. At most one call.

        Raises ``VaultError``, and ``DecryptionError`` for one that does not prove to belong to its data key.
        """
        key = self._rekey(companion.encrypted_keys, context)
        message = companion_format.proof_message(companion.key_id, companion.context, companion.row)
        cipher.verify_proof(key, message, companion.proof)
        # The id stays, though the Vault may have another by now: the envelopes name it, and are not written.
        message = companion_format.proof_message(companion.key_id, context, companion.row)
        return replace(companion, encrypted_keys=key.encrypted_keys, context=context, proof=cipher.prove(key, message))
