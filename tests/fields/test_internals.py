"""What code sees that looks into ``instance.__dict__``: nothing in the clear, and a name that explains itself."""

import json
import pickle

import pytest

from tests.testapp.models import Patient
from vault_fields.testing import assert_vault_calls

pytestmark = pytest.mark.django_db


def test_error_of_json_names_what_cannot_be_written(patient, organization) -> None:
    loaded = Patient.objects.get(pk=patient.pk)
    with pytest.raises(TypeError, match="Object of type EncryptedValue is not JSON serializable"):
        json.dumps({"ssn": loaded.__dict__["ssn"]})
    unsaved = Patient(organization=organization, ssn="123-45-6789")
    with pytest.raises(
        TypeError, match="Object of type ValueNotEncryptedBeforeSave is not JSON serializable"
    ) as caught:
        json.dumps({"ssn": unsaved.__dict__["ssn"]})
    assert "123-45" not in str(caught.value)


def test_what_instances_hold_shows_nothing_in_the_clear(patient, organization) -> None:
    loaded = Patient.objects.get(pk=patient.pk)
    assert loaded.ssn == "123-45-6789"
    for instance in (loaded, Patient(organization=organization, ssn="123-45-6789")):
        assert "123-45" not in f"{instance.__dict__} {instance.__dict__['ssn']!s}"
    assert repr(loaded.__dict__["ssn"]) == "<encrypted value: read it as the instance's attribute>"


def test_pickles_of_rows_hold_no_plaintext(organization) -> None:
    """Those of caches and queues, for instance."""
    created = Patient.objects.create(organization=organization, ssn="123-45-6789")
    loaded = Patient.objects.get()
    assert loaded.ssn == "123-45-6789"
    for row in (loaded, created):
        copied = pickle.dumps(row)
        assert b"123-45" not in copied
        assert pickle.loads(copied).ssn == "123-45-6789"


def test_rows_that_hold_the_same_ciphertext_compare_equal_without_a_key(patient) -> None:
    first, second = (Patient.objects.get(pk=patient.pk).__dict__ for _ in range(2))
    with assert_vault_calls():
        assert first["ssn"] == second["ssn"]
        assert hash(first["ssn"]) == hash(second["ssn"])
        assert first["ssn"] != first["notes"]
        assert first["ssn"] != "123-45-6789"


def test_value_that_was_changed_in_place_is_another(patient) -> None:
    first, second = (Patient.objects.get(pk=patient.pk) for _ in range(2))
    first.history.append(2)
    assert first.__dict__["history"] != second.__dict__["history"]
    assert second.__dict__["history"] != first.__dict__["history"]
    assert first.__dict__["history"] == first.__dict__["history"]
