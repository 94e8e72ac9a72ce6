"""The encrypted keys of a vault over a transit engine: one text for one blob, and nothing else is one."""

import base64
import os

import pytest

from vault_fields.keys import MAX_ITEMS
from vault_fields.openbao.blob import MAX_COPY_BYTES, EncryptedKeys, MalformedBlob, WrappedCopy
from vault_fields.openbao.names import MAX_NAME_LENGTH, is_key_name, key_name

PLAINTEXT = bytes(range(32))
COPIES = [WrappedCopy("first", 1, b"w" * 60), WrappedCopy("second", 7, b"v" * 60)]
BLOB = EncryptedKeys.of(bytes(16), PLAINTEXT, COPIES)


def raw(blob: EncryptedKeys) -> bytes:
    return base64.b64decode(blob.encode())


def refused(blob: bytes) -> bool:
    try:
        EncryptedKeys.decode(base64.b64encode(blob).decode())
    except MalformedBlob:
        return True
    return False


def test_what_is_encoded_is_decoded() -> None:
    assert EncryptedKeys.decode(BLOB.encode()) == BLOB
    assert BLOB.belongs_to(PLAINTEXT)
    assert not BLOB.belongs_to(bytes(32))


def test_the_greatest_blob_is_within_the_bounds_of_the_companion() -> None:
    names = ["n" * (MAX_NAME_LENGTH - 1) + str(number) for number in range(MAX_ITEMS)]
    blob = EncryptedKeys.of(os.urandom(16), PLAINTEXT, [WrappedCopy(name, 2**32 - 1, bytes(1024)) for name in names])

    assert EncryptedKeys.decode(blob.encode()) == blob
    assert len(blob.encode()) < 64 * 1024
    with pytest.raises(MalformedBlob):
        EncryptedKeys.decode(blob.encode() + "AAAA" * 100)


def test_every_cut_and_every_surplus_is_refused() -> None:
    for size in range(len(raw(BLOB))):
        assert refused(raw(BLOB)[:size])
    assert refused(raw(BLOB) + b"\0")


@pytest.mark.parametrize(
    "copies",
    [
        (),
        (COPIES[0], COPIES[0]),
        (WrappedCopy("name", 0, b"w"),),
        (WrappedCopy("name", 1, b""),),
        (WrappedCopy("name", 1, bytes(MAX_COPY_BYTES + 1)),),
        (WrappedCopy("a/b", 1, b"w"),),
        (WrappedCopy("", 1, b"w"),),
    ],
    ids=["none", "one key twice", "version 0", "empty copy", "long copy", "path", "no name"],
)
def test_entries_that_cannot_be_are_refused(copies: tuple[WrappedCopy, ...]) -> None:
    assert refused(raw(EncryptedKeys(bytes(16), copies, bytes(32))))


def test_another_magic_is_refused() -> None:
    assert refused(b"VF.EKM.v1\0" + raw(BLOB)[10:])


@pytest.mark.parametrize(
    "ciphertext",
    [
        None,
        "",
        "vault:v1:",
        "vault:v0:AAAA",
        "vault:v01:AAAA",
        "vault:v99999999999:AAAA",
        "vault:v4294967296:AAAA",
        "vault:v1:AAAA\n",
        "vault:v1:AB==",
        "other:v1:AAAA",
        f"vault:v1:{base64.b64encode(bytes(MAX_COPY_BYTES + 1)).decode()}",
    ],
)
def test_what_is_no_ciphertext_of_the_engine_makes_no_copy(ciphertext: object) -> None:
    assert WrappedCopy.of("name", ciphertext) is None


def test_a_ciphertext_comes_out_as_it_went_in() -> None:
    copy = WrappedCopy.of("name", "vault:v12:AAECAw==")
    assert copy == WrappedCopy("name", 12, bytes(range(4)))
    assert copy.ciphertext == "vault:v12:AAECAw=="


def test_items_that_differ_have_names_that_differ() -> None:
    items = [
        ("a", "b"),
        ("ab", ""),
        ("a", "B"),
        ("A", "b"),
        ("a-b", ""),
        ("ключ", "a"),
        ("名", "a"),
        ('a","', "b"),
        ("a", ""),
    ]
    names = [key_name("p", name, value) for name, value in items]

    assert len(set(names)) == len(items)
    assert all(map(is_key_name, names))


def test_the_name_of_the_longest_item_is_one_that_the_engine_takes() -> None:
    name = key_name("p" * 64, "n" * 120, "🙂" * 500)
    assert len(name) <= MAX_NAME_LENGTH
    assert is_key_name(name)


@pytest.mark.parametrize("name", ["", ".", "-a", "a-", "a/b", "a b", "a..b", "a\n", "ä", "a" * (MAX_NAME_LENGTH + 1)])
def test_what_could_lead_elsewhere_is_no_name(name: str) -> None:
    assert not is_key_name(name)
