"""Tables of events, as django-pghistory makes them."""

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from tests.testapp.models import Organization, Patient
from vault_fields.exceptions import DecryptionError
from vault_fields.fields import EncryptedTextField


def encrypted(**options):
    return EncryptedTextField(key_context=["organization_id"], null=True, **options)


def test_w017_event_that_does_not_know_the_label(lab) -> None:
    patient = lab.patient()
    lab.model("Event", pgh_tracked_model=patient, organization_id=models.IntegerField(), ssn=encrypted())
    message = lab.only()
    assert message.id == "vault_fields.W017"
    assert message.hint.endswith("with former_labels=['testapp.Patient.ssn'].")


def test_w017_is_silent_for_an_event_that_knows_it(lab) -> None:
    field = encrypted(former_labels=["testapp.Patient.ssn"])
    lab.model("Event", pgh_tracked_model=lab.patient(), organization_id=models.IntegerField(), ssn=field)
    assert lab.ids() == []


@pytest.mark.parametrize("labels", [[], ["testapp.Patient.ssn"]])
def test_a_row_that_was_copied_opens_by_the_label_that_it_was_written_under(transactional_db, labels) -> None:
    organization = Organization.objects.create(workos_id="org")
    Patient.objects.create(organization=organization, ssn="secret", history=None)
    with isolate_apps("tests.testapp"):

        class Event(models.Model):
            organization_id = models.IntegerField()
            ssn = encrypted(former_labels=labels)

            class Meta:
                app_label = "testapp"

    with connection.schema_editor() as editor:
        editor.create_model(Event)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO testapp_event (organization_id, ssn, ssn_keys) "
                "SELECT organization_id, ssn, ssn_keys FROM testapp_patient"
            )
        if labels:
            assert Event.objects.get().ssn == "secret"
        else:
            with pytest.raises(DecryptionError):
                Event.objects.get().ssn  # noqa: B018
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Event)
