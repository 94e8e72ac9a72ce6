"""
Proves that the key of a context item is gone: what was encrypted for it does not open, and everything else does.

Every value of every encrypted field is looked at, and its data key is asked for, past all caches. So are the objects
that the vault itself stores.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from vault_fields.backends.base import BaseVault
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.blob import EncryptedKeys
from vault_fields.embedded.byok import CustomerKey
from vault_fields.embedded.lifecycle import KekInfo
from vault_fields.embedded.service import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, VaultRefused
from vault_fields.fields.groups import Group
from vault_fields.progress import Progress, silent
from vault_fields.storedkeys import in_environment, stored_keys

__all__ = ["ShredReport", "customers_key", "managed_key", "prove_shredded"]

# How many answers are remembered for the other values under the same data key.
_MAX_REMEMBERED = 10_000


@dataclass(slots=True)
class ShredReport:
    """
    Numbers of values. It is a proof if all of the item's are refused because of a key that is gone, and each other
    opens or is refused for a key of its own.

    ``recoverable`` are the item's that do not open, but because of a key that is only disabled, retired or withdrawn.
    ``refused_otherwise`` are others' whose own keys are disabled or destroyed; ``broken`` are those, of whomever, that
    do not open for another reason, such as a setting, and whatever cannot be read; ``elsewhere`` were encrypted by
    other vaults.
    """

    unreadable: int = 0
    readable: int = 0
    recoverable: int = 0
    others: int = 0
    refused_otherwise: int = 0
    broken: int = 0
    elsewhere: int = 0

    @property
    def proven(self) -> bool:
        return not (self.readable or self.recoverable or self.broken)

    def __str__(self) -> str:
        return (
            f"{self.unreadable} values of this key are unreadable, {self.readable} still open, and "
            f"{self.recoverable} are refused by a key that can come back. Of the values of other "
            f"keys {self.others} open, {self.refused_otherwise} are refused because of a key of their own. "
            f"{self.broken} values do not open for other reasons. {self.elsewhere} values are in other vaults."
        )


def prove_shredded(
    vault: BaseVault,
    name: str,
    value: str,
    wanted: Iterable[tuple[str, Group]],
    *,
    environment: str | None = None,
    progress: Progress = silent,
) -> ShredReport:
    """
    Try to open what the tables ``wanted`` hold, for the context item and for all others. Reads only.

    Of another ``environment`` than the vault's own, which has keys of its own and no rows, the objects are tried.

    One ``decrypt`` for each distinct data key. Raises ``VaultUnavailable`` if the vault fails, which proves nothing.
    """
    vault.purge()
    report = ShredReport()
    open_data_key: Callable[[str], object] = vault.decrypt_data_key
    is_gone: Callable[[str], bool] = _believed
    kek_id: bytes | None = None
    objects: Iterable[tuple[str, Mapping[str, str]]] = ()
    if isinstance(vault, EmbeddedBackend):
        service, wanted = in_environment(vault, environment, wanted)
        if service is not vault.service:
            open_data_key = service.open_data_key
        kek = managed_key(service, name, value)
        kek_id, objects = kek.id.bytes if kek else None, service.objects_keys()
        is_gone = service.is_gone
    prover = _Prover(open_data_key, is_gone, kek_id, name, value)
    for row in stored_keys(wanted, progress=progress):
        if row.companion is None:
            report.broken += row.values
        elif row.companion.vault != vault.alias:
            report.elsewhere += row.values
        else:
            prover.count(report, row.companion.encrypted_keys, row.companion.context, row.values)
    for encrypted_keys, context in objects:
        prover.count(report, encrypted_keys, context, 1)
    return report


def managed_key(service: EmbeddedVault, name: str, value: str) -> KekInfo | None:
    """The item's KEK; None if it only ever had a customer's key. Raises ``VaultRefused`` if it never had any."""
    return service.keks.find(name, value) if customers_key(service, name, value) else service.keks.get(name, value)


def customers_key(service: EmbeddedVault, name: str, value: str) -> CustomerKey | None:
    """The item's latest customer-managed key, a deleted one too."""
    found = [key for key in service.byok.all() if (key.item_name, key.item_value) == (name, value)]
    return service.byok.get(name, value) or (found[-1] if found else None)


def _believed(encrypted_keys: str) -> bool:
    """Of what another vault hands out nothing can be read."""
    return True


class _Outcome(Enum):
    OPENS = "opens"
    REVOKED = "refused because a key is disabled or destroyed"
    BROKEN = "does not open"


class _Prover:
    def __init__(
        self,
        open_data_key: Callable[[str], object],
        is_gone: Callable[[str], bool],
        kek_id: bytes | None,
        name: str,
        value: str,
    ) -> None:
        self._open = open_data_key
        self._is_gone = is_gone
        self._kek_id = kek_id
        self._name = name
        self._value = value
        self._outcome = lru_cache(_MAX_REMEMBERED)(self._try)

    def count(self, report: ShredReport, encrypted_keys: str, context: Mapping[str, str], values: int) -> None:
        outcome = self._outcome(encrypted_keys)
        if context.get(self._name) == self._value:
            if outcome is _Outcome.OPENS:
                report.readable += values
            elif outcome is _Outcome.BROKEN:
                report.broken += values
            elif self._is_gone(encrypted_keys):
                report.unreadable += values
            else:
                report.recoverable += values
        elif outcome is _Outcome.OPENS:
            report.others += values
        # One that hangs on the key, though its context does not name the item, is a loss that nobody meant.
        elif outcome is _Outcome.REVOKED and not self._hangs_on_key(encrypted_keys):
            report.refused_otherwise += values
        else:
            report.broken += values

    def _try(self, encrypted_keys: str) -> _Outcome:
        try:
            self._open(encrypted_keys)
        except KeyRevoked:
            return _Outcome.REVOKED
        except VaultRefused:
            return _Outcome.BROKEN
        return _Outcome.OPENS

    def _hangs_on_key(self, encrypted_keys: str) -> bool:
        """Known of an embedded vault only: what another one hands out is opaque."""
        if self._kek_id is None:
            return False
        return self._kek_id in {copy.kek_id for copy in EncryptedKeys.decode(encrypted_keys).copies}
