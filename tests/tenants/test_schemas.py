"""A schema for each tenant: rows that are copied to another one do not open there."""

import inspect
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django_tenants.utils import schema_context

from tests.tenants.clinic import models
from tests.tenants.clinic.models import Patient
from tests.tenants.shared.models import Tenant
from vault_fields.exceptions import KeyContextError, KeyContextMismatch, KeyRevoked
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

COPY = "INSERT INTO bolt.clinic_patient SELECT * FROM acme.clinic_patient"


@pytest.fixture
def tenants(transactional_db: None) -> Iterator[list[str]]:
    """Two schemas, and a patient of each, of the same primary key."""
    made = [Tenant.objects.create(schema_name=name) for name in ("acme", "bolt")]
    for tenant in made:
        with schema_context(tenant.schema_name):
            Patient.objects.create(pk=1, name="Ada", ssn=f"of {tenant.schema_name}")
    yield [tenant.schema_name for tenant in made]
    connection.set_schema_to_public()  # Which tenant_command does not.
    for tenant in made:
        tenant.delete(force_drop=True)


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def copy() -> None:
    """What whoever can write to the database does: a row of Acme's, companion and all, into the table of Bolt."""
    execute("DELETE FROM bolt.clinic_patient")
    execute(COPY)


def test_each_tenant_has_keys_of_its_own(tenants: list[str]) -> None:
    for name in tenants:
        with schema_context(name), assert_vault_calls(decrypt=1, cold=True):
            patient = Patient.objects.get()
            assert patient.ssn == f"of {name}"
            assert companion.decode(patient.ssn_keys).context == {"tenant": name}
    vault = vaults["default"]
    vault.revoke("tenant", "acme")
    try:
        with schema_context("acme"), pytest.raises(KeyRevoked):
            Patient.objects.get().ssn  # noqa: B018
        with schema_context("bolt"):
            assert Patient.objects.get().ssn == "of bolt"
    finally:
        vault.restore("tenant", "acme")


@pytest.mark.parametrize("read", [lambda: Patient.objects.get().ssn, lambda: [*Patient.objects.values_list("ssn")]])
def test_a_row_that_is_copied_to_another_schema_does_not_open_there(tenants: list[str], read) -> None:
    copy()
    with schema_context("bolt"), assert_vault_calls(cold=True):
        with pytest.raises(KeyContextMismatch, match="tenant of the row differs from that of the value"):
            read()
        assert Patient.objects.get().name == "Ada"
    with schema_context("acme"):
        assert Patient.objects.get().ssn == "of acme"


def test_rows_open_after_their_schema_was_left(tenants: list[str]) -> None:
    """A task that gathers rows of all tenants, as a report does."""
    rows = []
    for name in tenants:
        with schema_context(name):
            rows.append(Patient.objects.get())
    assert [row.ssn for row in rows] == ["of acme", "of bolt"]
    copy()
    with schema_context("bolt"):
        pasted = Patient.objects.get()
    with schema_context("acme"), pytest.raises(KeyContextMismatch):
        pasted.ssn  # noqa: B018


def test_a_row_that_django_saves_in_another_schema_is_encrypted_for_it(tenants: list[str]) -> None:
    with schema_context("acme"):
        patient = Patient.objects.get()
    with schema_context("bolt"):
        patient.save()
        stored = Patient.objects.get()
        assert (stored.ssn, companion.decode(stored.ssn_keys).context) == ("of acme", {"tenant": "bolt"})


def test_outside_of_any_schema_nothing_is_encrypted(tenants: list[str]) -> None:
    with pytest.raises(KeyContextError, match=r"current_schema\(\) gives nothing: there is no tenant here"):
        Patient(name="Ada", ssn="x").save()


def test_the_recipe_of_the_page_is_the_one_that_is_tested_here() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "contexts.md").read_text("utf-8")
    for part in (models.current_schema, Patient):
        assert inspect.getsource(part) in page


def test_commands_run_in_each_schema(tenants: list[str]) -> None:
    copy()
    out = io.StringIO()
    with schema_context("acme"):
        call_command("vault_rekey", "clinic.Patient", stdout=out)
    with schema_context("bolt"), pytest.raises(CommandError, match="left alone"):
        call_command("vault_rekey", "clinic.Patient", stdout=out, stderr=out)
    call_command("tenant_command", "vault_rekey", "clinic.Patient", "--accept-moved", schema_name="bolt", stdout=out)
    with schema_context("bolt"):
        assert Patient.objects.get().ssn == "of acme"
