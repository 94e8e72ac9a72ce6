"""Tenants that are deleted, and what becomes of rows that another one inherits."""

import pytest
from django.db import models, transaction
from django.test.utils import isolate_apps

from tests.testapp.models import Organization, Patient
from vault_fields.exceptions import KeyContextError
from vault_fields.fields import EncryptedTextField
from vault_fields.testing import assert_vault_calls

HEIR = 7777


def heir():
    return HEIR


def unmanaged(class_name, table, /, **fields):
    """A model over the table of another, which nothing else refers to."""
    meta = type("Meta", (), {"app_label": "testapp", "db_table": table._meta.db_table, "managed": False})
    return type(class_name, (models.Model,), {**fields, "Meta": meta, "__module__": __name__})


@pytest.fixture
def inherited(organization):
    """Make a tenant who owns a row, and the model of the row."""

    def make(on_delete, context="organization_id"):
        tenant = unmanaged("Tenant", Organization, workos_id=models.CharField(max_length=100))
        owned = unmanaged(
            "Owned",
            Patient,
            organization=models.ForeignKey(tenant, on_delete, related_name="+", null=True, default=HEIR),
            name=models.CharField(max_length=100, default=""),
            ssn=EncryptedTextField(key_context=[context], null=True),
        )
        owned.objects.create(organization_id=organization.pk, name="n", ssn="s")
        return tenant.objects.get(), owned

    with isolate_apps("tests.testapp"):
        yield make


@pytest.mark.parametrize("on_delete", [models.SET_DEFAULT, models.SET(heir)])
def test_the_heir_of_a_tenant_gets_the_values(inherited, on_delete):
    tenant, owned = inherited(on_delete)
    Organization.objects.create(pk=HEIR, workos_id="heir")
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        tenant.delete()
    assert owned.objects.values_list("organization_id", "ssn").get() == (HEIR, "s")


def test_rows_whose_context_does_not_change_are_what_they_were(inherited):
    tenant, owned = inherited(models.SET_DEFAULT, context="name")
    Organization.objects.create(pk=HEIR, workos_id="heir")
    with assert_vault_calls(cold=True):
        tenant.delete()
    assert owned.objects.values_list("organization_id", "ssn").get() == (HEIR, "s")


def test_a_tenant_whose_values_nobody_inherits_is_not_deleted(inherited):
    tenant, owned = inherited(models.SET_NULL)
    with pytest.raises(KeyContextError, match=r"testapp.Owned.ssn \(pk=\d+\): .*it is None"), transaction.atomic():
        tenant.delete()
    assert type(tenant).objects.count() == 1
    assert owned.objects.values_list("ssn", flat=True).get() == "s"
