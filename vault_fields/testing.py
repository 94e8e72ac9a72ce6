"""Helpers for the tests of projects that encrypt fields: Vault calls are the currency, so count them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from vault_fields.vaults import vaults

__all__ = ["assert_vault_calls", "capture_vault_calls"]


@contextmanager
def capture_vault_calls(using: str = "default", *, cold: bool = False) -> Iterator[Counter[str]]:
    """
    Count the calls to a Vault: yields a ``Counter`` of ``create``, ``decrypt`` and ``rekey``, filled at the end.

    With ``cold`` the cache of opened keys is emptied first. Calls of all threads count.
    """
    vault = vaults[using]
    if cold:
        vault.purge()
    before = Counter(vault.calls)
    calls: Counter[str] = Counter()
    try:
        yield calls
    finally:
        calls.update(vault.calls - before)


@contextmanager
def assert_vault_calls(
    *, create: int = 0, decrypt: int = 0, rekey: int = 0, using: str = "default", cold: bool = False
) -> Iterator[None]:
    """Fail unless the block makes exactly these calls to a Vault; see ``capture_vault_calls``."""
    with capture_vault_calls(using, cold=cold) as calls:
        yield
    expected = {"create": create, "decrypt": decrypt, "rekey": rekey}
    actual = {name: calls[name] for name in expected}
    if actual != expected:
        raise AssertionError(f"Vault calls to {using!r}: expected {expected}, got {actual}.")
