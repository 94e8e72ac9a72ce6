"""Where one operation gets its fresh data keys from."""

from collections import OrderedDict

from vault_fields.keys import DataKey, KeyContext
from vault_fields.vaults import vaults

__all__ = ["NewKeys"]

# How many contexts have a key ready. An operation over more of them asks again for those it has not met for longest.
MAX_CONTEXTS = 10_000


class NewKeys:
    """
    The fresh data keys of one operation: one for each context, shared by as many rows as its vault allows.

    An operation over many rows that keeps one of these from batch to batch asks for as few keys as if it sealed them
    all at once, however its tenants' rows are interleaved. With ``shared`` they may be those of earlier saves, if the
    vault is configured so. Not thread-safe.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self._shared = shared
        self._ready: OrderedDict[tuple[str, KeyContext], tuple[DataKey, int]] = OrderedDict()

    def take(self, alias: str, context: KeyContext) -> DataKey:
        """A data key for one more row. One ``create`` for every ``max_rows_per_key`` rows of a context."""
        key, rows = self._ready.pop((alias, context), (None, 0))
        vault = vaults[alias]
        if key is None or rows >= vault.max_rows_per_key:
            key = vault.shared_data_key(context) if self._shared else vault.create_data_key(context)
            rows = 0
        self._ready[alias, context] = key, rows + 1
        if len(self._ready) > MAX_CONTEXTS:
            self._ready.popitem(last=False)
        return key
