"""Helpers for the tests of projects that encrypt fields: Vault calls are the currency, so count them."""

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from vault_fields.fields.seallimit import suspended
from vault_fields.vaults import vaults

__all__ = [
    "BAKER_GENERATORS",
    "assert_vault_calls",
    "capture_vault_calls",
    "no_companion",
    "sample_json",
    "sample_text",
]

# For the setting BAKER_CUSTOM_FIELDS_GEN of model-bakery, which looks fields up by their exact class.
BAKER_GENERATORS = {
    "vault_fields.fields.EncryptedTextField": "vault_fields.testing.sample_text",
    "vault_fields.fields.EncryptedJSONField": "vault_fields.testing.sample_json",
    "vault_fields.fields.CompanionField": "vault_fields.testing.no_companion",
}

_numbers = itertools.count(1)


@contextmanager
def capture_vault_calls(using: str = "default", *, cold: bool = False) -> Iterator[Counter[str]]:
    """
    Count the calls to a Vault: yields a ``Counter`` of ``create``, ``decrypt`` and ``rekey``, filled at the end.

    With ``cold`` the cache of opened keys is emptied first. Calls of all threads count. Meanwhile no row that is
    written again gets a fresh data key by chance.
    """
    vault = vaults[using]
    if cold:
        vault.purge()
    before = Counter(vault.calls)
    calls: Counter[str] = Counter()
    try:
        with suspended():
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


def sample_text() -> str:
    """Return a text that no other call returns, for model-bakery."""
    return f"sample {next(_numbers)}"


def sample_json() -> dict[str, str]:
    """Return JSON that no other call returns, for model-bakery."""
    return {"sample": sample_text()}


def no_companion() -> None:
    """Give no value, for model-bakery, which may fill every column: a companion is written with its value."""
