"""The known-answer vectors of blind indexes, by this package and by a second maker that has nothing of it."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from tests import independent_index
from tests.testapp.models import Citizen, Reader, Town
from tests.vectors import make_indexes
from vault_fields import exceptions
from vault_fields.fields.indexkeys import Wanted, find_keys
from vault_fields.keys import DataKey, KeyContext
from vault_fields.models import IndexKey
from vault_fields.stored.blindindex import ALL_BITS, blind_hash
from vault_fields.vaults import vaults

HASHES = json.loads((make_indexes.HERE / "hashes.json").read_text("ascii"))
KEYS = json.loads((make_indexes.HERE / "keys.json").read_text("ascii"))


def each(vectors):
    return pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["about"]) for vector in vectors])


def data_key(plaintext, keys="keys"):
    return DataKey("key-1", keys, plaintext)


def test_generating_the_vectors_again_gives_the_same_files(tmp_path, monkeypatch) -> None:
    assert {path.name: path.read_text("ascii") for path in make_indexes.HERE.iterdir()} == make_indexes.files()
    monkeypatch.setattr(make_indexes, "HERE", tmp_path / "indexes")
    make_indexes.main()
    assert {path.name: path.read_text("ascii") for path in make_indexes.HERE.iterdir()} == make_indexes.files()


@each(HASHES)
def test_a_text_has_the_hash_of_its_vector(vector) -> None:
    known = vector["label"], vector["text"], vector["bits"]
    index_key = bytes.fromhex(vector["index_key"])
    assert blind_hash(data_key(index_key), *known) == UUID(vector["hash"])
    assert independent_index.blind_hash(index_key, *known) == UUID(vector["hash"])


def test_vectors_that_differ_in_anything_have_different_hashes() -> None:
    whole = [vector["hash"] for vector in HASHES if vector["bits"] == ALL_BITS]
    assert len(set(whole)) == len(whole) > 10
    assert {vector["bits"] for vector in HASHES} > {8, 48, 49, 60, 61, 121}


def test_the_second_maker_has_nothing_of_this_package() -> None:
    source = Path(independent_index.__file__).read_text("utf-8")
    imports = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert {line.split()[1] for line in imports} == {"hashlib", "hmac", "base64", "uuid", "tests.independent_decoder"}
    assert len(imports) == source.count("import ")


@given(
    index_key=st.binary(min_size=32, max_size=32),
    label=st.text(max_size=40),
    text=st.text(),
    bits=st.integers(8, ALL_BITS),
)
def test_both_make_the_same_hash_of_any_text(index_key, label, text, bits) -> None:
    made = blind_hash(data_key(index_key), label, text, bits)
    assert made == independent_index.blind_hash(index_key, label, text, bits)
    assert made.version == 4


@each(KEYS)
@pytest.mark.django_db
def test_an_index_key_opens_or_is_refused_as_its_vector_says(vector) -> None:
    names = ("context_hash", "generation", "companion")
    IndexKey.objects.create(vault="default", **{name: vector[name] for name in names})
    key = data_key(bytes.fromhex(vector["data_key"]), vector["encrypted_keys"])
    vaults["default"].cache.put(key, None)
    wanted = Wanted("default", KeyContext(vector["context"]))
    if vector["expect"] == "valid":
        ((found,),) = find_keys([wanted], "default").values()
        assert found.plaintext == key.plaintext
    else:
        with pytest.raises(getattr(exceptions, vector["expect"])):
            find_keys([wanted], "default")


@each(KEYS)
def test_the_second_maker_opens_or_refuses_an_index_key_as_its_vector_says(vector) -> None:
    assert independent_index.context_hash(vector["context"]) == vector["context_hash"]

    def open_key() -> bytes:
        return independent_index.open_index_key(
            vector["companion"],
            vector["generation"],
            context=dict(sorted(vector["context"].items())),
            unwrap=lambda alias, keys: bytes.fromhex(vector["data_key"]),
        )

    if vector["expect"] == "valid":
        assert open_key() == bytes.fromhex(vector["data_key"])
    else:
        with pytest.raises(ValueError, match=vector["expect"]):
            open_key()


def unwrap(alias, encrypted_keys):
    return vaults[alias].decrypt_data_key(encrypted_keys).plaintext


@pytest.mark.django_db
def test_the_second_maker_makes_the_hashes_that_the_orm_writes() -> None:
    town = Town.objects.create(code="a")
    citizen = Citizen.objects.create(town=town, number="078-05-1120", surname="Ångström")
    reader = Reader.objects.create(town=town, card="Ünïcode 🔑")
    for row, column, context, text, bits in (
        (citizen, "number_index", {"town_id": str(town.pk)}, "078-05-1120", 122),
        (citizen, "number_last4_index", {"town_id": str(town.pk)}, "1120", 122),
        (citizen, "number_anywhere_index", {"vault_fields_index": "testapp.Citizen.number.anywhere"}, "078051120", 122),
        (citizen, "surname_folded_index", {"town_id": str(town.pk)}, "ångström", 122),
        (reader, "card_index", {"town_id": str(town.pk)}, "Ünïcode 🔑", 8),
    ):
        stored = IndexKey.objects.get(context_hash=independent_index.context_hash(context))
        key = independent_index.open_index_key(stored.companion, stored.generation, context=context, unwrap=unwrap)
        index = row._meta.get_field(column)
        label = f"{row._meta.label}.{index.of}" + (f".{index.index_name}" if index.index_name else "")
        found = type(row).objects.values_list(column, flat=True).get(pk=row.pk)
        assert found == independent_index.blind_hash(key, label, text, bits)
