"""Fixtures hold what is stored, and depend on no name of a frame."""

import pytest
from django.core import serializers
from django.core.serializers.python import Serializer as PythonSerializer
from django.forms.models import model_to_dict

from tests.testapp.models import Letter, Patient
from vault_fields.fields import EncryptedJSONField


class Counting(EncryptedJSONField):
    def value_from_object(self, obj):
        return super().value_from_object(obj)


def test_a_field_that_extends_value_from_object_writes_no_number_in_the_clear(organization, monkeypatch) -> None:
    monkeypatch.setattr(EncryptedJSONField, "value_from_object", Counting.value_from_object)
    monkeypatch.setattr(Patient._meta.get_field("history"), "__class__", Counting)
    row = Patient.objects.create(organization=organization, history=4217421742)
    for form in ("json", "xml", "jsonl", "python"):
        assert "4217421742" not in str(serializers.serialize(form, [row]))


def test_a_serializer_with_functions_of_other_names_writes_no_number_in_the_clear(organization) -> None:
    class Renamed(PythonSerializer):
        def handle_field(self, obj, field) -> None:
            self._current[field.name] = field.value_from_object(obj)

    row = Patient.objects.create(organization=organization, history=4217421742)
    (data,) = Renamed().serialize([row])
    assert data["fields"]["history"].startswith("$vf$1$")
    # Nor one with a loop of its own.
    serializer = PythonSerializer()
    assert serializer._value_from_field(row, Patient._meta.get_field("history")).startswith("$vf$1$")
    assert serializer._value_from_field(row, Patient._meta.get_field("name")) == ""


def test_outside_serializers_the_value_is_given(organization) -> None:
    row = Patient.objects.create(organization=organization, history=7, ssn="s")
    assert model_to_dict(row)["history"] == 7
    assert Patient._meta.get_field("ssn").value_from_object(row) == "s"
    with pytest.raises(ZeroDivisionError):
        serializers.serialize("python", (1 / 0 for _ in range(1)))
    assert model_to_dict(row)["history"] == 7


def test_companions_are_serialized_by_django_and_by_nobody_else(organization) -> None:
    assert not Letter._meta.get_field("vault_keys").serialize
    row = Letter.objects.create(organization=organization, subject="s")
    assert "vault_keys" in serializers.serialize("python", [row])[0]["fields"]
    assert not Letter._meta.get_field("vault_keys").serialize
    assert "serialize" not in Letter._meta.get_field("vault_keys").deconstruct()[3]
