"""New wrappings for companions whose data key stays. Rows share data keys, so each is asked for once."""

from collections.abc import Iterable
from dataclasses import replace

from vault_fields.backends.base import BaseVault
from vault_fields.exceptions import KeyUnavailable, VaultError
from vault_fields.keys import DataKey, KeyContext
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion

__all__ = ["Wrappings"]

# The number of wrappings remembered for the other rows that share them.
MAX_REMEMBERED = 10_000


class Wrappings:
    """
    The new wrappings of the encrypted keys of one vault. For one thread.

    Anyone who can write to the table can write a companion that claims a tenant's data key for another tenant. So
    everything that is wrapped here was verified before: a ``key`` argument is the companion's own, which has verified
    its proof.
    """

    def __init__(self, vault: BaseVault) -> None:
        self._vault = vault
        # The new encrypted keys, by those that they replace and by the context that they are for.
        self._wrapped: dict[tuple[str, KeyContext], str | VaultError] = {}
        # The contexts whose keys did not answer since ``prepare``.
        self._away: dict[KeyContext, KeyUnavailable] = {}

    def is_current(self, companion: Companion) -> bool:
        """Whether the present keys of its context have wrapped it, if the vault can tell. Raises ``VaultError``."""
        return self._vault.is_current(companion.encrypted_keys, companion.context)

    def prepare(self, verified: Iterable[Companion]) -> None:
        """Ask for what ``rewrapped`` will need for these, together: some vaults do that in few calls."""
        self._away.clear()
        if len(self._wrapped) > MAX_REMEMBERED:
            self._wrapped.clear()
        wanted = dict.fromkeys((each.encrypted_keys, each.context) for each in verified)
        missing = [pair for pair in wanted if pair not in self._wrapped]
        while missing:
            # A vault is asked by the encrypted keys, which stand for two contexts if a rekey does not change them.
            contexts = dict(missing)
            missing = [(text, context) for text, context in missing if contexts[text] != context]
            for text, outcome in self._vault.rewrap_data_keys(contexts).items():
                self._wrapped[text, contexts[text]] = outcome

    def rewrapped(self, companion: Companion, key: DataKey) -> Companion:
        """Return the companion wrapped anew for its own context; ``prepare`` was given it. Raises ``VaultError``."""
        found = self._wrapped[companion.encrypted_keys, companion.context]
        if isinstance(found, VaultError):
            raise found
        return companion_format.proven(replace(companion, encrypted_keys=found), key)

    def rekeyed(self, companion: Companion, context: KeyContext, key: DataKey) -> Companion:
        """
        Return the companion wrapped for another context.

        Costs at most one call, and none for a context whose key did not answer another row since ``prepare``. Raises
        ``VaultError``, and ``DecryptionError`` if the vault answers another data key than it was asked for.
        """
        wanted = companion.encrypted_keys, context
        found = self._wrapped.get(wanted)
        if not isinstance(found, str):
            if context in self._away:
                raise self._away[context]
            try:
                rekeyed = self._vault.rekey_data_key(*wanted)
            except KeyUnavailable as error:
                self._away[context] = error
                raise
            companion_format.verify(companion, rekeyed)
            found = self._wrapped[wanted] = rekeyed.encrypted_keys
        # The id stays, though the Vault may have another by now: the envelopes name it, and are not written.
        return companion_format.proven(replace(companion, encrypted_keys=found, context=context), key)
