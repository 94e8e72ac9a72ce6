"""``QuerySet.update()``: one value for many rows, sealed for each."""

import pytest
from django.core.exceptions import FieldError
from django.db import transaction
from django.db.models import F, Value

from tests.testapp.models import Certificate, Letter, Organization, Patient
from vault_fields.testing import assert_vault_calls


@pytest.fixture
def patients(organization, other_organization):
    for number in range(6):
        Patient.objects.create(
            organization=organization if number % 2 else other_organization, name=f"n{number}", ssn="old", notes="kept"
        )
    return Patient.objects.order_by("name")


def test_one_value_for_many_rows_costs_one_key_for_each_context(patients) -> None:
    with assert_vault_calls(cold=True, create=2):
        assert patients.filter(name__lt="n5").update(ssn="new") == 5
    assert list(patients.values_list("ssn", "notes")) == [("new", "kept")] * 5 + [("old", "kept")]


def test_plain_columns_are_updated_in_the_same_breath(patients) -> None:
    assert patients.filter(ssn__isnull=False, name="n1").update(ssn="new", name=Value("renamed"), history={"a": 1}) == 1
    row = Patient.objects.get(name="renamed")
    assert (row.ssn, row.history, row.notes) == ("new", {"a": 1}, "kept")


def test_a_filter_on_what_is_updated_selects_the_rows_once(patients) -> None:
    patients.filter(name__in=["n1", "n2"]).update(ssn=None)
    assert patients.filter(ssn=None).update(ssn="new", name="x") == 2
    assert [row.ssn for row in Patient.objects.filter(name="x")] == ["new", "new"]


def test_what_shares_the_companion_stays_readable(organization) -> None:
    for number in range(3):
        Letter.objects.create(organization=organization, subject=f"s{number}", text=[number])
    assert Letter.objects.update(subject="same") == 3
    assert list(Letter.objects.order_by("pk").values_list("subject", "text")) == [("same", [n]) for n in range(3)]


def test_null_beside_a_value_that_shares_its_companion(organization) -> None:
    Letter.objects.create(organization=organization, subject="s", text=[1])
    assert Letter.objects.update(subject=None, text=[2]) == 1
    assert Letter.objects.values_list("subject", "text").get() == (None, [2])


def test_a_new_tenant_beside_a_new_value_takes_everything_along(patients, other_organization) -> None:
    assert patients.filter(name="n1").update(ssn="new", organization=other_organization) == 1
    row = Patient.objects.get(name="n1")
    assert (row.organization_id, row.ssn, row.notes) == (other_organization.pk, "new", "kept")
    with pytest.raises(FieldError, match="organization_id decides"):
        patients.update(ssn="x", organization_id=F("organization_id"))


def test_joins_relations_and_inherited_tables(patients, organization) -> None:
    assert patients.filter(organization__patients__name__gt="").update(ssn="joined") == 6
    assert organization.patients.update(ssn="related") == 3
    Certificate.objects.create(organization=organization, secret="s", chain="c", label="l")
    assert Certificate.objects.update(secret="t", chain="d", label="m") == 1
    row = Certificate.objects.get()
    assert (row.secret, row.chain, row.label) == ("t", "d", "m")
    assert Patient.objects.none().update(ssn="x") == 0


@pytest.mark.parametrize("value", [F("name"), Value("x")])
def test_expressions_and_companions_are_refused(patients, value) -> None:
    with pytest.raises(FieldError, match=r"testapp.Patient.ssn"), transaction.atomic():
        Patient.objects.update(ssn=value)
    for keys in (None, "x", F("notes_keys")):
        with pytest.raises(FieldError, match=r"testapp.Patient.ssn_keys holds the keys"):
            Patient.objects.update(ssn_keys=keys)
    with pytest.raises(TypeError, match="slice"):
        patients[:2].update(ssn="x")
    assert set(patients.values_list("ssn", flat=True)) == {"old"}
    assert Organization.objects.update(region="x") == 2
