"""Whatever writes many rows writes the hashes of all indexes of a field."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.db.migrations.state import ModelState, ProjectState
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from tests.testapp.models import Citizen, Reader, Town
from vault_fields.exceptions import KeyRevoked
from vault_fields.fields import CompanionField, EncryptedTextField, IndexField
from vault_fields.fields.groups import groups_of
from vault_fields.importing import EncryptedModelFields
from vault_fields.keys import DataKey
from vault_fields.normalize import digits, last_four
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.rows.imports import import_column, take_back_column
from vault_fields.rows.rekey import reencrypt_group
from vault_fields.stored.blindindex import blind_hash
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db

KEY = Fernet.generate_key().decode()
COLUMNS = ["number_index", "number_last4_index", "number_anywhere_index"]


@pytest.fixture
def town() -> Town:
    return Town.objects.create(code="a")


def has(citizen: Citizen, number: str) -> bool:
    """Whether each index of the number finds the row, as it is stored."""
    row = Citizen.objects.filter(town=citizen.town_id, pk=citizen.pk)
    conditions = [{"number": number}, {"number__last4": number}, {"number__anywhere": number}]
    return all(row.filter(**each).exists() for each in conditions)


def hashes() -> set[object]:
    return {each for row in Citizen.objects.values_list(*COLUMNS) for each in row}


def test_encrypting_writes_all_hashes_and_decrypting_removes_them(town, execute, monkeypatch) -> None:
    field = Citizen._meta.get_field("number")
    monkeypatch.setattr(field, "migrating", True)
    citizen = Citizen.objects.create(town=town)
    execute("UPDATE testapp_citizen SET number = %s WHERE id = %s", "078-05-1120", citizen.pk)
    assert encrypt_column(field).written == 1
    assert has(citizen, "078-05-1120")
    assert decrypt_column(field).written == 1
    assert hashes() == {None}


def test_importing_writes_all_hashes_and_taking_back_removes_them(town) -> None:
    source = Fernet(KEY).encrypt(b"51120").decode()
    citizen = Citizen.objects.create(town=town, plain=source[:100])
    field, reader = Citizen._meta.get_field("number"), EncryptedModelFields()
    with override_settings(FIELD_ENCRYPTION_KEY=KEY):
        assert import_column(field, source="plain", reader=reader).written == 1
        assert has(citizen, "51120")
        assert take_back_column(field, source="plain", reader=reader).written == 1
    assert hashes() == {None}


def test_reindexing_writes_what_is_missing_or_wrong_in_any_index(town, execute) -> None:
    citizens = [Citizen.objects.create(town=town, number=number) for number in ("00001", "00002", "00003", "12")]
    execute("UPDATE testapp_citizen SET number_last4_index = NULL WHERE id = %s", citizens[0].pk)
    wrong = IndexField().get_db_prep_value(uuid4(), connection)
    execute("UPDATE testapp_citizen SET number_anywhere_index = %s WHERE id = %s", wrong, citizens[1].pk)
    out = StringIO()
    call_command("vault_index", "testapp.Citizen", "number", stdout=out, stderr=StringIO())
    assert "2 rows have their hashes, 1 missing and 1 wrong written" in out.getvalue()
    assert all(has(citizen, number) for citizen, number in zip(citizens, ("00001", "00002", "00003"), strict=False))


def test_encrypting_again_keeps_all_hashes(town) -> None:
    citizen = Citizen.objects.create(town=town, number="00001")
    (group,) = (each for each in groups_of(Citizen) if each.companion == "number_keys")
    before = hashes()
    reencrypt_group(group, on_problem=pytest.fail)
    assert hashes() == before
    assert has(citizen, "00001")


def test_a_refreshed_value_brings_all_hashes(town) -> None:
    citizen = Citizen.objects.create(town=town, number="00001")
    other = Citizen.objects.get(pk=citizen.pk)
    other.number = "00002"
    other.save()
    citizen.refresh_from_db(fields=["number"])
    assert [getattr(citizen, name) for name in COLUMNS] == [getattr(other, name) for name in COLUMNS]
    citizen.save()
    assert has(citizen, "00002")


def test_a_historical_model_writes_all_hashes_and_finds_by_them(town) -> None:
    state = ProjectState()
    state.add_model(ModelState("testapp", "Town", [("id", models.BigAutoField(primary_key=True))]))
    fields = [
        ("id", models.BigAutoField(primary_key=True)),
        ("town", models.ForeignKey("testapp.Town", models.PROTECT)),
        ("number", EncryptedTextField(key_context=["town_id"], null=True)),
        ("number_keys", CompanionField()),
        ("number_index", IndexField()),
        ("number_last4_index", IndexField(index_name="last4", normalize=last_four)),
        ("number_anywhere_index", IndexField(index_name="anywhere", normalize=digits, scope="global")),
    ]
    state.add_model(ModelState("testapp", "Citizen", fields))
    historical = state.apps.get_model("testapp", "Citizen")
    row = historical.objects.create(town_id=town.pk, number="078-05-1120")
    assert has(Citizen.objects.get(pk=row.pk), "078-05-1120")
    assert historical.objects.get(town_id=town.pk, number__last4="1120") == row
    assert historical.objects.get(number__anywhere="078051120") == row


@contextmanager
def withdrawn(town: Town) -> Iterator[None]:
    vault = vaults["default"]
    vault.revoke("town_id", str(town.pk))
    try:
        yield
    finally:
        vault.restore("town_id", str(town.pk))


def test_a_withdrawn_key_never_reads_as_not_found(town) -> None:
    Citizen.objects.create(town=town, number="00001", surname="A")
    rows = Citizen.objects.filter(town=town)
    with withdrawn(town):
        for condition in ({"number": "1"}, {"number__in": ["1"]}, {"number__last4": "00001"}, {"surname__folded": "a"}):
            found = rows.filter(**condition)
            for attempt in (found.exists, rows.exclude(**condition).count, found.get, found.delete):
                with pytest.raises(KeyRevoked), transaction.atomic():
                    attempt()
            with pytest.raises(KeyRevoked), transaction.atomic():
                found.update(plain="x")
        with pytest.raises(KeyRevoked), transaction.atomic():
            rows.get_or_create(number="1")


def test_errors_and_statements_of_the_database_hold_no_value(town, caplog) -> None:
    secret = "078-05-1120"
    caplog.set_level("DEBUG")
    with CaptureQueriesContext(connection) as queries:
        citizen = Citizen.objects.create(town=town, number=secret)
        assert Citizen.objects.filter(town=town, number__last4=secret).exists()
    statements = [query["sql"] for query in queries.captured_queries]
    assert statements
    assert not [sql for sql in statements if secret in sql or "'1120'" in sql]
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        Citizen.objects.create(town=town, number=secret, pk=citizen.pk)
    assert secret not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r} {caplog.text}"


def test_ten_thousand_hashes_of_any_bytes_are_stored_as_they_are(town) -> None:
    key = DataKey("key", "keys", os.urandom(32))
    column = Reader._meta.get_field("card_index")
    made = {blind_hash(key, "label", str(number)) for number in range(10_000)}
    assert len(made) == 10_000
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO testapp_reader (town_id, card_index) VALUES (%s, %s)",
            [(town.pk, column.get_db_prep_value(each, connection)) for each in made],
        )
    assert set(Reader.objects.values_list("card_index", flat=True)) == made
