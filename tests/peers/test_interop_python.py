"""Values go from fields to WorkOS's SDK for Python, and back."""

import json
from collections.abc import Iterator

import pytest
from workos import WorkOSClient

from tests.peers.conftest import Served
from tests.testapp.models import Patient
from vault_fields.interop import Layout, export_value, import_value


@pytest.fixture
def client(served: Served) -> Iterator[WorkOSClient]:
    with WorkOSClient(api_key=served.key, base_url=served.url, max_retries=0) as client:
        yield client


def test_sdk_opens_what_a_field_holds(client: WorkOSClient, patient: Patient) -> None:
    ssn, history = export_value(patient, "ssn"), export_value(patient, "history")
    assert ssn is not None
    assert history is not None

    opened = client.vault.decrypt(encrypted_data=ssn.payload, associated_data=ssn.associated_data)
    assert opened == "123-45-6789"
    opened = client.vault.decrypt(encrypted_data=history.payload, associated_data=history.associated_data)
    assert json.loads(opened) == patient.history


@pytest.mark.parametrize("layout", [Layout.TAG_FIRST, None])
@pytest.mark.parametrize("associated_data", ["", "row 7"])
@pytest.mark.parametrize("length", [0, 1, 1000])
def test_field_takes_what_the_sdk_encrypted(
    client: WorkOSClient, patient: Patient, layout: Layout | None, associated_data: str, length: int
) -> None:
    payload = client.vault.encrypt(
        data="ü" * length, key_context={"organization_id": "acme"}, associated_data=associated_data
    )

    patient.notes = import_value(payload, associated_data=associated_data, layout=layout)
    patient.save()

    assert Patient.objects.get(pk=patient.pk).notes == "ü" * length
