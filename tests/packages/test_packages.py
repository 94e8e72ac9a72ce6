"""Packages that take all fields of a model, or store values and give them back, do so as docs/packages.md says."""

import json
from typing import Any

import pytest
import reversion
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.core.exceptions import FieldError
from django.db import transaction
from django_filters import BooleanFilter, FilterSet
from django_filters.filterset import filterset_factory
from django_filters.rest_framework import DjangoFilterBackend
from import_export.resources import ModelResource, modelresource_factory
from modelcluster.models import get_serializable_data_for_fields, model_from_serializable_data
from ninja import ModelSchema
from ninja.orm import create_schema
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.generics import ListAPIView
from rest_framework.serializers import ModelSerializer
from rest_framework.test import APIRequestFactory
from reversion.models import Version
from tablib import Dataset

from tests.testapp.models import ApiKey, Certificate, Letter, Patient
from vault_fields.checks.packages import check_packages
from vault_fields.exceptions import KeyContextMismatch, ValueRefused


class PatientSerializer(ModelSerializer):
    class Meta:
        model = Patient
        fields = "__all__"


class LetterSerializer(ModelSerializer):
    class Meta:
        model = Letter
        fields = "__all__"


def test_serializers_of_apis_have_no_companions(organization) -> None:
    assert list(PatientSerializer().fields) == ["id", "name", "ssn", "notes", "history", "organization"]
    assert "vault_keys" not in LetterSerializer().fields
    row = Patient.objects.create(organization=organization, ssn="s", history={"a": 1})
    data = json.loads(json.dumps(PatientSerializer(Patient.objects.get()).data))
    assert data == {
        "id": row.pk, "name": "", "ssn": "s", "notes": None, "history": {"a": 1}, "organization": organization.pk
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("ssn", "$vf$1$x"), ("ssn", "\ud800"), ("history", "$vf$1$x"), ("history", ["\ud800"]), ("history", float("nan"))],
    ids=ascii,
)
def test_serializers_of_apis_refuse_what_cannot_be_encrypted(organization, name, value) -> None:
    serializer = PatientSerializer(data={"organization": organization.pk, "name": "n", name: value})
    assert not serializer.is_valid()
    assert list(serializer.errors) == [name]


def test_serializers_of_apis_refuse_values_as_they_were_stored(organization) -> None:
    row = Patient.objects.create(organization=organization, ssn="s", history=None)
    text = Patient._meta.get_field("ssn").value_to_string(row)
    serializer = PatientSerializer(row, data={"ssn": text}, partial=True)
    assert not serializer.is_valid()


def test_an_api_orders_by_what_it_is_told_to(organization) -> None:
    class Patients(ListAPIView):
        queryset = Patient.objects.all()
        serializer_class = PatientSerializer
        filter_backends = [OrderingFilter]

    def hints():
        return [message.hint for message in check_packages(None) if message.obj is Patients]

    request = APIRequestFactory().get("/?ordering=ssn")
    with pytest.raises(FieldError, match="is encrypted and does not support"):
        Patients.as_view()(request)
    names = ("ssn", "notes", "history")
    assert hints() == [f"Write ordering_fields = […], without {name!r}." for name in names]
    Patients.ordering_fields = ["name"]
    assert hints() == []
    assert Patients.as_view()(request).status_code == 200


def test_an_api_searches_and_filters_by_what_it_is_told_to(organization) -> None:
    class Patients(ListAPIView):
        queryset = Patient.objects.order_by("pk")
        serializer_class = PatientSerializer
        filter_backends = [SearchFilter, DjangoFilterBackend]
        search_fields = ["name", "organization__patients__ssn"]
        filterset_fields = {"name": ["exact"], "ssn": ["exact", "isnull"]}

    Patient.objects.create(organization=organization, name="Ada", ssn="s")
    for query in ("search=s", "ssn=s"):
        with pytest.raises(FieldError, match="is encrypted and does not support"):
            Patients.as_view()(APIRequestFactory().get(f"/?{query}"))
    found = [message.hint for message in check_packages(None) if message.obj is Patients]
    assert found == [
        "Write search_fields = […], without 'organization__patients__ssn'.",
        "Write filterset_fields = […], without 'ssn__exact'.",
    ]
    Patients.search_fields, Patients.filterset_fields = ["name"], {"ssn": ["isnull"]}
    assert not [message for message in check_packages(None) if message.obj is Patients]
    for query in ("search=Ada", "ssn__isnull=false", "ssn=s"):
        assert len(Patients.as_view()(APIRequestFactory().get(f"/?{query}")).data) == 1


def test_filters_ask_whether_there_is_a_value(organization) -> None:
    class PatientFilter(FilterSet):
        without_ssn = BooleanFilter(field_name="ssn", lookup_expr="isnull")

        class Meta:
            model = Patient
            exclude = ["ssn", "notes", "history", "ssn_keys", "notes_keys", "history_keys"]

    Patient.objects.create(organization=organization, name="with", ssn="s")
    Patient.objects.create(organization=organization, name="without")
    assert set(PatientFilter.base_filters) == {"without_ssn", "organization", "name"}
    assert [row.name for row in PatientFilter({"without_ssn": "true"}, Patient.objects.all()).qs] == ["without"]
    everything = filterset_factory(ApiKey, fields="__all__")
    with pytest.raises(FieldError, match="is encrypted and does not support the lookup"):
        everything({"secret": "s"}, ApiKey.objects.all()).qs.get()
    messages = [message for message in check_packages(None) if message.obj in {everything, PatientFilter}]
    assert {(message.id, message.obj) for message in messages} == {("vault_fields.W019", everything)}
    assert len(messages) == 2


def test_an_audit_log_has_what_it_is_told_to_have(organization) -> None:
    names = ["ssn", "ssn_keys", "notes", "notes_keys", "history", "history_keys"]
    auditlog.register(
        Patient, exclude_fields=names, serialize_data=True, serialize_auditlog_fields_only=True
    )  # fmt: skip
    try:
        assert not [message for message in check_packages(None) if message.obj is Patient]
        row = Patient.objects.create(organization=organization, name="n", ssn="secret", history={"a": "secret"})
        row.name, row.ssn = "m", "another secret"
        row.save()
        auditlog.unregister(Patient)
        auditlog.register(Patient)
        (message,) = [message for message in check_packages(None) if message.obj is Patient]
    finally:
        auditlog.unregister(Patient)
    logged = str(list(LogEntry.objects.values_list("changes", "serialized_data", "object_repr")))
    assert "'name': ['n', 'm']" in logged
    assert not any(word in logged for word in ("secret", "$vf$", "vault"))
    assert (message.id, all(name in message.msg for name in names)) == ("vault_fields.W018", True)


def test_an_audit_log_that_masks_shows_half(organization) -> None:
    """What W018 is about."""
    auditlog.register(Patient, mask_fields=["ssn"])
    try:
        row = Patient.objects.create(organization=organization, ssn="078-05-1120")
        assert [message.id for message in check_packages(None) if message.obj is Patient] == ["vault_fields.W018"]
        assert LogEntry.objects.get().changes["ssn"] == ["**ne", "*****5-1120"]
        row.ssn = "219-09-9999"
        row.save()
    finally:
        auditlog.unregister(Patient)
    assert LogEntry.objects.first().changes["ssn"] == ["*****5-1120", "*****9-9999"]


def test_an_audit_log_that_serializes_whole_rows_is_refused_new_values(organization) -> None:
    """It writes before the row is saved, when there is nothing but plaintext."""
    row = Patient.objects.create(organization=organization, name="Ada", ssn="s")
    names = ["ssn", "ssn_keys", "notes", "notes_keys", "history", "history_keys"]
    auditlog.register(Patient, exclude_fields=names, serialize_data=True)
    try:
        row.name, row.ssn = "Bea", "t"
        with pytest.raises(ValueRefused, match="save the row before serializing it"), transaction.atomic():
            row.save()
    finally:
        auditlog.unregister(Patient)
    assert Patient.objects.get().ssn == "s"


def test_versions_hold_ciphertext_and_are_given_back(organization) -> None:
    reversion.register(ApiKey)
    reversion.register(Certificate, follow=["apikey_ptr"])
    try:
        with reversion.create_revision():
            row = Certificate.objects.create(organization=organization, secret="first", chain="first")
        with reversion.create_revision():
            row.secret, row.chain = "second", "second"
            row.save()
        versions = Version.objects.get_for_object(row)
        assert not any("first" in version.serialized_data for version in Version.objects.all())
        versions[1].revision.revert()
    finally:
        reversion.unregister(Certificate)
        reversion.unregister(ApiKey)
    assert Certificate.objects.values_list("secret", "chain").get() == ("first", "first")


def test_drafts_hold_ciphertext_and_give_values(organization, other_organization) -> None:
    row = Patient.objects.create(organization=organization, ssn="123-45", history={"a": 1})
    row.ssn = "changed in the draft"
    draft = json.loads(json.dumps(get_serializable_data_for_fields(row)))
    assert "changed" not in str(draft)
    assert "ssn_keys" not in draft
    assert Patient.objects.get().ssn == "123-45"
    published = model_from_serializable_data(Patient, draft)
    assert (published.ssn, published.history, published.notes) == ("changed in the draft", {"a": 1}, None)
    published.save()
    assert Patient.objects.get().ssn == "changed in the draft"
    moved = model_from_serializable_data(Patient, {**draft, "organization": other_organization.pk})
    with pytest.raises(KeyContextMismatch):
        _ = moved.ssn


def test_schemas_take_what_is_left_of_companions() -> None:
    schema = create_schema(Patient, name="WithoutKeys", exclude=["ssn_keys", "notes_keys", "history_keys"])
    assert set(schema.model_fields) == {"id", "organization", "name", "ssn", "notes", "history"}


def test_resources_export_and_import_values(organization) -> None:
    class Resource(ModelResource):
        class Meta:
            model = Letter
            exclude = ["vault_keys"]

    Letter.objects.create(organization=organization, subject="s", text={"a": 1})
    dataset = Resource().export()
    assert "vault_keys" not in dataset.headers
    assert dataset.dict[0]["subject"] == "s"
    Letter.objects.all().delete()
    result = Resource().import_data(dataset, raise_errors=True)
    assert not result.has_errors()
    assert Letter.objects.get().subject == "s"


def test_schemas_are_told_what_json_is(organization) -> None:
    class Schema(ModelSchema):
        history: Any = None

        class Meta:
            model = Patient
            fields = ["id", "history"]

    row = Patient.objects.create(organization=organization, history={"a": [1]})
    assert Schema.from_orm(Patient.objects.get()).model_dump() == {"id": row.pk, "history": {"a": [1]}}


def test_what_no_validator_sees_is_an_error_with_a_type(organization) -> None:
    class Resource(ModelResource):
        class Meta:
            model = Letter
            exclude = ["vault_keys"]

    dataset = Dataset(["1", str(organization.pk), "", "$vf$1$x"], headers=["id", "organization", "title", "subject"])
    with pytest.raises(Exception, match="begins like an encrypted value"):
        Resource().import_data(dataset, raise_errors=True)


def test_the_check_names_what_gives_companions_away() -> None:
    everything = modelresource_factory(Letter)
    schema = create_schema(Letter, name="LetterWithKeys")
    messages = [message for message in check_packages(None) if message.obj in {everything, schema}]
    assert {message.id for message in messages} == {"vault_fields.W011"}
    assert len(messages) == 2
    assert all("'vault_keys'" in message.msg for message in messages)
    assert all('exclude = ["vault_keys"]' in message.hint for message in messages)
