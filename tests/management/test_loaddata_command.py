"""Fixtures of tenants that have other primary keys here."""

import json

import pytest
from django.core import serializers
from django.core.management import call_command

from tests.testapp.models import Letter, Patient
from vault_fields.exceptions import KeyContextMismatch


@pytest.fixture
def fixture(organization, other_organization, tmp_path):
    """Rows of one tenant, which the fixture gives to another as natural keys would; none is there any more."""
    Patient.objects.create(organization=organization, ssn="s", history=[1])
    Letter.objects.create(organization=organization, subject="a", text=None)
    rows = json.loads(serializers.serialize("json", [*Patient.objects.all(), *Letter.objects.all()]))
    for row in rows:
        row["fields"]["organization"] = other_organization.pk
    Patient.objects.all().delete()
    Letter.objects.all().delete()
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.mark.parametrize("command", ["loaddata", "vault_loaddata"])
def test_a_row_whose_tenant_has_another_key_is_refused_with_the_line_that_loads_it(fixture, command) -> None:
    with pytest.raises(KeyContextMismatch, match="`manage.py vault_loaddata FIXTURE --accept-moved`"):
        call_command(command, fixture, verbosity=0)
    assert not Patient.objects.exists()


def test_who_vouches_for_the_fixture_has_its_rows_encrypted_for_their_tenants(fixture, other_organization) -> None:
    call_command("vault_loaddata", fixture, accept_moved=True, verbosity=0)
    patient, letter = Patient.objects.get(), Letter.objects.get()
    assert (patient.ssn, patient.history, letter.subject, letter.text) == ("s", [1], "a", None)
    assert json.loads(patient.ssn_keys)["row"] == {"organization_id": str(other_organization.pk)}
    # It is over with the command.
    with pytest.raises(KeyContextMismatch):
        call_command("vault_loaddata", fixture.replace("rows", "rows"), verbosity=0)


def test_a_fixture_whose_rows_are_their_tenants_needs_nobody_to_vouch_for_it(organization, tmp_path) -> None:
    Patient.objects.create(organization=organization, ssn="s", history=[1])
    path = tmp_path / "rows.json"
    path.write_text(serializers.serialize("json", Patient.objects.all()))
    Patient.objects.all().delete()
    call_command("vault_loaddata", str(path), verbosity=0)
    assert (Patient.objects.get().ssn, Patient.objects.get().history) == ("s", [1])
