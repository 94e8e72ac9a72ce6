"""Forms take and give plaintext, as for TextField and JSONField."""

import pytest
from django import forms
from django.db import models

from tests.testapp.models import Patient
from vault_fields.fields import EncryptedJSONField, EncryptedTextField
from vault_fields.testing import assert_vault_calls


class PatientForm(forms.ModelForm):
    class Meta:
        model = Patient
        fields = "__all__"


def test_a_form_has_the_fields_of_the_plain_ones_and_no_companion() -> None:
    form = PatientForm()
    assert list(form.fields) == ["organization", "name", "ssn", "notes", "history"]
    assert type(form.fields["ssn"]) is type(models.TextField().formfield())
    assert type(form.fields["history"]) is type(models.JSONField().formfield())
    assert isinstance(form.fields["ssn"].widget, forms.Textarea)


def test_a_form_shows_plaintext_and_saves_it_encrypted(patient, stored) -> None:
    loaded = Patient.objects.get(pk=patient.pk)
    form = PatientForm(instance=loaded)
    assert form["ssn"].value() == "123-45-6789"
    data = {"organization": loaded.organization_id, "name": "n", "ssn": "new", "notes": "", "history": '{"a": [1]}'}
    form = PatientForm(data, instance=loaded)
    assert form.is_valid(), form.errors
    assert form.changed_data == ["name", "ssn", "history"]
    form.save()
    reloaded = Patient.objects.get(pk=patient.pk)
    assert (reloaded.ssn, reloaded.notes, reloaded.history) == ("new", "", {"a": [1]})
    assert "new" not in stored(patient, "ssn")[0]


def test_a_form_that_changes_nothing_costs_one_unwrap_and_keeps_the_ciphertext(patient, stored) -> None:
    before = stored(patient, "ssn", "notes", "history", "ssn_keys")
    loaded = Patient.objects.get(pk=patient.pk)
    with assert_vault_calls(decrypt=1, cold=True):
        data = {**PatientForm(instance=loaded).initial, "history": "[1]", "initial-history": "[1]"}
        form = PatientForm(data, instance=loaded)
        assert form.is_valid(), form.errors
        assert form.changed_data == []
        form.save()
    assert stored(patient, "ssn", "notes", "history", "ssn_keys") == before


def test_a_form_creates_a_row_and_leaves_empty_fields_as_the_plain_ones_do(organization) -> None:
    form = PatientForm({"organization": organization.pk, "name": "n", "ssn": "x", "notes": "", "history": ""})
    row = form.save()
    reloaded = Patient.objects.get(pk=row.pk)
    assert (reloaded.ssn, reloaded.notes, reloaded.history) == ("x", "", None)


def test_invalid_input_is_a_form_error(organization) -> None:
    data = {"organization": organization.pk, "name": "n", "ssn": "$vf$1$x", "notes": "", "history": "{"}
    form = PatientForm(data)
    assert not form.is_valid()
    assert form.errors["ssn"] == ["This value begins like an encrypted one."]
    assert form.errors["history"] == ["Enter a valid JSON."]


def test_a_form_is_no_oracle_for_ciphertext(patient, organization, stored) -> None:
    (text,) = stored(patient, "ssn")
    form = PatientForm({"organization": organization.pk, "name": "n", "ssn": text, "history": ""})
    assert not form.is_valid()
    assert form["ssn"].value() == text
    field = Patient._meta.get_field("ssn")
    assert field.to_python(text) == text


@pytest.mark.parametrize(
    ("field", "plain"),
    [
        (EncryptedTextField(key_context=["a"], blank=True), models.TextField(blank=True)),
        (EncryptedTextField(key_context=["a"], max_length=10), models.TextField(max_length=10)),
        (EncryptedTextField(key_context=["a"], help_text="h"), models.TextField(help_text="h")),
        (EncryptedTextField(key_context=["a"], choices=[("a", "A")]), models.TextField(choices=[("a", "A")])),
        (EncryptedJSONField(key_context=["a"], default=dict, blank=True), models.JSONField(default=dict, blank=True)),
    ],
    ids=repr,
)  # fmt: skip
def test_form_fields_are_configured_as_those_of_plain_fields(field, plain) -> None:
    encrypted, expected = field.formfield(), plain.formfield()
    assert type(encrypted) is type(expected)
    for attribute in ("required", "help_text", "initial", "max_length", "choices"):
        assert getattr(encrypted, attribute, None) == getattr(expected, attribute, None)


def test_full_clean_leaves_the_ciphertext_alone(patient, stored) -> None:
    before = stored(patient, "ssn", "history")
    loaded = Patient.objects.get(pk=patient.pk)
    loaded.full_clean()
    loaded.save()
    assert stored(patient, "ssn", "history") == before


def test_lazy_text_and_numbers_are_stored_as_text(organization) -> None:
    from django.utils.translation import gettext_lazy

    row = Patient.objects.create(organization=organization, ssn=gettext_lazy("Yes"), notes=7)
    assert Patient.objects.values_list("ssn", "notes").get(pk=row.pk) == ("Yes", "7")
