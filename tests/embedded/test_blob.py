import base64
import uuid

import pytest

from vault_fields.embedded.blob import (
    MAX_COPY_BYTES,
    EncryptedKeys,
    KeyKind,
    KeyName,
    MalformedBlob,
    WrappedCopy,
    naming,
)

ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff").bytes
KEK = uuid.UUID("ffeeddcc-bbaa-9988-7766-554433221100").bytes


def blob_of(*copies: WrappedCopy) -> EncryptedKeys:
    return EncryptedKeys(ID, copies)


def text(*parts: bytes) -> str:
    return base64.b64encode(b"".join(parts)).decode()


HEADER = b"VF.EKM.v1\x00" + ID
ENTRY = b"\x01" + KEK + b"\x00\x00\x00\x07" + b"\x00\x03" + b"abc"


def test_bytes_are_those_of_the_diagram() -> None:
    assert blob_of(WrappedCopy(KEK, 7, b"abc")).encode() == text(HEADER, b"\x01", ENTRY)


def test_copy_under_a_customers_key_says_so() -> None:
    copy = WrappedCopy(KEK, 0, b"abc", KeyKind.CUSTOMER)

    assert blob_of(copy).encode() == text(HEADER, b"\x01", b"\x02", KEK, b"\x00\x00\x00\x00", b"\x00\x03abc")
    assert EncryptedKeys.decode(blob_of(copy).encode()).copies == (copy,)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_what_was_encoded_decodes(count: int) -> None:
    blob = blob_of(*[WrappedCopy(uuid.uuid4().bytes, 1 + n, bytes(1 + n)) for n in range(count)])

    assert EncryptedKeys.decode(blob.encode()) == blob


def test_longest_copy_decodes_and_a_longer_one_does_not() -> None:
    longest = blob_of(*[WrappedCopy(KEK, 1, bytes(MAX_COPY_BYTES))] * 10)

    assert EncryptedKeys.decode(longest.encode()) == longest
    with pytest.raises(MalformedBlob):
        EncryptedKeys.decode(blob_of(WrappedCopy(KEK, 1, bytes(MAX_COPY_BYTES + 1))).encode())


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "A",
        "AAAA",
        "not base64 at all",
        "ключи",
        "\ud800",
        text(b"WOS.EKM.v1\x00", ID, b"\x01", ENTRY),
        text(HEADER, b"\x00"),
        text(HEADER, b"\x00", ENTRY),
        text(HEADER, b"\x0b", *[ENTRY] * 11),
        text(HEADER, b"\xff", ENTRY),
        text(HEADER, b"\x01"),
        text(HEADER, b"\x02", ENTRY),
        text(HEADER, b"\x01", ENTRY, b"\x00"),
        text(HEADER, b"\x01", b"\x01", KEK, b"\x00\x00\x00\x00", b"\x00\x03abc"),
        text(HEADER, b"\x01", b"\x01", KEK, b"\x00\x00\x00\x01", b"\x00\x00"),
        text(HEADER, b"\x01", b"\x01", KEK, b"\x00\x00\x00\x01", b"\xff\xff", b"abc"),
        text(HEADER, b"\x01", b"\x00", KEK, b"\x00\x00\x00\x01", b"\x00\x03abc"),
        text(HEADER, b"\x01", b"\x03", KEK, b"\x00\x00\x00\x01", b"\x00\x03abc"),
        text(HEADER, b"\x01", b"\x02", KEK, b"\x00\x00\x00\x01", b"\x00\x03abc"),
        text(HEADER, b"\x01", ENTRY) + "\n",
        " " + text(HEADER, b"\x01", ENTRY),
        text(HEADER, b"\x01", ENTRY).rstrip("="),
        text(HEADER, b"\x01", ENTRY) * 2,
        "A" * 200_000,
    ],
)
def test_malformed_text_is_refused(malformed: str) -> None:
    with pytest.raises(MalformedBlob):
        EncryptedKeys.decode(malformed)


def test_bits_that_base64_ignores_do_not_make_a_second_text_for_a_blob() -> None:
    canonical = blob_of(WrappedCopy(KEK, 7, b"abc")).encode()
    assert canonical.endswith("YmM=")
    alias = canonical.removesuffix("M=") + "N="
    assert base64.b64decode(alias, validate=True) == base64.b64decode(canonical)

    with pytest.raises(MalformedBlob):
        EncryptedKeys.decode(alias)


def test_repr_shows_no_wrapped_copy() -> None:
    assert "secret" not in repr(blob_of(WrappedCopy(KEK, 1, b"secret")))


def test_naming_depends_on_every_entry_and_their_order() -> None:
    other = bytes(16)
    kek, second = KeyName(KeyKind.MANAGED, KEK, 1), KeyName(KeyKind.MANAGED, other, 1)
    names = {
        naming(ID, [kek]),
        naming(other, [kek]),
        naming(ID, [kek._replace(version=2)]),
        naming(ID, [kek._replace(kind=KeyKind.CUSTOMER)]),
        naming(ID, [second]),
        naming(ID, [kek, second]),
        naming(ID, [second, kek]),
        naming(ID, [kek, kek]),
    }

    assert len(names) == 8
