"""XAES-256-GCM against the vectors of its specification, and what a wrapping key refuses."""

import copy
import hashlib
import pickle

import pytest
from cryptography.exceptions import InvalidTag

from vault_fields.embedded.xaes import WrappingKey, framed

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"


@pytest.mark.parametrize(
    ("key", "associated", "expected"),
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\x03" * 32, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
    ids=["subkey without reduction", "subkey with reduction"],
)
def test_answers_of_the_specification(key: bytes, associated: bytes, expected: str) -> None:
    sealed = WrappingKey(key).seal(NONCE, b"XAES-256-GCM", associated)

    assert sealed == NONCE + bytes.fromhex(expected)
    assert WrappingKey(key).unwrap(sealed, associated) == b"XAES-256-GCM"


def test_accumulated_random_answers_of_the_specification() -> None:
    """10,000 random keys, nonces, texts and associated data; the hash of what they give is in the specification."""
    stream = hashlib.shake_128().digest(10_000 * (32 + 24 + 2 + 2 * 255))
    answers = hashlib.shake_128()
    offset = 0

    def take(length: int) -> bytes:
        nonlocal offset
        offset += length
        return stream[offset - length : offset]

    for _ in range(10_000):
        key, nonce = take(32), take(24)
        plaintext = take(take(1)[0])
        associated = take(take(1)[0])
        answers.update(WrappingKey(key).seal(nonce, plaintext, associated)[24:])

    assert answers.hexdigest(32) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"


def test_two_wraps_of_one_key_share_nothing() -> None:
    key = WrappingKey(bytes(32))

    first, second = key.wrap(b"k" * 32, b""), key.wrap(b"k" * 32, b"")

    assert first[:24] != second[:24]
    assert first[24:] != second[24:]


@pytest.mark.parametrize("length", [0, 23, 24, 39, 71])
def test_truncated_copy_does_not_open(length: int) -> None:
    key = WrappingKey(bytes(32))

    with pytest.raises(InvalidTag):
        key.unwrap(key.wrap(b"k" * 32, b"")[:length], b"")


def test_copy_does_not_open_with_other_associated_data() -> None:
    key = WrappingKey(bytes(32))

    with pytest.raises(InvalidTag):
        key.unwrap(key.wrap(b"k" * 32, b"one"), b"two")


def test_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 16"):
        WrappingKey(bytes(16))


def test_key_leaves_by_no_door() -> None:
    key = WrappingKey(b"secret" * 5 + b"!!")

    assert "secret" not in repr(key)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="must not leave"):
            leak(key)


def test_framing_tells_lists_of_parts_apart() -> None:
    assert len({framed(b"a", b"bc"), framed(b"ab", b"c"), framed(b"abc"), framed(b"abc", b"")}) == 4
