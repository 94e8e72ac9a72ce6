"""The text in the companion column: one text for one companion, and a typed error for everything else."""

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from vault_fields.exceptions import DecryptionError, EnvelopeError
from vault_fields.keys import DataKey, KeyContext
from vault_fields.stored import companion
from vault_fields.stored.companion import MAX_ENCRYPTED_KEYS_LENGTH, PROOF_BYTES, Companion

PROOF = bytes(range(PROOF_BYTES))
PLAIN = Companion("default", "key-1", "d3JhcHBlZA==", KeyContext({"tenant": "a"}), {"tenant": "7"}, PROOF)
TEXT = (
    '{"v":2,"vault":"default","id":"key-1","keys":"d3JhcHBlZA==","context":{"tenant":"a"},"row":{"tenant":"7"},'
    '"proof":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}'
)
MALFORMED = "the companion is malformed or altered."

reproducible = settings(derandomize=True, deadline=None, max_examples=200)

contexts = st.builds(
    KeyContext,
    st.dictionaries(st.text(min_size=1, max_size=120), st.text(max_size=500), min_size=1, max_size=10),
)
rows = st.dictionaries(st.text(min_size=1, max_size=120), st.none() | st.text(max_size=500), max_size=10)
companions = st.builds(
    Companion,
    vault=st.text(max_size=200),
    key_id=st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True),
    encrypted_keys=st.text(max_size=500),
    context=contexts,
    row=rows,
    proof=st.binary(min_size=PROOF_BYTES, max_size=PROOF_BYTES),
)


def changed(**members):
    return companion._compact(json.loads(TEXT) | members)


def refused(text):
    with pytest.raises(EnvelopeError) as caught:
        companion.decode(text)
    return str(caught.value)


def test_the_text_is_compact_json_with_its_members_in_order() -> None:
    assert companion.encode(PLAIN) == TEXT
    assert companion.decode(TEXT) == PLAIN


def test_the_proof_message_is_a_compact_array() -> None:
    said = Companion("default", "key-1", "d3JhcHBlZA==", KeyContext({"é": "b", "a": '"'}), {"z": None, "b": "7"})
    assert companion.proof_message(said) == (
        '["vault_fields proof",2,"default","key-1","d3JhcHBlZA==",{"a":"\\"","é":"b"},{"b":"7","z":null}]'.encode()
    )


@reproducible
@given(companions)
def test_every_companion_comes_back(made) -> None:
    text = companion.encode(made)
    assert companion.decode(text) == made
    assert companion.encode(companion.decode(text)) == text


@reproducible
@given(st.text())
def test_decoding_any_text_raises_nothing_but_an_envelope_error(text) -> None:
    for candidate in (text, f"{{{text}", f"{TEXT[:-2]}{text}", TEXT.replace("key-1", text)):
        try:
            decoded = companion.decode(candidate)
        except EnvelopeError:
            continue
        assert companion.encode(decoded) == candidate


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=8,
)


@reproducible
@given(st.sampled_from(["v", "vault", "id", "keys", "context", "row", "proof"]), json_values)
def test_any_json_for_a_member_is_accepted_canonically_or_refused(name, value) -> None:
    text = changed(**{name: value})
    try:
        decoded = companion.decode(text)
    except EnvelopeError:
        return
    assert companion.encode(decoded) == text


@reproducible
@given(companions, companions)
def test_proof_messages_differ_whenever_anything_that_is_said_does(made, other) -> None:
    """Whatever a reader acts on is proven: nothing of a companion can be changed without its data key."""
    message = companion.proof_message(made)
    for name in ("vault", "key_id", "encrypted_keys", "context", "row"):
        changed = replace(made, **{name: getattr(other, name)})
        assert (companion.proof_message(changed) == message) == (changed == made)
    assert companion.proof_message(replace(made, proof=other.proof)) == message


@pytest.mark.parametrize("name", ["vault", "key_id", "encrypted_keys", "context", "row"])
def test_a_proof_is_of_one_companion_and_one_key(name) -> None:
    key, other_key = (DataKey("key-1", "d3JhcHBlZA==", bytes([byte]) * 32) for byte in (1, 2))
    made = companion.proven(PLAIN, key)
    companion.verify(made, key)
    others = {
        "vault": "other",
        "key_id": "key-2",
        "encrypted_keys": "b3RoZXI=",
        "context": KeyContext({"tenant": "b"}),
        "row": {"tenant": "8"},
    }
    for forged, opened_by in [(replace(made, **{name: others[name]}), key), (made, other_key)]:
        with pytest.raises(DecryptionError, match=r"^the companion does not belong to its data key\.$"):
            companion.verify(forged, opened_by)


def test_any_truncation_is_refused() -> None:
    for length in range(len(TEXT)):
        refused(TEXT[:length])


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[" * 100_000, '{"v":' * 50_000, '{"v":2', "\ufeff" + TEXT],
    ids=["empty", "text", "arrays", "objects", "cut", "byte order mark"],
)
def test_what_is_not_json_is_refused_as_that(text) -> None:
    assert refused(text) == "the companion is not JSON: it is truncated or altered."


@pytest.mark.parametrize("text", ["1", '"text"', "[]", "null", "{}", '{"v":3}', '{"v":"1"}', '{"v":null}', '{"v":NaN}'])
def test_an_unknown_version_is_refused_as_that(text) -> None:
    assert refused(text) == "the companion has a version that this release of vault_fields does not know."


def test_a_version_that_was_never_released_is_told_as_that() -> None:
    assert "written by a development version of vault_fields" in refused(TEXT.replace('"v":2', '"v":1'))


def test_a_lone_surrogate_is_refused() -> None:
    """It has no UTF-8, and so no proof message. No database holds one; a fixture of JSON may."""
    refused(TEXT.replace('"7"', '"\ud800"'))
    refused(TEXT.replace('"7"', '"\\ud800"'))


@pytest.mark.parametrize("spelling", ["2.0", "2e0", "20e-1"])
def test_the_version_has_one_spelling(spelling) -> None:
    assert refused(TEXT.replace('"v":2', f'"v":{spelling}')) == MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        f" {TEXT}",
        f"{TEXT}\n",
        TEXT.replace(":2,", ": 2,"),
        TEXT.replace('"v":2', '"v":2,"v":2'),
        TEXT.replace('"7"}', '"7","tenant":"7"}'),
        TEXT.replace('"7"}', '"8","tenant":"7"}'),
        TEXT.replace("tenant", "t\\u0065nant"),
        TEXT.replace("ZA==", "ZA=\\u003d"),
        changed(context={"b": "1", "a": "2"}),
        changed(row={"b": "1", "a": "2"}),
        changed(more=""),
        companion._compact({name: value for name, value in json.loads(TEXT).items() if name != "row"}),
        companion._compact(dict(reversed(json.loads(TEXT).items()))),
    ],
    ids=range(13),
)
def test_there_is_one_text_for_one_companion(text) -> None:
    assert refused(text) == MALFORMED


@pytest.mark.parametrize("name", ["vault", "id", "keys", "context", "row", "proof"])
@pytest.mark.parametrize("value", [None, 1, 1.5, True, ["default"], [["tenant", "a"]]], ids=repr)
def test_every_member_has_its_type(name, value) -> None:
    assert refused(changed(**{name: value})) == MALFORMED


@pytest.mark.parametrize("name", ["vault", "id", "keys", "proof"])
def test_a_text_is_not_an_object(name) -> None:
    assert refused(changed(**{name: {}})) == MALFORMED


WITHIN = {
    "vault": ["", "v" * 200, "🔑" * 200],
    "id": ["k", "k" * 128],
    "keys": ["", "k" * MAX_ENCRYPTED_KEYS_LENGTH, "🔑" * 10],
    "context": [{"n" * 120: "v" * 500}, {f"{number}": "" for number in range(10)}, {"🔑" * 120: "🔑" * 500}],
    "row": [{}, {"n" * 120: "t" * 4096}, {f"{number}": None for number in range(10)}, {"🔑" * 120: "🔑" * 4096}],
}
BEYOND = {
    "vault": ["v" * 201],
    "id": ["", "k" * 129, "a/b", "é"],
    "keys": ["k" * (MAX_ENCRYPTED_KEYS_LENGTH + 1)],
    "context": [{}, {"": "v"}, {"n" * 121: "v"}, {"n": "v" * 501}, {f"{number:02}": "" for number in range(11)}],
    "row": [{"": "t"}, {"n" * 121: "t"}, {"n": "t" * 4097}, {f"{number:02}": "" for number in range(11)}, {"n": 1}],
    "proof": ["", *(base64.b64encode(bytes(length)).decode() for length in (16, 31, 33, 64))],
}


def each(limits):
    return pytest.mark.parametrize(
        ("name", "value"),
        [
            pytest.param(name, value, id=f"{name}-{index}")
            for name, values in limits.items()
            for index, value in enumerate(values)
        ],
    )


@each(WITHIN)
def test_a_member_at_its_limit_is_read(name, value) -> None:
    text = changed(**{name: value})
    assert companion.encode(companion.decode(text)) == text


@each(BEYOND)
def test_a_member_beyond_its_limit_is_refused(name, value) -> None:
    assert refused(changed(**{name: value})) == MALFORMED


def test_the_longest_companion_that_is_written_is_read() -> None:
    """Every member at its limit, and every character one that JSON spells with six."""
    worst = "\x01"
    names = [chr(0x1000 + number) for number in range(10)]
    longest = Companion(
        vault=worst * 200,
        key_id="k" * 128,
        encrypted_keys="k" * MAX_ENCRYPTED_KEYS_LENGTH,
        context=KeyContext({name + worst * 119: worst * 500 for name in names}),
        row={name + worst * 119: worst * 4096 for name in names},
        proof=PROOF,
    )
    assert companion.decode(companion.encode(longest)) == longest


def test_a_longer_text_is_refused_before_it_is_parsed(monkeypatch) -> None:
    parsed = []
    monkeypatch.setattr(companion.json, "loads", parsed.append)
    assert refused(" " * (512 * 1024 + 1)) == "the companion is longer than any that is written."
    assert parsed == []


def test_the_proof_has_one_base64_text() -> None:
    assert refused(TEXT.replace("Hh8=", "Hh9=")) == MALFORMED
    assert refused(TEXT.replace("Hh8=", "Hh8")) == MALFORMED
    assert refused(TEXT.replace("Hh8=", "Hh8==")) == MALFORMED
    assert refused(TEXT.replace("Hh8=", "Hh8=\\n")) == MALFORMED


def test_an_error_shows_nothing_of_the_companion() -> None:
    for name, value in [("context", {"tenant": 1}), ("id", "a/b"), ("proof", "")]:
        message = refused(changed(**{name: value}, keys="d3JhcHBlZA"))
        assert "tenant" not in message
        assert "d3Jh" not in message


def test_decoding_the_same_text_again_costs_nothing() -> None:
    """Rows that were written together have the same companion."""
    companion.decode.cache_clear()
    assert companion.decode(TEXT) is companion.decode(TEXT)
    assert companion.decode.cache_info()[:2] == (1, 1)
