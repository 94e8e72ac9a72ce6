"""Django REST framework: an answer that needs a Vault, and a list in which one value does not open."""

import pytest
from django.urls import path
from rest_framework import serializers
from rest_framework.fields import SkipField
from rest_framework.generics import ListCreateAPIView
from rest_framework.test import APIClient

from tests.testapp.models import Patient
from vault_fields.exceptions import VaultUnavailable
from vault_fields.fields import try_open
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


class PatientSerializer(serializers.ModelSerializer):
    class Meta:
        model = Patient
        fields = ["organization", "name", "ssn", "history"]


class LeftOut:
    """A field whose value is left out where it does not open."""

    def get_attribute(self, instance):
        attempt = try_open(instance, self.source)
        if not attempt:
            self.parent.closed[self.field_name] = attempt.reason
            raise SkipField
        return attempt.value


class TolerantSerializer(serializers.ModelSerializer):
    class Meta:
        model = Patient
        fields = ["organization", "name", "ssn", "history"]

    def build_standard_field(self, field_name, model_field):
        field_class, options = super().build_standard_field(field_name, model_field)
        if getattr(model_field, "is_encrypted", False):
            field_class = type(field_class.__name__, (LeftOut, field_class), {})
        return field_class, options

    def to_representation(self, instance):
        self.closed = {}
        return {**super().to_representation(instance), "closed": self.closed}


class Patients(ListCreateAPIView):
    queryset = Patient.objects.order_by("pk")
    serializer_class = PatientSerializer


class TolerantPatients(Patients):
    serializer_class = TolerantSerializer


urlpatterns = [path("patients", Patients.as_view()), path("tolerant", TolerantPatients.as_view())]


@pytest.fixture(autouse=True)
def project(settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "vault_fields.middleware.VaultErrorMiddleware"]
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "rest_framework"]


@pytest.fixture
def withdrawn(organization, other_organization):
    for owner in (organization, other_organization):
        Patient.objects.create(organization=owner, name=owner.workos_id, ssn="078-05-1120", history={"a": 1})
    vault = vaults["default"]
    vault.purge()
    vault.revoke("organization_id", str(other_organization.pk))
    yield other_organization
    vault.restore("organization_id", str(other_organization.pk))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_vault_that_is_away_is_503_in_json(organization, settings, debug, method) -> None:
    settings.DEBUG = debug
    Patient.objects.create(organization=organization, ssn="078-05-1120")
    vault, client = vaults["default"], APIClient()
    vault.purge()
    with vault.fail_with(VaultUnavailable("away", retry_after=3)):
        if method == "get":
            response = client.get("/patients", headers={"accept": "application/json"})
        else:
            response = client.post(
                "/patients", {"organization": organization.pk, "name": "n", "ssn": "x"}, format="json"
            )
    assert (response.status_code, response["Retry-After"]) == (503, "3")
    assert response.json()["code"] == "vault_unavailable"
    assert Patient.objects.count() == 1


def test_what_is_refused_is_403(withdrawn) -> None:
    response = APIClient().get("/patients", headers={"accept": "application/json"})
    assert (response.status_code, response.json()["code"]) == (403, "key_revoked")


def test_one_value_that_does_not_open_is_left_out_and_said(withdrawn) -> None:
    # Two for one column, and one for the other: what was refused is asked for again there.
    with assert_vault_calls(decrypt=3):
        first, second = APIClient().get("/tolerant").json()
    assert (first["ssn"], first["history"], first["closed"]) == ("078-05-1120", {"a": 1}, {})
    reason = "The key for this was withdrawn by its owner."
    assert second == {
        "organization": withdrawn.pk,
        "name": withdrawn.workos_id,
        "closed": {"ssn": reason, "history": reason},
    }


def test_values_are_written_and_checked_as_before(organization) -> None:
    serializer = TolerantSerializer(data={"organization": organization.pk, "name": "n", "ssn": "$vf$1$x"})
    assert not serializer.is_valid()
    assert list(serializer.errors) == ["ssn"]
