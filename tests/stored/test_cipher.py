"""Sealing and opening with a data key, and the proof that a companion belongs to it."""

import hashlib
import hmac
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings, strategies as st

from vault_fields.exceptions import DecryptionError, ValueRefused
from vault_fields.keys import DataKey
from vault_fields.stored import cipher
from vault_fields.stored.envelope import MAX_PLAINTEXT_BYTES, NONCE_BYTES, TAG_BYTES

KEY = DataKey("key", "wrapped", bytes(range(32)))
OTHER = DataKey("other", "wrapped", bytes(range(32, 64)))

reproducible = settings(derandomize=True, deadline=None, max_examples=200)


def refused(key, sealed, associated_data):
    with pytest.raises(DecryptionError) as caught:
        cipher.open_sealed(key, sealed, associated_data)
    assert type(caught.value) is DecryptionError
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@reproducible
@given(st.binary(), st.binary())
def test_what_is_sealed_opens(plaintext, associated_data) -> None:
    sealed = cipher.seal(KEY, plaintext, associated_data)
    assert len(sealed) == NONCE_BYTES + len(plaintext) + TAG_BYTES
    assert cipher.open_sealed(KEY, sealed, [associated_data]) == plaintext


def test_it_is_aes_256_gcm_under_the_data_key_itself() -> None:
    sealed = cipher.seal(KEY, b"text", b"data")
    assert AESGCM(KEY.plaintext).decrypt(sealed[:12], sealed[12:], b"data") == b"text"
    nonce = bytes(12)
    assert cipher.open_sealed(KEY, nonce + AESGCM(KEY.plaintext).encrypt(nonce, b"text", b"data"), [b"data"]) == b"text"


def test_a_nonce_is_12_random_bytes_of_the_operating_system(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(os, "urandom", lambda size: asked.append(size) or b"n" * size)
    assert cipher.seal(KEY, b"text", b"").startswith(b"n" * 12)
    assert asked == [12]


def test_sealing_twice_gives_nothing_in_common() -> None:
    nonces = {cipher.seal(KEY, b"text", b"")[:NONCE_BYTES] for _ in range(1000)}
    assert len(nonces) == 1000


def test_any_truncation_is_refused() -> None:
    sealed = cipher.seal(KEY, b"text", b"data")
    for length in range(NONCE_BYTES + TAG_BYTES, len(sealed)):
        refused(KEY, sealed[:length], [b"data"])


def test_any_flipped_bit_is_refused() -> None:
    sealed = cipher.seal(KEY, b"text", b"data")
    for position in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[position // 8] ^= 1 << position % 8
        refused(KEY, bytes(flipped), [b"data"])


def test_the_first_associated_data_that_fits_opens() -> None:
    sealed = cipher.seal(KEY, b"text", b"former")
    assert cipher.open_sealed(KEY, sealed, [b"current", b"former"]) == b"text"
    assert cipher.open_sealed(KEY, sealed, [b"former"]) == b"text"
    refused(KEY, sealed, [b"current", b"other"])
    refused(KEY, sealed, [])


def test_every_cause_has_the_same_message() -> None:
    sealed = cipher.seal(KEY, b"text", b"data")
    assert (
        refused(OTHER, sealed, [b"data"])
        == refused(KEY, sealed, [b"other"])
        == refused(KEY, sealed[:-1], [b"data"])
        == "the value does not open with its data key."
    )


class Sized(bytes):
    """Says that it is as long as it is told."""

    size: int

    def __len__(self):
        return self.size


def test_a_plaintext_beyond_the_limit_is_refused_before_it_is_encrypted() -> None:
    """No room for 64 MiB is needed to say that one byte more is too many."""
    longest = Sized(b"text")
    longest.size = MAX_PLAINTEXT_BYTES
    assert len(cipher.seal(KEY, longest, b"")) >= NONCE_BYTES + TAG_BYTES
    longest.size += 1
    with pytest.raises(
        ValueRefused, match=f"at most {MAX_PLAINTEXT_BYTES} bytes; this one has {MAX_PLAINTEXT_BYTES + 1}"
    ):
        cipher.seal(KEY, longest, b"")


# The proof.


@reproducible
@given(st.binary())
def test_a_proof_is_hmac_sha256_under_the_data_key(message) -> None:
    proof = cipher.prove(KEY, message)
    assert proof == hmac.digest(KEY.plaintext, message, hashlib.sha256)
    cipher.verify_proof(KEY, message, proof)


@pytest.mark.parametrize(
    ("key", "message", "proof"),
    [
        (OTHER, b"message", cipher.prove(KEY, b"message")),
        (KEY, b"messagf", cipher.prove(KEY, b"message")),
        (KEY, b"", cipher.prove(KEY, b"message")),
        (KEY, b"message", b""),
        (KEY, b"message", cipher.prove(KEY, b"message")[:-1]),
        (KEY, b"message", cipher.prove(KEY, b"message") + b"\0"),
        (KEY, b"message", bytes(32)),
    ],
    ids=["key", "message", "no message", "no proof", "short proof", "long proof", "wrong proof"],
)
def test_another_proof_is_refused(key, message, proof) -> None:
    with pytest.raises(DecryptionError, match=r"^the companion does not belong to its data key\.$") as caught:
        cipher.verify_proof(key, message, proof)
    assert caught.value.__suppress_context__


def test_any_flipped_bit_of_a_proof_is_refused() -> None:
    proof = cipher.prove(KEY, b"message")
    for position in range(8 * len(proof)):
        flipped = bytearray(proof)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(DecryptionError):
            cipher.verify_proof(KEY, b"message", bytes(flipped))


def test_neither_an_error_nor_the_repr_of_a_key_holds_a_secret() -> None:
    key = DataKey("key", "wrapped", b"k" * 32)
    sealed = cipher.seal(key, b"s3cret", b"")
    for text in (refused(key, sealed, [b"x"]), repr(key)):
        assert "kkkk" not in text
        assert "s3cret" not in text
