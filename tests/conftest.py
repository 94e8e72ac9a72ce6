from collections.abc import Callable

import pytest
from django.db import connection

from tests.testapp.models import Organization, Patient
from vault_fields.vaults import vaults


@pytest.fixture(autouse=True)
def cold_vault() -> None:
    """No test profits from the keys that another one opened."""
    for alias in vaults:
        vaults[alias].purge()


@pytest.fixture
def organization(db: None) -> Organization:
    return Organization.objects.create(workos_id="org_1")


@pytest.fixture
def other_organization(db: None) -> Organization:
    return Organization.objects.create(workos_id="org_2")


@pytest.fixture
def patient(organization: Organization) -> Patient:
    """A stored row, as nobody has loaded it yet."""
    created = Patient.objects.create(organization=organization, name="Ada", ssn="123-45-6789", notes="", history=[1])
    return Patient(pk=created.pk)


@pytest.fixture
def stored(db: None) -> Callable[..., tuple]:
    """What the database holds, past the ORM: ``stored(instance, "column", …)``."""

    def read(instance, *columns: str) -> tuple:
        quote = connection.ops.quote_name
        meta = instance._meta
        sql = f"SELECT {', '.join(map(quote, columns))} FROM {quote(meta.db_table)} WHERE {quote(meta.pk.column)} = %s"
        with connection.cursor() as cursor:
            cursor.execute(sql, [meta.pk.get_db_prep_value(instance.pk, connection)])
            return cursor.fetchone()

    return read


@pytest.fixture
def execute(db: None) -> Callable[..., None]:
    """Run SQL past the ORM."""

    def run(sql: str, *params: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)

    return run
