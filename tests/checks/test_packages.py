"""What other packages were told to give away. Stand-ins for them; tests/packages has the packages themselves."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from django.db import models

from tests.checks import standins
from tests.checks.standins import Auditlog, Filters, Resources, When, WhenFieldValueWas, hook
from vault_fields.checks.packages import check_packages
from vault_fields.fields import BlindIndex, EncryptedTextField
from vault_fields.normalize import casefold


@pytest.fixture
def patient(lab):
    return lab.patient()


def messages(lab):
    return check_packages(lab.apps.get_app_configs())


def test_w011_a_resource_with_a_companion(lab, patient, monkeypatch) -> None:
    resources = Resources()
    monkeypatch.setitem(sys.modules, "import_export.resources", resources)
    everything = resources.resource(patient)
    narrower = resources.resource(patient, base=everything, exclude=["ssn_keys"])
    resources.resource(None)
    (message,) = messages(lab)
    assert (message.id, message.obj) == ("vault_fields.W011", everything)
    assert "'ssn_keys' of testapp." in message.msg
    assert message.hint == 'Leave it out: exclude = ["ssn_keys"].'
    assert "ssn_keys" not in narrower.fields
    assert check_packages([]) == []


def test_w011_a_schema_with_a_companion(lab, patient, monkeypatch) -> None:
    schema = type("Schema", (), {"model_fields": {"ssn": 1, "ssn_keys": 2}})
    narrower = type("Narrower", (), {"model_fields": {"ssn": 1}})
    schemas = {(patient, "Schema"): schema, (patient, "Narrower"): narrower}
    monkeypatch.setitem(sys.modules, "ninja.orm.factory", SimpleNamespace(factory=SimpleNamespace(schemas=schemas)))
    assert [(message.id, message.obj) for message in messages(lab)] == [("vault_fields.W011", schema)]


@pytest.fixture
def indexed(lab):
    """A model whose values are found: the e-mail address without difference of case."""

    def field(**options):
        return EncryptedTextField(key_context=["organization_id"], **options)

    return lab.patient(ssn=field(index=True), email=field(index=BlindIndex(normalize=casefold, scope="global")))


def test_w011_and_w018_are_about_hashes_too(lab, indexed, monkeypatch) -> None:
    resources, auditlog = Resources(), Auditlog()
    monkeypatch.setitem(sys.modules, "import_export.resources", resources)
    monkeypatch.setitem(sys.modules, "auditlog.registry", SimpleNamespace(auditlog=auditlog))
    exclude = ["ssn", "ssn_keys", "email", "email_keys", "email_index"]
    resource = resources.resource(indexed, exclude=exclude)
    auditlog.register(indexed, exclude_fields=exclude)
    shown, copied = messages(lab)
    assert (shown.id, shown.obj, copied.id) == ("vault_fields.W011", resource, "vault_fields.W018")
    assert "gives the hashes 'ssn_index' of testapp." in shown.msg
    assert shown.msg.endswith("which are equal.")
    assert "copies ssn_index into its log" in copied.msg


def test_w018_a_log_with_values(lab, patient, monkeypatch) -> None:
    auditlog = Auditlog()
    monkeypatch.setitem(sys.modules, "auditlog.registry", SimpleNamespace(auditlog=auditlog))
    auditlog.register(patient, exclude_fields=["ssn"])
    (message,) = messages(lab)
    assert (message.id, message.obj) == ("vault_fields.W018", patient)
    assert "copies ssn_keys into its log" in message.msg
    assert message.hint == (
        f"Leave them out: auditlog.register({patient.__name__}, exclude_fields=['ssn', 'ssn_keys'])."
    )
    auditlog.register(patient, include_fields=["organization", "ssn"])
    (message,) = messages(lab)
    assert "copies ssn into its log" in message.msg
    assert check_packages([]) == []
    auditlog.register(patient, exclude_fields=["ssn", "ssn_keys"])
    assert messages(lab) == []


def test_w019_a_filter_of_an_encrypted_field(lab, patient, monkeypatch) -> None:
    filters = Filters()
    monkeypatch.setitem(sys.modules, "django_filters.filterset", filters)
    everything = type("All", (filters.FilterSet,), {"Meta": SimpleNamespace(model=patient)})
    meta = SimpleNamespace(model=patient, exclude=["ssn_keys"], lookup="isnull")
    others = [type("Asking", (filters.FilterSet,), {"Meta": meta}), type("Base", (filters.FilterSet,), {})]
    found = messages(lab)
    assert {(message.id, message.obj) for message in found} == {("vault_fields.W019", everything)}
    assert sorted(message.msg.split()[2] for message in found) == ["'ssn'", "'ssn_keys'"]
    assert 'exclude = ["ssn"]' in found[0].hint
    assert check_packages([]) == []
    assert [sorted(each.base_filters) for each in others] == [["id", "organization", "ssn"], []]


def test_w019_lookups_that_an_index_serves_are_passed_over(lab, indexed, monkeypatch) -> None:
    filters = Filters()
    monkeypatch.setitem(sys.modules, "django_filters.filterset", filters)
    exclude = ["ssn_keys", "email_keys"]
    metas = [
        SimpleNamespace(model=indexed, exclude=exclude, lookup=each) for each in ("exact", "in", "iexact", "contains")
    ]
    asked = [type(meta.lookup, (filters.FilterSet,), {"Meta": meta}) for meta in metas]
    found = sorted((message.obj.__name__, message.msg.split()[2]) for message in messages(lab))
    assert found == [("contains", "'email'"), ("contains", "'ssn'"), ("iexact", "'ssn'")]
    assert len(asked) == 4


def test_w023_a_cache_of_queries(lab, patient, settings, monkeypatch) -> None:
    standins.install(monkeypatch)
    label = patient._meta.label_lower
    for ops in ({"get", "fetch", "count"}, {"get"}, {"fetch"}):
        settings.CACHEOPS = {label: {"ops": ops, "timeout": 900}}
        (message,) = messages(lab)
        assert (message.id, message.obj) == ("vault_fields.W023", patient)
        assert message.hint == (
            f'Write "{label}": {{"ops": (), "timeout": 900}} in CACHEOPS, and cache() where whole instances are read: '
            "they are kept encrypted."
        )
    assert check_packages([]) == []
    for profile in ({"ops": {"count", "exists"}, "timeout": 900}, None):
        settings.CACHEOPS = {label: profile, "testapp.organization": {"ops": {"fetch"}, "timeout": 900}}
        assert messages(lab) == []


def test_w024_a_tracker_of_encrypted_fields(lab, monkeypatch) -> None:
    standins.install(monkeypatch)
    whole = lab.patient(tracker=standins.FieldTracker(), changes=standins.FieldTracker(fields=["organization_id"]))
    (message,) = messages(lab)
    assert (message.id, message.obj) == ("vault_fields.W024", whole)
    assert "copies ssn whenever a row is loaded" in message.msg
    assert message.hint.endswith("without those that are encrypted: tracker = FieldTracker(fields=[…]).")


def test_w024_a_mixin_that_copies_encrypted_fields(lab, monkeypatch) -> None:
    standins.install(monkeypatch)
    bases = (standins.DirtyFieldsMixin, lab.patient(meta={"abstract": True}))
    whole = lab.model("Whole", bases)
    named = lab.model("Named", bases, FIELDS_TO_CHECK=["ssn", "organization"])
    lab.model("Right", bases, FIELDS_TO_CHECK=["organization"])
    found = messages(lab)
    assert [(message.id, message.obj) for message in found] == [("vault_fields.W024", each) for each in (whole, named)]
    assert all(message.hint.endswith(": FIELDS_TO_CHECK = […].") for message in found)


def test_w025_a_hook_that_looks_back(lab, monkeypatch) -> None:
    standins.install(monkeypatch)

    def combined(left, right):
        combination = When()
        combination.left, combination.right = left, right
        return combination

    def hooked(*arguments, **options):
        def method(self):
            raise NotImplementedError

        return hook("after_save", *arguments, **options)(method)

    model = lab.model(
        "Hooked",
        (standins.LifecycleModelMixin, lab.patient(meta={"abstract": True})),
        was=hooked(when="ssn", was="x"),
        was_not=hooked(when="ssn", was_not="x"),
        any=hooked(condition=When(when_any=["organization", "ssn"], changes_to="x")),
        either=hooked(condition=combined(When(when="ssn"), WhenFieldValueWas("ssn"))),
        has_changed=hooked(when="ssn", has_changed=True),
        of_another_field=hooked(when="organization", was="x"),
        of_its_own=hooked(condition=lambda instance, update_fields=None: True),
    )
    found = messages(lab)
    assert {(message.id, message.obj) for message in found} == {("vault_fields.W025", model)}
    assert len(found) == 4
    assert all("compares what ssn was" in message.msg for message in found)


@pytest.fixture
def rest(monkeypatch):
    rest = standins.RestFramework()
    rest.install(monkeypatch)
    return rest


def offered(lab):
    return [(message.obj, message.hint) for message in messages(lab) if message.id == "vault_fields.W026"]


def test_w026_a_view_that_sorts_by_whatever_is_asked(lab, patient, rest) -> None:
    serializer = rest.serializer(patient, "id", "ssn")
    backends = {"filter_backends": ["a backend", rest.SearchFilter, rest.OrderingFilter]}
    views = [
        rest.view(patient, serializer_class=serializer, **backends),
        rest.view(serializer_class=serializer, **backends),
        rest.view(patient, ordering_fields="__all__", **backends),
        rest.view(patient, ordering_fields=["id", ("ssn", "Number")], **backends),
    ]
    rest.view(patient, serializer_class=serializer, ordering_fields=["id"], **backends)
    rest.view(patient, serializer_class=rest.serializer(patient, "id", "ssn", hidden="ssn"), **backends)
    rest.view(patient, serializer_class=serializer)
    rest.view(patient, **backends)
    rest.view(**backends)
    assert offered(lab) == [(view, "Write ordering_fields = […], without 'ssn'.") for view in views]
    assert check_packages([]) == []


def test_w026_a_view_that_searches_or_filters(lab, patient, rest) -> None:
    lab.model("Visit", patient=models.ForeignKey(patient, on_delete=models.CASCADE))
    visit = lab.apps.get_model("testapp", "Visit")
    searched = rest.view(visit, filter_backends=[rest.SearchFilter], search_fields=["^patient__ssn", "id"])
    filters = [
        (rest.view(patient, filterset_fields=["ssn", "id"]), "ssn"),
        (rest.view(patient, filterset_fields={"ssn": ["isnull", "contains"], "id": ["exact"]}), "ssn__contains"),
        (rest.view(patient, filterset_fields="__all__"), "ssn"),
    ]
    rest.view(visit, search_fields=["patient__ssn"])
    rest.view(patient, filter_backends=[rest.SearchFilter])
    rest.view(patient, filterset_fields={"ssn": ["isnull"]})
    assert offered(lab) == [
        (searched, "Write search_fields = […], without 'patient__ssn'."),
        *((view, f"Write filterset_fields = […], without {name!r}.") for view, name in filters),
    ]


def test_w026_lookups_that_an_index_serves_are_passed_over(lab, indexed, rest) -> None:
    searching = {"filter_backends": [rest.SearchFilter]}
    refused = [
        (rest.view(indexed, search_fields=[entry], **searching), "search", name)
        for entry, name in (("=ssn", "ssn"), ("email", "email"), ("^email", "email"))
    ]
    refused += [
        (rest.view(indexed, filterset_fields={"ssn": ["iexact", "in"]}), "filterset", "ssn__iexact"),
        (rest.view(indexed, ordering_fields=["ssn"], filter_backends=[rest.OrderingFilter]), "ordering", "ssn"),
    ]
    rest.view(indexed, search_fields=["=email", "email__exact", "ssn__exact"], **searching)
    rest.view(indexed, filterset_fields=["ssn", "email"])
    rest.view(indexed, filterset_fields={"ssn": ["exact", "in", "isnull"], "email": ["iexact"]})
    assert offered(lab) == [(view, f"Write {what}_fields = […], without {name!r}.") for view, what, name in refused]


def test_w026_a_view_that_cannot_be_looked_at(lab, patient, rest) -> None:
    view = rest.view(patient, filter_backends=5)
    assert [(message.id, message.obj) for message in messages(lab)] == [("vault_fields.W014", view)]


def test_w014_urls_that_cannot_be_imported(lab, patient, settings) -> None:
    settings.ROOT_URLCONF = "tests.no_such_urls"
    (message,) = messages(lab)
    assert message.id == "vault_fields.W014"
    assert message.msg.startswith("What tests.no_such_urls leads to cannot be checked")
    settings.ROOT_URLCONF = ""
    assert messages(lab) == []


def test_views_are_imported_before_they_are_looked_at(tmp_path) -> None:
    """With ``check --tag`` nobody else does it, and without it Django's checks have no order."""
    (tmp_path / "urls_of_a_project.py").write_text("urlpatterns = []")
    script = (
        "import sys, django; from django.conf import settings; from django.core.checks import run_checks; "
        "settings.configure(INSTALLED_APPS=['vault_fields'], ROOT_URLCONF='urls_of_a_project', VAULTS={}); "
        "django.setup(); run_checks(tags=['vault_fields']); assert 'urls_of_a_project' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True)


def test_packages_that_are_not_there(lab, patient) -> None:
    assert messages(lab) == []
