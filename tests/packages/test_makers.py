"""Packages that make rows for tests."""

import factory
import pytest
from model_bakery import baker

from tests.packages.models import CachedOnRequest
from tests.testapp.models import Letter, Organization, Patient, Token


@pytest.mark.parametrize("model", [CachedOnRequest, Token])
def test_baker_fills_encrypted_fields(db, model) -> None:
    first, second = (baker.make(model) for _ in range(2))
    name = "ssn" if model is CachedOnRequest else "secret"
    values = set(model.objects.values_list(name, flat=True))
    assert values == {getattr(first, name), getattr(second, name)}
    assert len(values) == 2


@pytest.mark.parametrize(("model", "names"), [(Patient, ["ssn", "notes"]), (Letter, ["subject", "text"])])
def test_baker_fills_them_all_when_it_is_told_to(db, model, names) -> None:
    row = baker.make(model, _fill_optional=True)
    stored = model.objects.get(pk=row.pk)
    assert [getattr(stored, name) for name in names] == [getattr(row, name) for name in names]
    assert all(getattr(stored, name) for name in names)


def test_baker_takes_what_it_is_given_and_makes_many(db) -> None:
    baker.make(Patient, ssn="given", organization__workos_id="org_1")
    assert Patient.objects.get().ssn == "given"
    baker.make(CachedOnRequest, organization=Organization.objects.get(), _quantity=3, _bulk_create=True)
    assert len({row.ssn for row in CachedOnRequest.objects.all()}) == 3


def test_a_factory_fills_encrypted_fields(organization) -> None:
    class PatientFactory(factory.django.DjangoModelFactory):
        class Meta:
            model = Patient

        ssn = factory.Faker("ssn")
        history = factory.Dict({"visits": 1})

    made = PatientFactory.create_batch(2, organization=organization)
    assert [row.ssn for row in Patient.objects.order_by("pk")] == [row.ssn for row in made]
    assert Patient.objects.first().history == {"visits": 1}
