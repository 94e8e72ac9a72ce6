"""What was stored and comes back - from a fixture, a revision, a dump - is the value that it was."""

import json
import pickle

import pytest
from django.core import serializers
from django.db import transaction
from django.forms import modelform_factory

from tests.testapp.models import Bookmark, Document, Letter, Organization, Patient, Token
from vault_fields.exceptions import EnvelopeError, KeyContextMismatch, ValueRefused
from vault_fields.testing import assert_vault_calls


@pytest.fixture
def stored_texts(organization):
    """A row, what is stored of its text and JSON, and its companion."""
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    fields = serializers.serialize("python", [letter])[0]["fields"]
    return letter, fields


@pytest.fixture
def patient(patient):
    """The row as it is read, so that nothing of it is known that is not stored."""
    return Patient.objects.get(pk=patient.pk)


def given(row, names):
    """What a third party would store of these fields, one by one."""
    return {name: row._meta.get_field(name).value_to_string(row) for name in names}


@pytest.mark.parametrize("form", ["json", "xml", "python", "jsonl"])
def test_what_is_deserialized_is_read_before_it_is_saved(organization, form) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    fixture = serializers.serialize(form, [letter])
    Letter.objects.all().delete()
    (deserialized,) = serializers.deserialize(form, fixture)
    assert (deserialized.object.subject, deserialized.object.text) == ("s", [1])
    deserialized.save()
    assert (Letter.objects.get().subject, Letter.objects.get().text) == ("s", [1])


@pytest.mark.parametrize("order", [["vault_keys", "subject", "text"], ["subject", "text", "vault_keys"],
                                   ["subject", "vault_keys", "text"]], ids="-".join)  # fmt: skip
@pytest.mark.parametrize("way", ["constructor", "new", "loaded"])
def test_values_and_their_companion_are_recognised_in_any_order(stored_texts, order, way) -> None:
    letter, fields = stored_texts
    data = {name: json.loads(json.dumps(fields[name])) for name in order}
    if way == "constructor":
        row = Letter(organization_id=letter.organization_id, **data)
    else:
        row = Letter(organization_id=letter.organization_id)
        if way == "loaded":
            row = Letter.objects.create(organization_id=letter.organization_id, subject="other", text={})
            row = Letter.objects.get(pk=row.pk)
        for name, value in data.items():
            setattr(row, name, value)
    assert (row.subject, row.text) == ("s", [1])
    with assert_vault_calls():
        row.save()
    stored = serializers.serialize("python", [Letter.objects.get(pk=row.pk)])[0]["fields"]
    assert [stored[name] for name in order] == [fields[name] for name in order]


@pytest.mark.parametrize("names", [["subject", "text"], ["text"]], ids="-".join)
def test_fields_that_are_stored_one_by_one_bring_their_companion(organization, names) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text={"a": 1})
    data = given(letter, names)
    assert all(value.startswith("$vf$1$") for value in data.values())
    row = Letter(organization=organization, **data)
    values = {name: getattr(row, name) for name in names}
    assert values == {name: getattr(letter, name) for name in names}
    row.save()
    assert {name: getattr(Letter.objects.get(pk=row.pk), name) for name in names} == values


def test_fixtures_of_some_fields_bring_the_companion_that_was_not_asked_for(organization) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    fixture = serializers.serialize("json", [letter], fields=["organization", "subject"])
    assert list(json.loads(fixture)[0]["fields"]) == ["organization", "subject"]
    Letter.objects.all().delete()
    for deserialized in serializers.deserialize("json", fixture):
        deserialized.save()
    assert Letter.objects.get().subject == "s"


def test_a_row_that_was_read_without_its_companion_brings_it(patient) -> None:
    (row,) = Patient.objects.raw("SELECT id, organization_id, ssn FROM testapp_patient")
    assert given(row, ["ssn"]) == given(patient, ["ssn"])


def test_nothing_is_brought_of_null(organization) -> None:
    letter = Letter.objects.create(organization=organization)
    assert given(letter, ["subject", "text"]) == {"subject": None, "text": None}


def test_values_of_several_rows_are_encrypted_together_when_they_are_saved(organization) -> None:
    first = Letter.objects.create(organization=organization, subject="s")
    second = Letter.objects.create(organization=organization, text=[2])
    row = Letter(organization=organization, **given(first, ["subject"]), **given(second, ["text"]))
    row.save()
    assert (Letter.objects.get(pk=row.pk).subject, Letter.objects.get(pk=row.pk).text) == ("s", [2])


@pytest.mark.parametrize("saved", [True, False])
def test_a_value_of_another_tenant_does_not_open(patient, other_organization, saved) -> None:
    data = given(patient, ["ssn"])
    # Not even where a row with this primary key, which the value belongs to, is stored.
    row = Patient(pk=patient.pk if saved else None, organization=other_organization, **data)
    with pytest.raises(KeyContextMismatch, match="organization_id of the row differs.*was not stored with this value"):
        _ = row.ssn
    with pytest.raises(KeyContextMismatch), transaction.atomic():
        row.save()
    assert Patient.objects.get(pk=patient.pk).organization_id == patient.organization_id


def test_a_value_of_another_column_does_not_open(patient) -> None:
    row = Patient(organization=patient.organization, notes=given(patient, ["ssn"])["ssn"])
    with pytest.raises(Exception, match=r"testapp\.Patient\.notes"):
        _ = row.notes


def test_an_envelope_that_is_assigned_alone_is_a_text_and_is_refused(patient) -> None:
    text = serializers.serialize("python", [patient])[0]["fields"]["ssn"]
    sibling = Patient.objects.create(organization=patient.organization, ssn="other")
    for row in (Patient(organization=patient.organization), Patient.objects.get(pk=sibling.pk)):
        row.ssn = text
        assert row.ssn == text
        with pytest.raises(ValueRefused, match="begins like an encrypted value"):
            row.save()


def test_the_companion_of_a_loaded_row_opens_no_envelope_that_is_assigned(organization) -> None:
    rows = Letter.objects.bulk_create([Letter(organization=organization, subject=name) for name in "ab"])
    text = serializers.serialize("python", [rows[0]])[0]["fields"]["subject"]
    row = Letter.objects.get(pk=rows[1].pk)
    row.subject = text  # Sealed under the same data key.
    assert row.subject == text
    row = Letter.objects.create(organization=organization, text=[1])
    row.subject = text
    row.refresh_from_db(fields=["vault_keys"])
    assert row.subject == text
    row = Letter.objects.defer("vault_keys").get(pk=row.pk)
    row.subject = text
    assert row.vault_keys
    assert row.subject == text


def test_a_companion_that_was_not_loaded_is_not_taken_for_one_that_was_assigned_with_the_value(stored_texts) -> None:
    letter, fields = stored_texts
    row = Letter.objects.defer("vault_keys").get(pk=letter.pk)
    row.subject = fields["subject"].replace("$vf$1$", "$vf$2$")
    row.vault_keys = fields["vault_keys"]
    assert row.subject.startswith("$vf$2$")


def test_a_companion_that_was_assigned_belongs_to_the_row_once_it_is_saved(stored_texts) -> None:
    letter, fields = stored_texts
    row = Letter.objects.create(organization_id=letter.organization_id, subject="x", text=None)
    row.vault_keys = fields["vault_keys"]
    row.subject = fields["subject"]
    row.save()
    row.text = fields["text"]
    assert row.text == fields["text"]


def test_what_is_stored_of_a_row_can_be_assigned_to_it(patient) -> None:
    row = Patient.objects.get(pk=patient.pk)
    row.ssn = serializers.serialize("python", [patient])[0]["fields"]["ssn"]
    assert row.ssn == "123-45-6789"


def test_a_form_refuses_what_opens(patient) -> None:
    for text in (given(patient, ["ssn"])["ssn"], serializers.serialize("python", [patient])[0]["fields"]["ssn"]):
        form = modelform_factory(Patient, fields=["ssn"])({"ssn": text}, instance=Patient.objects.get(pk=patient.pk))
        assert form.errors == {"ssn": ["This value begins like an encrypted one."]}


def test_bind_to_goes_on_deciding(organization) -> None:
    bookmark = Bookmark.objects.create(organization=organization, region="eu", slug="a", url="u")
    data = {"organization": organization, "region": "eu", **given(bookmark, ["url"])}
    assert Bookmark(slug="a", **data).url == "u"
    with pytest.raises(Exception, match="does not open"):
        _ = Bookmark(slug="b", **data).url


def test_a_tenant_with_another_primary_key_and_the_same_context_opens(organization, execute) -> None:
    document = Document.objects.create(organization=organization, body="b")
    fixture = json.loads(serializers.serialize("json", [document]))
    code = organization.workos_id
    Document.objects.all().delete()
    Organization.objects.all().delete()
    other = Organization.objects.create(workos_id=code)
    assert other.pk != organization.pk
    fixture[0]["fields"]["organization"] = other.pk
    (deserialized,) = serializers.deserialize("json", json.dumps(fixture))
    assert deserialized.object.body == "b"
    deserialized.save()
    assert Document.objects.get().body == "b"


def test_an_instance_can_be_moved_once_it_is_saved(patient, other_organization) -> None:
    row = Patient(organization=patient.organization, **given(patient, ["ssn"]))
    row.save()
    row.organization = other_organization
    assert row.ssn == "123-45-6789"
    row.save()
    assert Patient.objects.get(pk=row.pk).ssn == "123-45-6789"


def test_a_companion_that_is_damaged_is_not_written(patient) -> None:
    text = given(patient, ["ssn"])["ssn"]
    with pytest.raises(EnvelopeError):
        Patient(organization=patient.organization, ssn=text[:-1]).save()


def test_pickles_of_what_was_brought_are_brought(patient, other_organization) -> None:
    row = Patient(pk=patient.pk, organization=patient.organization, history=None, **given(patient, ["ssn"]))
    again = pickle.loads(pickle.dumps(row))
    assert again.ssn == "123-45-6789"
    again = pickle.loads(pickle.dumps(row))
    again.organization = other_organization
    with pytest.raises(KeyContextMismatch):
        _ = again.ssn


def test_values_tied_to_a_key_that_is_new_are_refused(db) -> None:
    token = Token.objects.create(tenant="0d3b2b1c-6f0e-4b52-9b0c-0d1f6a1b2c3d", secret="s")
    with pytest.raises(Exception, match=r"testapp\.Token\.secret"):
        Token(tenant=token.tenant, **given(token, ["secret"])).save()


def test_a_companion_can_be_deferred_like_any_column(patient) -> None:
    row = Patient.objects.get(pk=patient.pk)
    keys = row.ssn_keys
    del row.ssn_keys
    assert "ssn_keys" in row.get_deferred_fields()
    with pytest.raises(AttributeError):
        del row.ssn_keys
    assert row.ssn_keys == keys
    assert "ssn_keys" in vars(Patient)
