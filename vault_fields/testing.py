"""Helpers for the tests of projects that encrypt fields: Vault calls are the currency, so count them."""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from django.conf import settings

from vault_fields.fields.seallimit import suspended
from vault_fields.vaults import vaults

__all__ = [
    "BAKER_GENERATORS",
    "assert_vault_calls",
    "capture_vault_calls",
    "no_companion",
    "sample_address",
    "sample_bytes",
    "sample_date",
    "sample_digit",
    "sample_duration",
    "sample_email",
    "sample_json",
    "sample_moment",
    "sample_number",
    "sample_slug",
    "sample_text",
    "sample_time",
    "sample_truth",
    "sample_url",
]

# For the setting BAKER_CUSTOM_FIELDS_GEN of model-bakery, which looks fields up by their exact class.
BAKER_GENERATORS = {
    "vault_fields.fields.EncryptedTextField": "vault_fields.testing.sample_text",
    "vault_fields.fields.EncryptedJSONField": "vault_fields.testing.sample_json",
    "vault_fields.fields.EncryptedCharField": "vault_fields.testing.sample_text",
    "vault_fields.fields.EncryptedSlugField": "vault_fields.testing.sample_slug",
    "vault_fields.fields.EncryptedEmailField": "vault_fields.testing.sample_email",
    "vault_fields.fields.EncryptedURLField": "vault_fields.testing.sample_url",
    "vault_fields.fields.EncryptedIntegerField": "vault_fields.testing.sample_number",
    "vault_fields.fields.EncryptedBigIntegerField": "vault_fields.testing.sample_number",
    "vault_fields.fields.EncryptedSmallIntegerField": "vault_fields.testing.sample_number",
    "vault_fields.fields.EncryptedPositiveIntegerField": "vault_fields.testing.sample_number",
    "vault_fields.fields.EncryptedPositiveBigIntegerField": "vault_fields.testing.sample_number",
    "vault_fields.fields.EncryptedPositiveSmallIntegerField": "vault_fields.testing.sample_number",
    "vault_fields.fields.EncryptedDecimalField": "vault_fields.testing.sample_digit",
    "vault_fields.fields.EncryptedFloatField": "vault_fields.testing.sample_number",
    "vault_fields.fields.EncryptedBooleanField": "vault_fields.testing.sample_truth",
    "vault_fields.fields.EncryptedDateField": "vault_fields.testing.sample_date",
    "vault_fields.fields.EncryptedDateTimeField": "vault_fields.testing.sample_moment",
    "vault_fields.fields.EncryptedTimeField": "vault_fields.testing.sample_time",
    "vault_fields.fields.EncryptedDurationField": "vault_fields.testing.sample_duration",
    "vault_fields.fields.EncryptedUUIDField": "uuid.uuid4",
    "vault_fields.fields.EncryptedGenericIPAddressField": "vault_fields.testing.sample_address",
    "vault_fields.fields.EncryptedBinaryField": "vault_fields.testing.sample_bytes",
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


def sample_slug() -> str:
    """Return a slug that no other call returns, for model-bakery."""
    return f"sample-{next(_numbers)}"


def sample_email() -> str:
    """Return an e-mail address that no other call returns, for model-bakery."""
    return f"sample{next(_numbers)}@example.org"


def sample_url() -> str:
    """Return a URL that no other call returns, for model-bakery."""
    return f"https://example.org/{next(_numbers)}"


def sample_number() -> int:
    """Return a whole number that 30,000 other calls do not return, for model-bakery."""
    return next(_numbers) % 30_000


def sample_digit() -> Decimal:
    """Return a number of one digit, for model-bakery: a field may have no more."""
    return Decimal(next(_numbers) % 10)


def sample_truth() -> bool:
    """Return True and False in turn, for model-bakery."""
    return next(_numbers) % 2 == 0


def sample_moment() -> dt.datetime:
    """Return a time that no other call returns, for model-bakery: with a zone if the project has zones."""
    moment = dt.datetime(2000, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=31 * (next(_numbers) % 100_000))
    return moment if settings.USE_TZ else moment.replace(tzinfo=None)


def sample_date() -> dt.date:
    """Return a date that few other calls return, for model-bakery."""
    return sample_moment().date()


def sample_time() -> dt.time:
    """Return a time of the day, for model-bakery."""
    return sample_moment().time()


def sample_duration() -> dt.timedelta:
    """Return a duration that no other call returns, for model-bakery."""
    return dt.timedelta(seconds=next(_numbers))


def sample_address() -> str:
    """Return an IP address of those for documentation, for model-bakery."""
    return f"192.0.2.{next(_numbers) % 256}"


def sample_bytes() -> bytes:
    """Return bytes that no other call returns, for model-bakery."""
    return sample_text().encode()


def no_companion() -> None:
    """Give no value, for model-bakery, which may fill every column: a companion is written with its value."""
