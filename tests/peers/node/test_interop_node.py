"""Values go from fields to WorkOS's SDK for Node, and back."""

import pytest

from tests.peers.node.conftest import Sdk
from tests.testapp.models import Patient
from vault_fields.interop import export_value, import_value


def test_sdk_opens_what_a_field_holds(sdk: Sdk, patient: Patient) -> None:
    exported = export_value(patient, "ssn")
    assert exported is not None

    assert sdk("decrypt", exported.payload, exported.associated_data) == "123-45-6789"


@pytest.mark.parametrize("associated_data", ["", "row 7"])
def test_field_takes_what_the_sdk_encrypted(sdk: Sdk, patient: Patient, associated_data: str) -> None:
    payload = sdk("encrypt", "grüße 🙂", associated_data)

    patient.notes = import_value(payload, associated_data=associated_data)
    patient.save()

    assert Patient.objects.get(pk=patient.pk).notes == "grüße 🙂"
