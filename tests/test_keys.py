"""Key contexts and data keys: every limit of the specification, and what must not leave the process."""

import copy
import json
import pickle
from collections import UserDict
from uuid import UUID

import pytest

from vault_fields.exceptions import KeyContextError
from vault_fields.keys import DATA_KEY_BYTES, DataKey, KeyContext

# One character each, and 1, 2, 3 and 4 bytes in UTF-8.
CHARACTERS = ["x", "é", "組", "🔑"]


def items(number: int) -> dict[str, str]:
    return {f"name{index}": "value" for index in range(number)}


@pytest.mark.parametrize("number", [1, 10])
def test_1_to_10_items_are_a_context(number) -> None:
    assert len(KeyContext(items(number))) == number


def test_11_items_are_too_many() -> None:
    with pytest.raises(KeyContextError, match="at most 10 items, not 11"):
        KeyContext(items(11))


def test_an_empty_context_is_not_a_context() -> None:
    with pytest.raises(KeyContextError, match="at least one item"):
        KeyContext({})


@pytest.mark.parametrize("character", CHARACTERS)
def test_a_name_has_at_most_120_characters_however_many_bytes(character) -> None:
    assert list(KeyContext({character * 120: "v"})) == [character * 120]
    with pytest.raises(KeyContextError, match="at most 120 characters, not 121"):
        KeyContext({character * 121: "v"})


@pytest.mark.parametrize("character", CHARACTERS)
def test_a_value_has_at_most_500_characters_however_many_bytes(character) -> None:
    assert KeyContext({"n": character * 500})["n"] == character * 500
    with pytest.raises(KeyContextError, match="at most 500 characters; 'n' has 501"):
        KeyContext({"n": character * 501})


def test_an_emoji_of_several_code_points_counts_as_several_characters() -> None:
    family = "👨‍👩‍👧‍👦"
    assert len(family) == 7
    KeyContext({"n": family * 71})
    with pytest.raises(KeyContextError):
        KeyContext({"n": family * 72})


def test_a_value_may_be_empty_and_a_name_may_not() -> None:
    assert KeyContext({"n": ""})["n"] == ""
    with pytest.raises(KeyContextError, match="needs a name"):
        KeyContext({"": "v"})


@pytest.mark.parametrize("value", [None, 1, 1.5, True, b"v", ["v"], {"v": "v"}, UUID(int=1)])
def test_a_value_that_is_not_a_string_is_refused(value) -> None:
    with pytest.raises(KeyContextError, match=f"'n' has {type(value).__name__}"):
        KeyContext({"n": value})


@pytest.mark.parametrize("name", [None, 1, b"n", ("n",)])
def test_a_name_that_is_not_a_string_is_refused(name) -> None:
    with pytest.raises(KeyContextError, match=f"not {type(name).__name__}"):
        KeyContext({name: "v"})


@pytest.mark.parametrize("what", [None, "organization", ["organization"], [("organization", "1")]])
def test_a_context_is_a_mapping(what) -> None:
    with pytest.raises(KeyContextError, match="is a mapping"):
        KeyContext(what)


@pytest.mark.parametrize("broken", [{"n": "\ud800"}, {"\udfff": "v"}])
def test_what_utf8_cannot_hold_is_refused_without_a_chained_copy(broken) -> None:
    with pytest.raises(KeyContextError, match="lone surrogate") as caught:
        KeyContext(broken)
    assert caught.value.__suppress_context__


def test_a_message_never_shows_a_value() -> None:
    with pytest.raises(KeyContextError) as caught:
        KeyContext({"n": "tenant" * 100})
    assert "tenant" not in str(caught.value)


def test_contexts_with_the_same_items_are_equal_in_any_order() -> None:
    one, other = KeyContext({"a": "1", "b": "2"}), KeyContext({"b": "2", "a": "1"})
    assert one == other
    assert hash(one) == hash(other)
    assert one.canonical == other.canonical == b'{"a":"1","b":"2"}'
    assert list(other) == ["a", "b"]
    assert {one: "found"}[other] == "found"


def test_a_context_equals_the_mapping_it_holds_and_nothing_else() -> None:
    context = KeyContext(UserDict({"a": "1"}))
    assert context == {"a": "1"}
    assert context != {"a": "2"}
    assert context != "a"
    assert context != KeyContext({"a": "2"})


def test_canonical_bytes_keep_unicode_and_escape_what_json_must() -> None:
    context = KeyContext({"名": 'a"b\\\n🔑'})
    assert context.canonical.decode() == '{"名":"a\\"b\\\\\\n🔑"}'
    assert json.loads(context.canonical) == context


def test_a_context_does_not_change_with_the_mapping_it_came_from() -> None:
    source = {"a": "1"}
    context = KeyContext(source)
    source["a"] = "2"
    assert context["a"] == "1"
    with pytest.raises(TypeError):
        context["a"] = "2"


def test_repr_of_a_context() -> None:
    assert repr(KeyContext({"b": "2", "a": "1"})) == "KeyContext({'a': '1', 'b': '2'})"


def data_key() -> DataKey:
    return DataKey("id", "blob", bytes(range(DATA_KEY_BYTES)))


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_data_key_has_32_bytes(length) -> None:
    with pytest.raises(ValueError, match=f"32 bytes, not {length}"):
        DataKey("id", "blob", bytes(length))


def test_repr_of_a_data_key_hides_the_key() -> None:
    assert repr(data_key()) == "DataKey(id='id', encrypted_keys='blob')"


@pytest.mark.parametrize(
    "leave", [copy.copy, copy.deepcopy, *(lambda key, n=n: pickle.dumps(key, n) for n in range(6))]
)
def test_a_data_key_cannot_be_copied_or_pickled(leave) -> None:
    with pytest.raises(TypeError, match="must not leave this process"):
        leave(data_key())


def test_a_data_key_is_frozen() -> None:
    with pytest.raises(AttributeError):
        data_key().plaintext = bytes(32)


def test_a_data_key_comes_with_its_cipher() -> None:
    key = data_key()
    assert key.aead.decrypt(bytes(12), key.aead.encrypt(bytes(12), b"text", None), None) == b"text"
