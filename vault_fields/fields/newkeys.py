"""The supply of fresh data keys for one operation: made, shared between rows, and not asked for again if refused."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Model

from vault_fields.datakeys.cache import Term
from vault_fields.exceptions import KeyUnavailable, VaultRefused
from vault_fields.fields.batch import FAILURE_AGE
from vault_fields.fields.groups import Group, all_groups_of
from vault_fields.fields.seallimit import is_due
from vault_fields.keys import DataKey, KeyContext
from vault_fields.patches import require_known_django
from vault_fields.vaults import vaults

__all__ = ["NewKeys"]

# The number of contexts with a key ready. An operation over more of them asks again for the least recently met.
MAX_CONTEXTS = 10_000


@dataclass(slots=True)
class _Ready:
    key: DataKey
    term: Term
    rows: int = 0


class NewKeys:
    """
    The fresh data keys of one operation: one for each context, shared by as many rows as its vault allows.

    An operation over many rows that keeps one of these from batch to batch asks for as few keys as if it sealed them
    all at once, however its tenants' rows are interleaved. But it seals nothing with a key that it has had for longer
    than its vault's cache would keep it, so that a key that was disabled meanwhile is not used for hours. With
    ``shared`` they may be those of earlier saves, if the vault is configured so. Without ``by_chance`` no row leaves a
    key that serves. Not thread-safe.
    """

    def __init__(self, *, shared: bool = False, by_chance: bool = True) -> None:
        require_known_django()
        self._shared = shared
        self._by_chance = by_chance
        self._ready: OrderedDict[tuple[str, KeyContext], _Ready] = OrderedDict()
        self._renewed: set[tuple[int, Group]] = set()
        self._refused: dict[tuple[str, KeyContext], VaultRefused] = {}
        self._away: dict[tuple[str, KeyContext], tuple[KeyUnavailable, Term]] = {}

    def prepare(self, wanted: Iterable[tuple[str, KeyContext]]) -> None:
        """Let vaults, by their aliases, make at once what the first keys for these contexts need. Costs no call."""
        missing: defaultdict[str, list[KeyContext]] = defaultdict(list)
        for alias, context in dict.fromkeys(wanted):
            if (alias, context) not in self._ready and (alias, context) not in self._refused:
                missing[alias].append(context)
        for alias, contexts in missing.items():
            if len(contexts) > 1:
                vaults[alias].prepare(contexts)

    def renews(self, instance: Model, group: Group, seals: int) -> bool:
        """
        Whether a row's companion gets a fresh key though it might keep its own, for this many values; see ``renewal``.

        The answer for a row stays the same: an operation may have to seal it twice.
        """
        if not self._by_chance:
            return False
        name = id(instance), group
        if name not in self._renewed and is_due(seals, companions=len(all_groups_of(type(instance)))):
            self._renewed.add(name)
        return name in self._renewed

    def take(self, alias: str, context: KeyContext) -> DataKey:
        """
        Return a data key for one more row.

        Costs one ``create`` for every ``max_rows_per_key`` rows of a context, and for every ``key_max_age`` seconds. A
        context for which the Vault refused a key is refused for the other rows too, without asking again; one whose
        own key does not answer, for a moment.
        """
        if (alias, context) in self._refused:
            raise self._refused[alias, context]
        if (alias, context) in self._away:
            unavailable, term = self._away[alias, context]
            if not term.is_over:
                raise unavailable
            del self._away[alias, context]
        vault = vaults[alias]
        ready = self._ready.pop((alias, context), None)
        if ready is None or ready.rows >= vault.max_rows_per_key or ready.term.is_over:
            term = Term(vault.cache)
            try:
                key = vault.shared_data_key(context) if self._shared else vault.create_data_key(context)
            except VaultRefused as error:
                self._refused[alias, context] = error
                raise
            except KeyUnavailable as error:
                self._away[alias, context] = error, term.from_now(FAILURE_AGE)
                raise
            ready = _Ready(key, term)
        ready.rows += 1
        self._ready[alias, context] = ready
        if len(self._ready) > MAX_CONTEXTS:
            self._ready.popitem(last=False)
        return ready.key
