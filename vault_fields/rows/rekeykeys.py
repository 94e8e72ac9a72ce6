"""Updates of index keys to the keys that wrap for their contexts today, as ``rekey`` does it for rows."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from vault_fields.exceptions import DecryptionError
from vault_fields.fields.batch import Batch
from vault_fields.fields.indexkeys import require_index_key
from vault_fields.fields.opening import proven_key
from vault_fields.keys import DataKey
from vault_fields.rows.indexkeyrows import IndexKeyRow, IndexKeyRows
from vault_fields.rows.rekey import RekeyReport
from vault_fields.rows.rewrap import Wrappings
from vault_fields.rows.walk import BATCH_SIZE, ROW_ERRORS
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion
from vault_fields.vaults import vaults

__all__ = ["rekey_index_keys"]


@forgetful
def rekey_index_keys(
    using: str,
    *,
    rewrap: bool = False,
    dry_run: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
    on_problem: Callable[[str], object],
) -> RekeyReport:
    """
    Bring every index key of a database up to date; ``on_problem`` is called for each that is left alone.

    With ``rewrap`` those that today's keys have not wrapped are wrapped anew; the hashes stay as they are. A key that
    another vault made, before a move, cannot be wrapped anew, and is left alone. Costs one ``decrypt`` for each key
    that is not cached, and what the vault needs to rewrap them; nothing in a dry run. Raises ``VaultUnavailable``; the
    keys before stay written.
    """
    run = _Run(using, on_problem, rewrap=rewrap, dry_run=dry_run)
    with progress(f"Rekeying {run.report.label}", run.rows.count) as advance:
        for batch in run.rows.batches(batch_size):
            run.report.encrypted += len(batch)
            due: Sequence[IndexKeyRow] = batch
            while due:
                due = run.bring_up_to_date(due)
            advance(len(batch))
    return run.report


class _Run:
    """One walk over the index keys of a database."""

    def __init__(self, using: str, on_problem: Callable[[str], object], *, rewrap: bool, dry_run: bool) -> None:
        self.report = RekeyReport("vault_fields.IndexKey.companion", dry_run)
        self.rows = IndexKeyRows(using)
        self._rewrap = rewrap
        self._on_problem = on_problem
        self._wrappings: dict[str, Wrappings] = {}

    def bring_up_to_date(self, rows: Sequence[IndexKeyRow]) -> list[IndexKeyRow]:
        """Return those that were written to meanwhile, as they are now."""
        due: defaultdict[str, dict[IndexKeyRow, Companion]] = defaultdict(dict)
        for row in rows:
            with self._reporting(row):
                companion = companion_format.decode(row.companion)
                require_index_key(companion, row.context_hash, row.generation)
                _require_vault(row, companion)
                if self._rewrap and not self._of(companion).is_current(companion):
                    due[companion.vault][row] = companion
        if self.report.dry_run:
            self.report.rekeyed += sum(map(len, due.values()))
            return []
        changes = [change for found in due.values() for change in self._rewrapped(found)]
        written, changed = self.rows.write(changes)
        self.report.rekeyed += written
        return changed

    def _rewrapped(self, due: dict[IndexKeyRow, Companion]) -> Iterator[tuple[IndexKeyRow, str]]:
        batch = Batch([row.companion for row in due], hold=True, goes_on=True)
        verified: dict[IndexKeyRow, DataKey] = {}
        for row, companion in due.items():
            with self._reporting(row):
                verified[row] = proven_key(row.companion, companion, batch)
        if not verified:
            return
        wrappings = self._of(due[next(iter(verified))])
        wrappings.prepare(due[row] for row in verified)
        for row, key in verified.items():
            with self._reporting(row):
                yield row, companion_format.encode(wrappings.rewrapped(due[row], key))

    def _of(self, companion: Companion) -> Wrappings:
        if companion.vault not in self._wrappings:
            self._wrappings[companion.vault] = Wrappings(vaults[companion.vault])
        return self._wrappings[companion.vault]

    @contextmanager
    def _reporting(self, row: IndexKeyRow) -> Iterator[None]:
        """Report an index key that fails, and go on with the others; an unavailable Vault ends the operation."""
        try:
            yield
        except ROW_ERRORS as error:
            self.report.failed += 1
            self.report.left_alone.add(row.pk)
            self._on_problem(f"{row.label}: {error}")


def _require_vault(row: IndexKeyRow, companion: Companion) -> None:
    writer = vaults.writer(row.vault)
    if companion.vault != writer:
        raise DecryptionError(
            f"the index key is in the vault {companion.vault!r}, and new ones come from {writer!r}, which cannot wrap "
            "it. Make a new one, and all hashes with it: `manage.py vault_index --rotate`."
        )
