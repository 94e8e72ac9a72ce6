"""A column may hold a text that looks like one which a query selected together with its companion."""

import json

import pytest

from tests.testapp.models import Legacy, Patient
from vault_fields.exceptions import PlaintextFound

ROUTES = {
    "model": lambda manager, pk: manager.get(pk=pk).ssn,
    "raw": lambda manager, pk: manager.raw("SELECT * FROM testapp_patient WHERE id = %s", [pk])[0].ssn,
    "iterator": lambda manager, pk: next(manager.filter(pk=pk).iterator()).ssn,
    "only": lambda manager, pk: manager.only("ssn").get(pk=pk).ssn,
    "values": lambda manager, pk: manager.values_list("ssn", flat=True).get(pk=pk),
}


@pytest.mark.parametrize("mode", ["m", "v"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_value_that_brings_its_own_row_along_does_not_open(
    route, mode, patient, other_organization, execute, stored
) -> None:
    """Pasted with the companion and the tenant of the row it comes from, it would pass as a value of that row."""
    value, keys = stored(patient, "ssn", "ssn_keys")
    columns = json.dumps([json.loads(keys)["row"]["organization_id"]])
    thief = Patient.objects.create(organization=other_organization, ssn="own")
    execute("UPDATE testapp_patient SET ssn = %s WHERE id = %s", f"\x1e{mode}{columns}\x1f{keys}\x1f{value}", thief.pk)
    with pytest.raises(PlaintextFound):
        ROUTES[route](Patient.objects, thief.pk)


@pytest.mark.parametrize("text", ["\x1e", "\x1ev", "\x1em[]\x1f\x1fvalue"])
def test_plaintext_that_looks_so_is_read_as_it_is(organization, execute, text) -> None:
    execute("INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, %s)", organization.pk, text)
    assert Legacy.objects.get().text == text
    assert Legacy.objects.only("text").get().text == text
    assert Legacy.objects.values_list("text", flat=True).get() == text
