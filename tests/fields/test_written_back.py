"""
JSON that a process with older code loaded encrypted, and saved: the envelope stands in the column as a JSON string.

``Plain`` is the model of the older code, on the same table.
"""

import json

import pytest
from django.core import serializers
from django.db import models
from django.test.utils import isolate_apps

from tests.testapp.models import Legacy, Letter, Patient
from vault_fields.exceptions import EnvelopeError, ValueRefused
from vault_fields.fields import sealing
from vault_fields.fields.groups import group_of
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.rows.rekey import reencrypt_group, rekey_group
from vault_fields.testing import assert_vault_calls

DATA = Legacy._meta.get_field("data")
VALUES = [{"a": ["é", 1]}, "text", "", "/", [], None]

with isolate_apps("tests.testapp"):

    class Plain(models.Model):
        organization_id = models.IntegerField()
        text = models.TextField(null=True)
        data = models.JSONField(null=True)

        class Meta:
            app_label = "testapp"
            db_table = "testapp_legacy"
            managed = False


@pytest.fixture
def written_back(organization, stored):
    """Encrypted rows that older code loaded and saved, and what the columns held before."""
    rows = [Legacy.objects.create(organization=organization, text="x", data=value) for value in VALUES]
    before = [stored(row, "data", "data_keys") for row in rows]
    for plain in Plain.objects.all():
        plain.save()
    assert stored(rows[0], "data")[0].startswith('"$vf$1$')
    return rows, before


def test_it_opens_however_it_is_read(written_back) -> None:
    rows, _ = written_back
    assert [row.data for row in Legacy.objects.order_by("pk")] == VALUES
    assert list(Legacy.objects.order_by("pk").values_list("data", flat=True)) == VALUES
    assert [Legacy.objects.only("pk").get(pk=row.pk).data for row in rows] == VALUES
    rows[0].refresh_from_db()
    assert rows[0].data == VALUES[0]
    assert Legacy.objects.raw("SELECT * FROM testapp_legacy ORDER BY id")[0].data == VALUES[0]


@pytest.mark.parametrize(
    "spell",
    [lambda text: json.dumps(text).replace("$", "\\u0024").replace("/", "\\/"), lambda text: f' \n"{text}" '],
    ids=["escapes", "spaces"],
)
def test_it_opens_however_it_is_spelled(written_back, spell, stored, execute) -> None:
    _, before = written_back
    execute("UPDATE testapp_legacy SET data = %s WHERE id = %s", spell(before[0][0]), Legacy.objects.earliest("pk").pk)
    assert Legacy.objects.earliest("pk").data == VALUES[0]


def test_it_is_no_plaintext_to_be_encrypted_and_is_spelled_as_before(written_back, stored) -> None:
    rows, before = written_back
    with assert_vault_calls():
        report = encrypt_column(DATA)
    assert (report.examined, report.written) == (len(rows), len(rows) - 1)
    assert [stored(row, "data", "data_keys") for row in rows] == before
    assert encrypt_column(DATA).written == 0


@pytest.mark.parametrize("names", [None, ["data"], ["text"]])
def test_who_loads_it_and_saves_it_keeps_its_key(written_back, names, stored) -> None:
    rows, before = written_back
    for row in Legacy.objects.all():
        row.save(update_fields=names)
    assert [row.data for row in Legacy.objects.order_by("pk")] == VALUES
    assert [stored(row, "data_keys")[0] for row in rows] == [keys for _, keys in before]


def test_a_new_value_takes_its_place(written_back) -> None:
    for number, row in enumerate(Legacy.objects.order_by("pk")):
        row.data = number
        row.save(update_fields=["data"] if number % 2 else None)
    assert list(Legacy.objects.order_by("pk").values_list("data", flat=True)) == list(range(len(VALUES)))


def test_rekeying_reencrypting_and_decrypting_see_it(written_back, stored) -> None:
    rows, _ = written_back
    problems = []
    report = rekey_group(group_of(DATA), on_problem=problems.append)
    assert (report.encrypted, report.failed) == (len(rows) - 1, 0)
    assert reencrypt_group(group_of(DATA), on_problem=problems.append).reencrypted == len(rows) - 1
    for plain in Plain.objects.all():
        plain.save()
    decrypt_column(DATA)
    assert [row.data for row in Plain.objects.order_by("pk")] == VALUES
    assert not problems


def test_fixtures_bring_it_back_as_it_was(written_back, stored) -> None:
    rows, before = written_back
    fixture = serializers.serialize("json", Legacy.objects.order_by("pk"))
    assert json.loads(fixture)[0]["fields"]["data"] == before[0][0]
    # JSON of JSON, as somebody makes of it who reads the column past the ORM.
    for entry in (entries := json.loads(fixture)):
        if entry["fields"]["data"]:
            entry["fields"]["data"] = json.dumps(entry["fields"]["data"])
    Legacy.objects.all().delete()
    with assert_vault_calls():
        for loaded in serializers.deserialize("json", json.dumps(entries)):
            loaded.save()
    assert [stored(row, "data", "data_keys") for row in rows] == before


def test_columns_that_were_never_migrating_read_it_too(patient, execute, stored, organization) -> None:
    execute("UPDATE testapp_patient SET history = %s", json.dumps(stored(patient, "history")[0]))
    assert Patient.objects.get().history == [1]
    letter = Letter.objects.create(organization=organization, subject="s", text={"a": 1})
    execute("UPDATE testapp_letter SET text = %s", json.dumps(stored(letter, "text")[0]))
    assert (Letter.objects.get().subject, Letter.objects.get().text) == ("s", {"a": 1})


def test_text_in_quotes_is_text(organization, execute) -> None:
    execute("INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, %s)", organization.pk, '"$vf$1$x"')
    encrypt_column(Legacy._meta.get_field("text"))
    assert Legacy.objects.get().text == '"$vf$1$x"'


@pytest.mark.parametrize("text", ['"$vf', '" $vf$1$"', '["$vf$1$x"]', '"' + "[" * 10, "[" * 100_000, '{"$vf$1$": 1}'])
def test_what_is_no_envelope_stays_what_it_is(text) -> None:
    assert DATA.stored_text(text) == text


def test_json_in_the_clear_that_is_such_a_string_is_reported_and_not_guessed(organization, execute) -> None:
    execute("INSERT INTO testapp_legacy (organization_id, data) VALUES (%s, %s)", organization.pk, '"$vf$1$x"')
    with pytest.raises(EnvelopeError, match=r"^testapp\.Legacy\.data \(pk=\d+\): the value begins like an encrypted"):
        encrypt_column(DATA)
    with pytest.raises(EnvelopeError, match="companion 'data_keys' is empty"):
        Legacy.objects.get().data  # noqa: B018


def test_a_string_that_begins_like_an_envelope_is_refused(organization) -> None:
    with pytest.raises(ValueRefused, match="it begins like an encrypted value"):
        Legacy.objects.create(organization=organization, data="$vf$1$x")


def test_a_string_that_was_encrypted_all_the_same_is_not_put_in_the_clear(organization, monkeypatch) -> None:
    monkeypatch.setattr(sealing, "encode", lambda field, value: field.to_plaintext(value))
    row = Legacy.objects.create(organization=organization, data="$vf$1$x")
    assert Legacy.objects.get().data == "$vf$1$x"
    with pytest.raises(ValueRefused, match=rf"^testapp\.Legacy\.data \(pk={row.pk}\): the value begins like an"):
        decrypt_column(DATA)
    assert Legacy.objects.get().data == "$vf$1$x"
