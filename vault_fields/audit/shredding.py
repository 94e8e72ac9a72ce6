"""
The proof that the key of a context item is gone: values encrypted for it do not open, and all others do.

Every value of every encrypted field is opened, with a data key that is read past all caches, after its companion has
proved whose it is. So are the objects that the vault itself stores.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from vault_fields.audit.companions import Answers, Claim, IndexKeyClaim, hangs_on, keys_of_item
from vault_fields.audit.places import Place, in_environment, stored_keys
from vault_fields.backends.base import BaseVault
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.datakeys.cache import KeyCache
from vault_fields.embedded.customer.lifecycle import CustomerKey
from vault_fields.embedded.managed.lifecycle import KekInfo
from vault_fields.embedded.objects import StoredObjects
from vault_fields.embedded.objects.values import ObjectClaim
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, KeyUnavailable, VaultRefused
from vault_fields.keys import DataKey
from vault_fields.runtime.frames import forget, forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.text.counting import counted

__all__ = ["ShredReport", "customers_key", "managed_key", "prove_shredded", "shredded_keys"]


OnProblem = Callable[[str], object]


@dataclass(slots=True)
class ShredReport:
    """
    Numbers of values. It is a proof if all values of the item are refused because of a key that is gone, and each
    other value opens or is refused for a key of its own.

    ``recoverable`` counts the item's values that do not open only because a key is disabled, retired or withdrawn.
    ``refused_otherwise`` counts others' values whose own keys are disabled or destroyed. ``broken`` counts values of
    anybody that do not open for another reason, such as a setting, or although their data key opens, and everything
    that cannot be read. ``elsewhere`` counts values that other vaults are said to have encrypted. ``unanswered``
    counts values of which nothing is known, because a customer's key does not answer. The owner of a value was
    verified where its data key opens, and is taken from its companion where the key is refused.

    An index key counts as a value; ``index_keys`` are those of the item. ``hashes`` are left in its rows, made with
    them: they tell which values were equal. ``global_hashes`` are left that another key made: who has the vault can
    still find out by trying which values they belong to, and so there is no proof.
    """

    unreadable: int = 0
    readable: int = 0
    recoverable: int = 0
    others: int = 0
    refused_otherwise: int = 0
    broken: int = 0
    elsewhere: int = 0
    unanswered: int = 0
    index_keys: int = 0
    hashes: int = 0
    global_hashes: int = 0

    @property
    def proven(self) -> bool:
        return not (self.readable or self.recoverable or self.broken or self.unanswered or self.global_hashes)

    @property
    def unverified(self) -> int:
        """The number of values whose owner only their companion tells: its proof needs the data key."""
        return self.unreadable + self.recoverable + self.refused_otherwise

    def __str__(self) -> str:
        unanswered = ""
        if self.unanswered:
            unanswered = f" Of {self.unanswered} it cannot be told, because a customer's key does not answer."
        return (
            f"{counted(self.unreadable, 'value of this key is', 'values of this key are')} unreadable, "
            f"{counted(self.readable, 'still opens', 'still open')}, and "
            f"{counted(self.recoverable, 'is', 'are')} refused by a key that can come back. Of the values of other "
            f"keys {counted(self.others, 'opens', 'open')}, "
            f"{counted(self.refused_otherwise, 'is', 'are')} refused because of a key of their own. "
            f"{counted(self.broken, 'value does', 'values do')} not open for other reasons, or were altered. "
            f"{counted(self.elsewhere, 'value says that it is', 'values say that they are')} in other vaults, which "
            f"were not asked. Unverified, because their keys are refused: "
            f"{self.unverified}, which were counted by their own claim.{unanswered}{self._of_indexes()}"
        )

    def _of_indexes(self) -> str:
        found = ""
        if self.index_keys:
            found += f" Of the values of this key {counted(self.index_keys, 'is an index key', 'are index keys')}."
        if self.hashes:
            found += (
                f" Its rows have {counted(self.hashes, 'hash', 'hashes')} left, which tell which values were equal."
            )
        if self.global_hashes:
            found += (
                f" Its rows have {counted(self.global_hashes, 'hash', 'hashes')} of global indexes left, whose index "
                "key opens: values can be found out by trying. Delete them with `vault_kek unindex`."
            )
        return found


@forgetful
def prove_shredded(
    vault: BaseVault,
    name: str,
    value: str,
    wanted: Iterable[Place],
    *,
    environment: str | None = None,
    progress: Progress = silent,
    on_problem: OnProblem | None = None,
) -> ShredReport:
    """
    Try to open what the tables ``wanted`` hold, for the context item and for all others. Reads only.

    Another ``environment`` than the vault's own has keys of its own and no rows: its objects are tried.

    Costs one ``decrypt`` for each distinct data key. Raises ``VaultUnavailable`` if the vault fails, which proves
    nothing. If one customer's key does not answer, ``on_problem`` is called for each row, and the report is no proof.
    """
    vault.purge()
    report = ShredReport()
    open_data_key: Callable[[str], DataKey] = vault.decrypt_data_key
    is_gone: Callable[[str], bool] = _believed
    keys: frozenset[bytes] = frozenset()
    objects: Iterable[ObjectClaim | None] = ()
    if isinstance(vault, EmbeddedBackend):
        service, wanted = in_environment(vault, environment, wanted)
        if service is not vault.service:
            open_data_key = service.open_data_key
        managed_key(service, name, value)
        keys, objects = keys_of_item(service, name, value), StoredObjects(service).claims()
        is_gone = service.is_gone
    prover = _Prover(vault.cache, open_data_key, is_gone, keys, name, value, on_problem or _ignored)
    for row in stored_keys(wanted, progress=progress):
        if row.claim is None:
            report.broken += row.values
        elif row.claim.companion.vault != vault.alias:
            report.elsewhere += row.values
        else:
            prover.count(report, row.claim, f"{row.label} (pk={row.pk!r})")
            if row.claim.context.get(name) == value:
                report.index_keys += isinstance(row.claim, IndexKeyClaim)
                report.hashes += row.hashes
                report.global_hashes += row.global_hashes
    for claim in objects:
        if claim is None:
            report.broken += 1
        else:
            prover.count(report, claim, claim.label)
    return report


def shredded_keys(vault: BaseVault) -> Callable[[str, str], bool]:
    """
    Return a function that tells whether encrypted keys of a vault, by its alias, are refused for a key that is gone.

    It costs one ``decrypt`` for each distinct data key, past all caches. Keys of other vaults are not asked about. It
    raises ``VaultUnavailable`` if the vault fails.
    """
    vault.purge()
    is_gone = vault.service.is_gone if isinstance(vault, EmbeddedBackend) else _believed

    def ask(encrypted_keys: str) -> bool:
        try:
            vault.decrypt_data_key(encrypted_keys)
        except KeyRevoked:
            return is_gone(encrypted_keys)
        except (KeyUnavailable, VaultRefused):
            return False
        return False

    answers = Answers(vault.cache, ask, from_cache=True)
    return lambda alias, encrypted_keys: alias == vault.alias and answers[encrypted_keys]


@forgetful
def managed_key(service: EmbeddedVault, name: str, value: str) -> KekInfo | None:
    """Return the item's KEK; None if it only ever had a customer's key. Raises ``VaultRefused`` if it never had any."""
    return service.keks.find(name, value) if customers_key(service, name, value) else service.keks.get(name, value)


@forgetful
def customers_key(service: EmbeddedVault, name: str, value: str) -> CustomerKey | None:
    """Return the item's latest customer key, a deleted one too."""
    found = [key for key in service.byok.all() if (key.item_name, key.item_value) == (name, value)]
    return service.byok.get(name, value) or (found[-1] if found else None)


def _ignored(problem: str) -> None:
    """Ignore a problem, for callers that want only the numbers."""


def _believed(encrypted_keys: str) -> bool:
    """Believe that the key is gone: a blob of another vault cannot be read to check it."""
    return True


class _Refusal(Enum):
    REVOKED = "refused because a key is disabled or destroyed"
    BROKEN = "does not open"


class _Prover:
    def __init__(
        self,
        cache: KeyCache,
        open_data_key: Callable[[str], DataKey],
        is_gone: Callable[[str], bool],
        keys: frozenset[bytes],
        name: str,
        value: str,
        on_problem: OnProblem,
    ) -> None:
        self._on_problem = on_problem
        self._open = open_data_key
        self._is_gone = is_gone
        self._keys = keys
        self._name = name
        self._value = value
        self._outcomes = Answers(cache, self._try, from_cache=True)

    def count(self, report: ShredReport, claim: Claim, label: str) -> None:
        outcome = self._outcomes[claim.encrypted_keys]
        is_the_items = claim.context.get(self._name) == self._value
        if isinstance(outcome, KeyUnavailable):
            report.unanswered += claim.values
            self._on_problem(f"{label}: {outcome}")
        elif isinstance(outcome, DataKey):
            # The companion of a data key that opens counts for nothing before the data key has proved it.
            opening = claim.opening(outcome) if claim.is_proven(outcome) else 0
            report.broken += claim.values - opening
            if is_the_items:
                report.readable += opening
            else:
                report.others += opening
        elif outcome is _Refusal.BROKEN:
            report.broken += claim.values
        elif is_the_items and self._is_gone(claim.encrypted_keys):
            report.unreadable += claim.values
        elif is_the_items:
            report.recoverable += claim.values
        # A value under the key, though its context does not name the item, is a loss that nobody intended.
        elif hangs_on(claim.encrypted_keys, self._keys):
            report.broken += claim.values
        else:
            report.refused_otherwise += claim.values

    def _try(self, encrypted_keys: str) -> DataKey | KeyUnavailable | _Refusal:
        try:
            return self._open(encrypted_keys)
        except KeyRevoked:
            return _Refusal.REVOKED
        except KeyUnavailable as error:
            return forget(error)
        except VaultRefused:
            return _Refusal.BROKEN
