"""Whether Django is as this package knows it: a difference is reported, and nothing is encrypted or serialized."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.base import Serializer
from django.db import transaction
from django.db.migrations.state import ModelState
from django.db.models import Model, QuerySet
from django.db.models.deletion import Collector
from django.utils.module_loading import import_string

from tests.checks.conftest import compare_anew
from tests.testapp.models import Organization, Patient
from vault_fields import patches
from vault_fields.checks.patches import check_installed
from vault_fields.fields.serializing import install_serializing


@pytest.fixture(autouse=True)
def compared_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compare_anew()
    yield
    monkeypatch.undo()
    compare_anew()


def replaced(self: Any, rows: Any) -> None:
    """A method with other parameters."""


def test_all_that_is_wrapped_is_as_it_should_be() -> None:
    assert patches.differences() == ()
    assert check_installed(None) == []
    for path, name in patches.PATCHED:
        method = getattr(import_string(path), name)
        # Each model that has encrypted fields is wrapped, and not the class that all of them have.
        if (path, name) != ("django.db.models.Model", "_save_table"):
            assert hasattr(method, "__wrapped__"), f"{path}.{name} is in the table, and nothing wraps it"


@pytest.mark.django_db
def test_e032_a_method_of_django_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    organization = Organization.objects.create(workos_id="acme")
    patient = Patient.objects.create(organization=organization, ssn="078-05-1120")
    stored = Patient.objects.get()
    monkeypatch.setattr(Collector, "delete", replaced)
    compare_anew()

    (message,) = check_installed(None)
    assert message.id == "vault_fields.E032"
    assert "django.db.models.deletion.Collector.delete does not take ()" in message.msg

    patient.ssn = "219-09-9999"
    with pytest.raises(ImproperlyConfigured, match=r"nothing is encrypted .*Collector\.delete"), transaction.atomic():
        patient.save()
    with pytest.raises(ImproperlyConfigured, match="nothing is encrypted"), transaction.atomic():
        Patient.objects.bulk_create([Patient(organization=organization, ssn="new")])
    assert [each.ssn for each in Patient.objects.all()] == [stored.ssn] == ["078-05-1120"]


@pytest.mark.parametrize("problem", ["missing", "not callable", "compiled"])
def test_a_method_that_is_gone_is_not_wrapped(monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    class Other:
        pass

    monkeypatch.delattr(QuerySet, "bulk_update")
    if problem == "not callable":
        monkeypatch.setattr(QuerySet, "bulk_update", 1, raising=False)
    if problem == "compiled":
        monkeypatch.setattr(QuerySet, "bulk_update", dict.update, raising=False)
    compare_anew()
    patches.wrap(QuerySet, "bulk_update", replaced)
    assert not hasattr(getattr(QuerySet, "bulk_update", None), "__wrapped__")
    assert len(check_installed(None)) == 1


def test_wrappers_of_other_packages_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collector, "delete", lambda self, *args, **kwargs: None)
    compare_anew()
    assert patches.differences() == ()


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["django.core.serializers.base.Serializer.serialize", "_value_from_field"])
def test_nothing_is_serialized_by_serializers_that_are_others(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    Patient.objects.create(organization=Organization.objects.create(workos_id="acme"), ssn="078-05-1120")
    cls = import_string("django.core.serializers.python.Serializer") if method.startswith("_") else Serializer
    monkeypatch.setattr(Serializer, "serialize", Serializer.serialize)
    monkeypatch.setattr(cls, method.rpartition(".")[2], replaced)
    compare_anew()
    install_serializing()
    with pytest.raises(ImproperlyConfigured, match="serialized"):
        serializers.serialize("json", Patient.objects.all())


def test_attributes_that_are_gone_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(patches.ATTRIBUTES, "django.db.models.QuerySet", (QuerySet, "_result_cache _other_cache"))  # type: ignore[arg-type]
    monkeypatch.setattr(patches, "ModelState", SimpleNamespace(render=Model.save))
    compare_anew()
    assert patches.differences() == (
        "django.db.models.QuerySet has no attribute _other_cache",
        "historical models are not of the module '__fake__'",
    )
    assert ModelState is not patches.ModelState
