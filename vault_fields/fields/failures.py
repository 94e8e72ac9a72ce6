"""Failures of a Vault, remembered while one page is made: it is not asked for the same key in each row."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from vault_fields.datakeys.cache import Outcome
from vault_fields.exceptions import VaultError
from vault_fields.runtime.deadline import NoAnswerInTime

__all__ = ["Failures", "known_failures", "remembering"]

# After this many rounds in which a vault was silent the page does without it. One may be a single customer's provider.
SILENT_ROUNDS = 2


class Failures:
    """The errors that came in place of keys, and the vaults that did not answer. Holds no key."""

    def __init__(self) -> None:
        self._errors: dict[tuple[str, str], VaultError] = {}
        self._silent: Counter[str] = Counter()
        self._silence: dict[str, VaultError] = {}

    def of(self, alias: str, encrypted_keys: str) -> VaultError | None:
        """Return the error that makes these keys not worth asking for again, or None."""
        if self._silent[alias] >= SILENT_ROUNDS:
            return self._silence[alias]
        return self._errors.get((alias, encrypted_keys))

    def note(self, alias: str, outcomes: Mapping[str, Outcome]) -> None:
        """Remember the outcomes of one round of calls."""
        errors = {(alias, name): outcome for name, outcome in outcomes.items() if isinstance(outcome, VaultError)}
        self._errors |= errors
        silent = [error for error in errors.values() if isinstance(error, NoAnswerInTime)]
        if len(silent) == len(outcomes):
            self._silent[alias] += 1
            self._silence[alias] = silent[0]


_known: ContextVar[Failures | None] = ContextVar("vault_fields_failures", default=None)


def known_failures() -> Failures | None:
    """Return the failures of the page that is being made, or None outside of one."""
    return _known.get()


@contextmanager
def remembering(failures: Failures) -> Iterator[None]:
    """Remember failures within the block, and in threads that are started there, so that nothing is asked for twice."""
    token = _known.set(failures)
    try:
        yield
    finally:
        _known.reset(token)
