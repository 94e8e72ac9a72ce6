"""What stands for a secret is refused, and nothing that is random."""

import secrets
from fractions import Fraction
from math import comb

import pytest

from vault_fields.server.apikeys import hash_api_key
from vault_fields.text.placeholders import _FEW_BYTES, hashes_of_placeholders, is_guessable, is_placeholder

HASHES = frozenset(hashes_of_placeholders())


@pytest.mark.parametrize(
    "text",
    [
        *("", "sk_", "sk_example", "sk_KEY", "foobar", "empty", "root", "foo", "null", "undefined", "None"),
        *("${API_KEY}", "$API_KEY", "<key>", "<api-key>", "{{ api_key }}", "your-api-key", "SECRET", "xxxx"),
        *("sk_…", "sk_...", "KEY", "API key", "test", "test1", "test2", "test3", "sample", "demo", "dev", "bearer"),
        *("password", "changeme", "change-me", "admin", "default", "vault", "token", "123456", "api_key", "key"),
    ],
)
def test_an_api_key_that_is_none(text) -> None:
    assert hash_api_key(text) in HASHES


@pytest.mark.parametrize(
    "text",
    [
        *("whsec_from_the_dashboard", "whsec_your_webhook_secret", "replace-me-with-your-secret", "changemechangeme"),
        *("${WORKOS_WEBHOOK_SECRET}", "$WORKOS_WEBHOOK_SECRET", "<paste the secret here>", "{{ webhook.secret }}"),
        *("xxxxxxxxxxxxxxxxxxxx", "0000000000000000", "put-the-webhook-secret-here", "sk_test_your_api_key"),
        *("%(webhook_secret)s", "%WEBHOOK_SECRET%", "__WEBHOOK_SECRET__", "____________________", "example_secret_key"),
    ],
)
def test_a_text_that_is_no_secret(text) -> None:
    assert is_placeholder(text)


def test_a_secret_that_is_random_or_was_chosen_is_one() -> None:
    for _ in range(100):
        for text in (secrets.token_urlsafe(18), secrets.token_hex(16), f"whsec_{secrets.token_hex(12)}"):
            assert not is_placeholder(text)
    assert not is_placeholder("correct horse battery staple")
    assert not is_placeholder("whsec_test_secret")
    for chosen in ("sk_4f9Za81", "sk_test", "sk_staging"):
        assert hash_api_key(chosen) not in HASHES


@pytest.mark.parametrize(
    "material",
    [
        *(bytes(32), bytes(31) + b"\x01", bytes(range(32)), bytes(range(31, -1, -1)), bytes(range(0, 256, 8))),
        *(b"ab" * 16, b"changeme" * 4, b"0123456789abcdef" * 2, bytes.fromhex("deadbeef") * 8, (b"abc" * 11)[:32]),
        b"abcdefghijklmnopqrstuvwxyz012345",
    ],
)
def test_a_root_key_that_can_be_guessed(material) -> None:
    assert is_guessable(material)


def test_a_random_root_key_is_reported_less_often_than_once_in_two_to_the_64() -> None:
    # At most so many values among so many bytes, or steps; or one of the periods.
    few = sum(Fraction(comb(256, _FEW_BYTES) * _FEW_BYTES**number, 256**number) for number in (32, 31))
    periodic = sum(Fraction(1, 256 ** (32 - period)) for period in range(1, 17))
    assert few + periodic < Fraction(1, 2**64)
    assert not any(is_guessable(secrets.token_bytes(32)) for _ in range(1000))
    # One more would be too many.
    more = _FEW_BYTES + 2
    assert sum(Fraction(comb(256, more) * more**number, 256**number) for number in (32, 31)) > Fraction(1, 2**64)
