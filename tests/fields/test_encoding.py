"""What may be encrypted: one rule, for forms, validators and saves."""

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction

from tests.testapp.models import Patient
from vault_fields.exceptions import ValueRefused
from vault_fields.fields import EncryptedTextField
from vault_fields.stored import envelope

REFUSED = [
    ("ssn", "$vf$1$x", "envelope"),
    ("ssn", "$vf$99$", "envelope"),
    ("ssn", "a\ud800", "surrogate"),
    ("history", "$vf$1$x", "envelope"),
    ("history", "\udfff", "surrogate"),
    ("history", {"\ud800": 1}, "surrogate"),
    ("history", float("nan"), "invalid"),
    ("history", [float("inf")], "invalid"),
    ("history", {1, 2}, "invalid"),
]


@pytest.mark.parametrize(("name", "value", "code"), REFUSED, ids=ascii)
def test_what_save_refuses_is_refused_by_validators_too(organization, name, value, code) -> None:
    field = Patient._meta.get_field(name)
    with pytest.raises(ValidationError) as caught:
        field.run_validators(value)
    assert [error.code for error in caught.value.error_list] == [code]
    row = Patient(organization=organization, name="n", **{name: value})
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    assert list(caught.value.message_dict) == [name]
    with pytest.raises(ValueRefused, match=rf"testapp\.Patient\.{name}"), transaction.atomic():
        row.save()
    assert not Patient.objects.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("ssn", '"$vf$1$x"'), ("ssn", "\0"), ("ssn", "$vf$"), ("history", ["$vf$1$x"]), ("history", {"$vf$1$x": "\0"})],
    ids=ascii,
)
def test_what_validators_let_through_is_saved_and_read(organization, name, value) -> None:
    row = Patient(organization=organization, name="n", **{name: value})
    row.full_clean()
    row.save()
    assert getattr(Patient.objects.get(), name) == value


def test_what_is_too_large_is_refused(organization, monkeypatch) -> None:
    monkeypatch.setattr(envelope, "MAX_PLAINTEXT_BYTES", 3)
    row = Patient(organization=organization, name="n", ssn="äöü", history=None)
    with pytest.raises(ValidationError, match="too large"):
        row.full_clean()
    with pytest.raises(ValueRefused, match="it has 6 bytes, and at most 3"):
        row.save()


def test_the_validator_belongs_to_the_field_and_to_no_migration() -> None:
    def own(value) -> None:
        """A validator of the project."""

    field = EncryptedTextField(key_context=["a"], validators=[own])
    assert field.validators[0] is own
    assert len(field.validators) == 2
    assert field.deconstruct()[3]["validators"] == [own]
    assert "validators" not in EncryptedTextField(key_context=["a"]).deconstruct()[3]
