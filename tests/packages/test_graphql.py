"""strawberry-django: what an encrypted field is in a schema, and how it is read in a coroutine."""

import asyncio

import pytest
import strawberry
import strawberry_django
from strawberry import auto
from strawberry.scalars import JSON
from strawberry_django.fields.types import field_type_map
from strawberry_django.optimizer import DjangoOptimizerExtension

from tests.testapp.models import Organization, Patient
from vault_fields.fields import EncryptedJSONField, EncryptedTextField, aopen
from vault_fields.testing import assert_vault_calls

QUERY = "{ patients { name ssn history } }"


@pytest.fixture
def rows(transactional_db):
    """Coroutines read in other threads."""
    organization = Organization.objects.create(workos_id="org_1")
    for number in range(3):
        Patient.objects.create(organization=organization, name="n", ssn=f"s{number}", history=[number])
    return [{"name": "n", "ssn": f"s{number}", "history": [number]} for number in range(3)]


@pytest.fixture
def types(monkeypatch) -> None:
    for field, kind in {EncryptedTextField: str, EncryptedJSONField: JSON}.items():
        monkeypatch.setitem(field_type_map, field, kind)


def schema(kind, resolver=None):
    @strawberry.type
    class Query:
        patients: list[kind] = strawberry_django.field(resolver=resolver)

    return strawberry.Schema(query=Query, extensions=[DjangoOptimizerExtension])


def data(result):
    assert not result.errors
    return result.data["patients"]


def test_a_schema_is_told_the_types(rows, types, django_assert_num_queries) -> None:
    @strawberry_django.type(Patient)
    class PatientType:
        name: auto
        ssn: auto
        history: auto

    with assert_vault_calls(decrypt=3, cold=True), django_assert_num_queries(1):
        assert data(schema(PatientType).execute_sync(QUERY)) == rows
    result = asyncio.run(schema(PatientType).execute(QUERY))
    assert "aopen" in result.errors[0].message


def test_a_type_of_all_fields_has_to_leave_companions_out(types) -> None:
    companions = ["ssn_keys", "notes_keys", "history_keys"]

    @strawberry_django.type(Patient, fields="__all__")
    class Whole:
        organization: strawberry.ID

    @strawberry_django.type(Patient, exclude=companions)
    class Narrower:
        organization: strawberry.ID

    with pytest.raises(TypeError, match=r"model field 'testapp\.Patient\.\w+_keys' has not been implemented"):
        schema(Whole)
    assert "ssn: String\n" in str(schema(Narrower))
    assert "Keys" not in str(schema(Narrower))


def test_fields_that_are_read_in_a_thread(rows, django_assert_num_queries) -> None:
    @strawberry_django.type(Patient)
    class PatientType:
        name: auto

        @strawberry_django.field(only=["ssn"])
        def ssn(self) -> str | None:
            return self.ssn

        @strawberry_django.field(only=["history"])
        def history(self) -> JSON:
            return self.history

    asked = schema(PatientType)
    with assert_vault_calls(decrypt=3, cold=True):
        assert data(asyncio.run(asked.execute(QUERY))) == rows
    with assert_vault_calls(decrypt=3, cold=True), django_assert_num_queries(1):
        assert data(asked.execute_sync(QUERY)) == rows
    with assert_vault_calls(cold=True):
        assert data(asyncio.run(asked.execute("{ patients { name } }"))) == [{"name": "n"}] * 3


def test_rows_that_are_opened_ahead(rows, types) -> None:
    @strawberry_django.type(Patient)
    class PatientType:
        name: auto
        ssn: auto
        history: auto

    async def patients() -> list[PatientType]:
        found = [row async for row in Patient.objects.order_by("pk")]
        await aopen(found, "ssn", "history")
        return found

    with assert_vault_calls(decrypt=3, cold=True):
        assert data(asyncio.run(schema(PatientType, patients).execute(QUERY))) == rows
