"""The text in the value column: one text for one envelope, and a typed error for everything else."""

import base64
import json

import pytest
from hypothesis import given, settings, strategies as st

from vault_fields.exceptions import DecryptionError, EnvelopeError
from vault_fields.stored import envelope
from vault_fields.stored.envelope import MAX_PLAINTEXT_BYTES, NONCE_BYTES, TAG_BYTES, Envelope

SEALED = bytes(range(NONCE_BYTES + 2 + TAG_BYTES))

key_ids = st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True)
reproducible = settings(derandomize=True, deadline=None, max_examples=300)


def refused(text):
    with pytest.raises(EnvelopeError) as caught:
        envelope.decode(text)
    return str(caught.value)


def test_the_text_is_header_key_id_and_base64() -> None:
    text = envelope.encode(Envelope("key-1", SEALED))
    assert text == "$vf$1$key-1$" + base64.b64encode(SEALED).decode()
    assert envelope.decode(text) == ("key-1", SEALED)


@reproducible
@given(key_ids, st.binary(min_size=NONCE_BYTES + TAG_BYTES, max_size=200))
def test_every_envelope_comes_back(key_id, sealed) -> None:
    text = envelope.encode(Envelope(key_id, sealed))
    assert envelope.is_envelope(text)
    assert envelope.decode(text) == (key_id, sealed)


@reproducible
@given(st.text())
def test_decoding_any_text_raises_nothing_but_an_envelope_error(text) -> None:
    for candidate in (text, f"$vf$1${text}", f"$vf$1$key${text}", f"$vf${text}$key$AAAA"):
        try:
            decoded = envelope.decode(candidate)
        except EnvelopeError:
            continue
        assert envelope.encode(decoded) == candidate


@reproducible
@given(st.text(alphabet="AQgw/+019=\n -_é$", max_size=60))
def test_what_decodes_is_the_one_text_for_its_envelope(body) -> None:
    text = f"$vf$1$key${body}"
    try:
        decoded = envelope.decode(text)
    except EnvelopeError:
        return
    assert envelope.encode(decoded) == text


@pytest.mark.parametrize("text", ["$vf$1$", "$vf$1$k$AAAA", "$vf$2$anything", "$vf$0$", "$vf$007$", "$vf$987654321$"])
def test_an_envelope_of_any_version_counts_as_encrypted(text) -> None:
    assert envelope.is_envelope(text)


@pytest.mark.parametrize(
    "text",
    ["", "$vf", "$vf$", "$vf$1", "$vf$$", "$vf$x$", "$vf$-1$", "$vf$1 $", "$vf$１$", " $vf$1$", "$VF$1$", "vf$1$"],
)
def test_anything_else_is_plaintext(text) -> None:
    assert not envelope.is_envelope(text)
    assert refused(text) == "the value has no envelope."


@pytest.mark.parametrize("version", ["0", "01", "2", "11", pytest.param("9" * 5000, id="5000 digits")])
def test_an_unknown_version_is_refused_as_that(version) -> None:
    text = envelope.encode(Envelope("key", SEALED)).replace("$1$", f"${version}$", 1)
    assert "a version that this release of vault_fields does not know" in refused(text)


@pytest.mark.parametrize("key_id", ["a", "a" * 128, "AZaz09_.:-", "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"])
def test_what_may_name_a_data_key(key_id) -> None:
    assert envelope.is_key_id(key_id)
    assert envelope.decode(f"$vf$1${key_id}${base64.b64encode(SEALED).decode()}").key_id == key_id


@pytest.mark.parametrize("key_id", ["", "a" * 129, "a b", "a/b", "a+b", "a=", "ä", "٣", "a\n", "\na", "a\0"])
def test_what_may_not(key_id) -> None:
    assert not envelope.is_key_id(key_id)
    assert refused(f"$vf$1${key_id}${base64.b64encode(SEALED).decode()}") == "the envelope names no data key."


def test_a_value_has_at_least_nonce_and_tag() -> None:
    shortest = bytes(NONCE_BYTES + TAG_BYTES)
    assert envelope.decode(envelope.encode(Envelope("key", shortest))).sealed == shortest
    assert refused(envelope.encode(Envelope("key", shortest[:-1]))) == "the envelope is truncated or altered."


def test_any_truncation_is_refused() -> None:
    text = envelope.encode(Envelope("key", bytes(NONCE_BYTES + TAG_BYTES)))
    for length in range(len(text)):
        refused(text[:length])


def test_the_longest_value_that_is_written_is_read() -> None:
    longest = Envelope("k" * 128, bytes(NONCE_BYTES + MAX_PLAINTEXT_BYTES + TAG_BYTES))
    text = envelope.encode(longest)
    assert envelope.decode(text) == longest
    # The next length of base64 is refused before it is decoded.
    assert refused(f"{text}AAAA") == "the envelope is longer than any that is written."


def test_an_error_is_one_of_decryption_and_shows_nothing_of_the_value() -> None:
    message = refused("$vf$1$key$c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA")
    assert issubclass(EnvelopeError, DecryptionError)
    assert "c2Vj" not in message


# Base64.


@reproducible
@given(st.binary())
def test_bytes_come_back_from_base64(raw) -> None:
    assert envelope.encode_base64(raw) == base64.b64encode(raw).decode()
    assert envelope.decode_base64(envelope.encode_base64(raw)) == raw


@pytest.mark.parametrize(
    "text",
    [
        *("AAA", "AA", "A", "AA=", "A=", "A==="),  # padding that is missing
        *("AAAA=", "AAAA==", "AAAA===", "AAAA====", "AAA==", "AA===", "=", "==", "===="),  # and that is too much
        *("AAB=", "AAC=", "AAD=", "AB==", "AI==", "AP=="),  # bits that decoding ignores
        *("AAA=AAAA", "AA==AAAA", "AA=A", "=AAA"),  # padding inside
        *("AAAA\n", "\nAAAA", "AA\nAA", "AAAA\r\n", "AAA=\n", "AA AA", " AAAA", "AAAA\0", "AAAA "),  # white space
        *("AA-A", "AA_A"),  # the alphabet for URLs
        *("AAAé", "ＡＡＡＡ", "\ud800AAA"),  # not ASCII
    ],
)
def test_base64_that_is_not_canonical_is_refused(text) -> None:
    assert envelope.decode_base64(text) is None


def test_bytes_of_each_length_have_one_base64_text() -> None:
    """Of all texts of four digits, none decodes to the bytes of another one."""
    digits = "ABC01+/="
    texts = [a + b + c + d for a in digits for b in digits for c in digits for d in digits]
    decoded = [raw for text in texts if (raw := envelope.decode_base64(text)) is not None]
    assert len(decoded) == len(set(decoded)) > 7**4


# Associated data.


def test_associated_data_names_format_version_label_and_bound_values() -> None:
    data = envelope.associated_data("clinic.Patient.ssn", ["1", 'é"'])
    assert data == '["vault_fields",1,"clinic.Patient.ssn","1","é\\""]'.encode()
    assert envelope.associated_data("clinic.Patient.ssn") == b'["vault_fields",1,"clinic.Patient.ssn"]'


@reproducible
@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_associated_data_differs_whenever_a_label_or_a_bound_value_does(one, other) -> None:
    same = envelope.associated_data(one[0], one[1:]) == envelope.associated_data(other[0], other[1:])
    assert same == (one == other)
    assert json.loads(envelope.associated_data(one[0], one[1:])) == ["vault_fields", 1, *one]
