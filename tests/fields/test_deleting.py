"""Tenants that are deleted, and what becomes of rows that another one inherits."""

from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.db import connection, models, transaction
from django.db.models.deletion import Collector
from django.db.models.signals import post_delete, pre_delete
from django.test.utils import isolate_apps

from tests.testapp.models import Organization, Patient
from vault_fields.exceptions import KeyContextError
from vault_fields.fields import EncryptedTextField
from vault_fields.testing import assert_vault_calls

HEIR = 7777
OF_TESTAPP = type("Meta", (), {"app_label": "testapp"})


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
def test_the_heir_of_a_tenant_gets_the_values(inherited, on_delete) -> None:
    tenant, owned = inherited(on_delete)
    Organization.objects.create(pk=HEIR, workos_id="heir")
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        tenant.delete()
    assert owned.objects.values_list("organization_id", "ssn").get() == (HEIR, "s")


def test_rows_whose_context_does_not_change_are_what_they_were(inherited) -> None:
    tenant, owned = inherited(models.SET_DEFAULT, context="name")
    Organization.objects.create(pk=HEIR, workos_id="heir")
    with assert_vault_calls(cold=True):
        tenant.delete()
    assert owned.objects.values_list("organization_id", "ssn").get() == (HEIR, "s")


def test_a_tenant_whose_values_nobody_inherits_is_not_deleted(inherited) -> None:
    tenant, owned = inherited(models.SET_NULL)
    with pytest.raises(KeyContextError, match=r"testapp.Owned.ssn \(pk=\d+\): .*it is None"), transaction.atomic():
        tenant.delete()
    assert type(tenant).objects.count() == 1
    assert owned.objects.values_list("ssn", flat=True).get() == "s"


# Rows that go with their tenant. A database that checks keys at once gets them without their keys before.


@pytest.fixture
def tables(transactional_db, monkeypatch):
    """Tables of which each refers to tenants by keys that may be NULL, in a database that checks them at once."""
    monkeypatch.setattr(connection.features, "can_defer_constraint_checks", False)
    with isolate_apps("tests.testapp"):

        class Tenant(models.Model):
            code = models.CharField(max_length=20, unique=True)
            Meta = OF_TESTAPP

        class Owned(models.Model):
            tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, related_name="+")
            coded = models.ForeignKey(Tenant, models.CASCADE, null=True, to_field="code", related_name="+")
            kept = models.ForeignKey(Tenant, models.SET_NULL, null=True, related_name="+")
            secret = EncryptedTextField(key_context=["tenant_id"], null=True)
            by_code = EncryptedTextField(key_context={"code": "coded_id"}, null=True)
            by_kept = EncryptedTextField(key_context=["kept_id"], null=True)
            Meta = OF_TESTAPP

        class Note(models.Model):
            owned = models.ForeignKey(Owned, models.CASCADE, null=True, related_name="+")
            secret = EncryptedTextField(key_context={"tenant": "owned__tenant_id"}, null=True)
            Meta = OF_TESTAPP

        class Place(models.Model):
            tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, related_name="+")
            Meta = OF_TESTAPP

        class Room(Place):
            secret = EncryptedTextField(key_context=["tenant_id"], null=True)
            Meta = OF_TESTAPP

        made = [Tenant, Owned, Note, Place, Room]
        with connection.schema_editor() as editor:
            for model in made:
                editor.create_model(model)
        yield SimpleNamespace(**{model.__name__: model for model in made})
        with connection.schema_editor() as editor:
            for model in reversed(made):
                editor.delete_model(model)


@pytest.fixture
def tenants(tables):
    """A tenant with rows of all kinds, which is deleted, and one with the same rows, which stays."""
    for code in ("goes", "stays"):
        tenant = tables.Tenant.objects.create(code=code)
        owned = tables.Owned.objects.create(tenant=tenant, coded=tenant, secret="s", by_code="c")
        tables.Note.objects.create(owned=owned, secret="n")
        tables.Room.objects.create(tenant=tenant, secret="r")
    return tables.Tenant.objects.filter(code="goes")


def deleted_by_itself(tenants) -> None:
    tenants.get().delete()


def deleted_by_query(tenants) -> None:
    tenants.delete()


def deleted_in_the_admin(tenants) -> None:
    admin.ModelAdmin(tenants.model, admin.AdminSite()).delete_queryset(None, tenants)


@pytest.mark.parametrize("delete", [deleted_by_itself, deleted_by_query, deleted_in_the_admin])
def test_a_tenant_is_deleted_with_all_its_rows(tables, tenants, delete) -> None:
    with assert_vault_calls(cold=True):
        delete(tenants)
    assert [tenant.code for tenant in tables.Tenant.objects.all()] == ["stays"]
    assert [(row.secret, row.by_code) for row in tables.Owned.objects.all()] == [("s", "c")]
    assert [row.secret for row in tables.Note.objects.all()] == ["n"]
    assert [row.secret for row in tables.Room.objects.all()] == ["r"]
    assert tables.Place.objects.count() == 1


def test_a_row_that_others_refer_to_is_deleted_with_them(tables, tenants) -> None:
    tables.Owned.objects.filter(tenant__in=tenants).delete()
    assert [row.secret for row in tables.Note.objects.all()] == ["n"]


def test_more_rows_than_one_statement_takes(tables, tenants) -> None:
    tenant = tenants.get()
    tables.Owned.objects.bulk_create([tables.Owned(tenant=tenant, secret="s") for _ in range(250)])
    tenant.delete()
    assert tables.Owned.objects.count() == 1


def test_a_row_that_goes_by_one_key_needs_no_tenant_by_another(tables, tenants) -> None:
    tenant = tenants.get()
    tables.Owned.objects.filter(tenant=tenant).update(kept=tenant, by_kept="k")
    tenant.delete()
    assert [row.secret for row in tables.Owned.objects.all()] == ["s"]


def test_a_row_that_stays_is_not_left_without_a_tenant_beside_one_that_goes(tables, tenants) -> None:
    tenant = tenants.get()
    tables.Owned.objects.update(kept=tenant, by_kept="k")
    with pytest.raises(KeyContextError, match=r"Owned.by_kept \(pk=\d+\): .*it is None"):
        tenant.delete()
    rows = tables.Owned.objects.order_by("pk").values_list("kept", "secret", "by_kept")
    assert list(rows) == [(tenant.pk, "s", "k")] * 2
    assert tables.Note.objects.count() == 2


def test_what_signals_do_to_other_rows_meanwhile_is_as_ever(tables, tenants) -> None:
    """Also a deletion within a deletion, and afterwards."""
    other = tables.Owned.objects.exclude(tenant__in=tenants).get()
    second = tables.Tenant.objects.create(code="goes too")
    tables.Owned.objects.create(tenant=second, secret="s")
    refused = []

    def forget(sender, instance, using, **kwargs) -> None:
        with pytest.raises(KeyContextError), transaction.atomic():
            tables.Owned.objects.filter(pk=other.pk).update(tenant=None)
        refused.append(sender)

    def delete_second(sender, **kwargs) -> None:
        second.delete()

    pre_delete.connect(forget, sender=tables.Note)
    post_delete.connect(delete_second, sender=tables.Note)
    try:
        tenants.get().delete()
    finally:
        pre_delete.disconnect(forget, sender=tables.Note)
        post_delete.disconnect(delete_second, sender=tables.Note)
    forget(None, None, None)
    assert refused == [tables.Note, None]
    assert [(row.pk, row.secret) for row in tables.Owned.objects.all()] == [(other.pk, "s")]


def test_rows_of_another_database_are_others(tables, tenants) -> None:
    """A row with the same key, which nobody deletes there."""
    row = tables.Owned.objects.get(tenant__in=tenants)

    class Elsewhere(Collector):
        def delete(self) -> None:
            tables.Owned.objects.filter(pk=row.pk).update(tenant=None)

    collector = Elsewhere(using="other")
    collector.data[tables.Owned] = {row}
    with pytest.raises(KeyContextError):
        collector.delete()
