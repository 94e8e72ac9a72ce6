"""Contexts from columns of a project's own kind, and models that override what is wrapped."""

import pytest
from django.core.exceptions import ValidationError
from django.db import models
from django.test.utils import isolate_apps

from tests.testapp.models import Organization, Patient, Setting
from vault_fields.exceptions import KeyContextError
from vault_fields.fields import EncryptedTextField
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls


class PrefixedId(models.CharField):
    """Stores ``acme`` and shows ``org_acme``."""

    def from_db_value(self, value, expression, connection) -> str | None:
        return None if value is None else f"org_{value}"

    def to_python(self, value):
        return value

    def get_prep_value(self, value):
        return None if value is None else str(value).removeprefix("org_")


class Converting(models.CharField):
    """Converts where the value is sent, and not where it is prepared."""

    def from_db_value(self, value, expression, connection) -> str | None:
        return None if value is None else f"org_{value}"

    def get_db_prep_value(self, value, connection, prepared=False):
        return None if value is None else str(value).removeprefix("org_")


class LowerCased(models.CharField):
    def get_prep_value(self, value):
        return None if value is None else str(value).lower()


class Number(models.IntegerField):
    """Stores 7 and shows 1007."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else value + 1000

    def get_prep_value(self, value):
        return None if value is None else int(value) - 1000

    def to_python(self, value):
        if not isinstance(value, int):
            raise ValidationError("no number")
        return value


def model_over_settings(column):
    """A model of its own kind over the table of ``Setting``."""

    class Setting(models.Model):
        tenant = column
        value = EncryptedTextField(key_context=["tenant"])

        class Meta:
            app_label = "testapp"
            db_table = "testapp_setting"
            managed = False

    return Setting


@pytest.mark.parametrize(
    ("column", "assigned", "shown"),
    [
        (PrefixedId(max_length=20), "org_acme", "org_acme"),
        (LowerCased(max_length=20), "ACME", "acme"),
        (Converting(max_length=20), "org_acme", "org_acme"),
    ],
    ids=["prefixed", "lower", "converting"],
)
@isolate_apps("tests.testapp")
def test_value_opens_on_every_path_whatever_the_column_makes_of_its_own(db, column, assigned, shown) -> None:
    model = model_over_settings(column)
    row = model.objects.create(tenant=assigned, value="secret")
    assert companion.decode(row.value_keys).context == {"tenant": shown}
    assert row.value == "secret"

    assert model.objects.get(pk=row.pk).value == "secret"
    assert model.objects.only("value").get(pk=row.pk).value == "secret"
    assert list(model.objects.values_list("value", flat=True)) == ["secret"]
    with assert_vault_calls():
        model.objects.get(pk=row.pk).save()


@isolate_apps("tests.testapp")
def test_number_is_converted_as_the_number_that_it_is(db) -> None:
    Organization.objects.create(pk=7, workos_id="org_7")

    class Document(models.Model):
        organization = Number(db_column="organization_id")
        body = EncryptedTextField(key_context=["organization"])

        class Meta:
            app_label = "testapp"
            managed = False

    row = Document.objects.create(organization=1007, body="secret")
    assert companion.decode(row.body_keys).context == {"organization": "1007"}
    assert Document.objects.get().body == "secret"
    assert list(Document.objects.values_list("organization", "body")) == [(1007, "secret")]


@isolate_apps("tests.testapp")
def test_column_that_does_not_take_the_value_says_so(db) -> None:
    with pytest.raises(KeyContextError, match="'tenant' has a value that its column does not take"):
        model_over_settings(Number()).objects.create(tenant="seven", value="secret")


def test_column_that_a_function_reads_must_name_a_tenant_too(db) -> None:
    with pytest.raises(KeyContextError, match=r"testapp\.Setting\.value .*'kind' has a value of type float"):
        Setting.objects.create(tenant="a", kind=0.0, value="secret")  # Which the function takes for none.


def test_models_without_encrypted_fields_are_refreshed_as_ever(organization) -> None:
    Organization.objects.update(region="us")
    organization.refresh_from_db()
    assert organization.region == "us"


@pytest.mark.parametrize("extra", [{}, {"from_queryset": None}], ids=["two arguments", "three"])
@isolate_apps("tests.testapp")
def test_model_may_override_refresh_from_db(patient, extra) -> None:
    class Overriding(Patient):
        class Meta:
            app_label = "testapp"
            proxy = True

        if extra:

            def refresh_from_db(self, using=None, fields=None, from_queryset=None) -> None:
                super().refresh_from_db(using=using, fields=fields, from_queryset=from_queryset)
        else:

            def refresh_from_db(self, using=None, fields=None) -> None:
                super().refresh_from_db(using=using, fields=fields)

    row = Overriding.objects.only("ssn").get(pk=patient.pk)
    with assert_vault_calls(cold=True):
        assert row.name == "Ada"
        row.refresh_from_db()
    assert row.ssn == "123-45-6789"
