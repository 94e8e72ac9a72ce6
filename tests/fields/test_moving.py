"""``QuerySet.update()`` of a column that the key context starts from: the values come along, or nothing is written."""

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.exceptions import FieldError
from django.db import NotSupportedError, connection, transaction
from django.db.migrations.state import ProjectState
from django.db.models import Case, Count, Exists, F, OuterRef, Subquery, Value, When
from django.test.utils import CaptureQueriesContext

from tests.testapp.models import (
    ApiKey,
    Bookmark,
    Certificate,
    Document,
    Legacy,
    Letter,
    Organization,
    Patient,
    Reply,
    Setting,
    Share,
    ShortApiKey,
    Thread,
    Token,
    Visit,
    WildcardCertificate,
)
from vault_fields.exceptions import KeyContextError, KeyContextMismatch, VaultRefused, VaultUnavailable
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


@pytest.fixture
def patients(organization):
    """Four rows that were saved one by one, of which two hold values."""
    for number in range(4):
        values = {"ssn": f"s{number}", "notes": "", "history": [number]} if number % 2 else {"history": None}
        Patient.objects.create(organization=organization, name=f"n{number}", **values)
    return Patient.objects.order_by("name")


def contents(rows):
    return [(row.organization_id, row.name, row.ssn, row.history) for row in rows.all()]


def moved_to(organization):
    return [
        (organization.pk, "n0", None, None),
        (organization.pk, "n1", "s1", [1]),
        (organization.pk, "n2", None, None),
        (organization.pk, "n3", "s3", [3]),
    ]


class Meanwhile:
    """Does something once, right before the first statement that has this text."""

    def __init__(self, text, act):
        self.text, self.act = text, act

    def __call__(self, execute, sql, params, many, context):
        if self.text in sql and self.act:
            act, self.act = self.act, None
            act()
        return execute(sql, params, many, context)


def test_rows_that_hold_values_take_them_along(patients, organization, other_organization) -> None:
    with assert_vault_calls(create=1, decrypt=2, cold=True):
        assert patients.filter(organization=organization).update(organization=other_organization) == 4
    assert contents(patients) == moved_to(other_organization)
    with assert_vault_calls(cold=True):
        assert patients.update(organization=other_organization) == 4


def test_only_rows_of_the_query_are_touched(patients, organization, other_organization, stored) -> None:
    untouched = patients.get(name="n3")
    before = stored(untouched, "organization_id", "ssn", "ssn_keys", "history")
    assert patients.exclude(name="n3").update(organization=other_organization) == 3
    assert stored(untouched, "organization_id", "ssn", "ssn_keys", "history") == before
    assert contents(patients)[:3] == moved_to(other_organization)[:3]
    assert Patient.objects.none().update(organization=organization) == 0


@pytest.mark.parametrize("value", [
    lambda other: {"organization": other},
    lambda other: {"organization": other.pk},
    lambda other: {"organization_id": str(other.pk)},
    lambda other: {"organization_id": Value(other.pk)},
], ids=["object", "key", "text", "Value"])  # fmt: skip
def test_a_tenant_may_be_named_as_for_a_plain_model(patients, other_organization, value) -> None:
    assert patients.update(**value(other_organization)) == 4
    assert contents(patients) == moved_to(other_organization)
    with assert_vault_calls(cold=True, decrypt=1):
        assert patients.filter(name="n1").update(ssn="s1", **value(other_organization)) == 1
    assert contents(patients) == moved_to(other_organization)


@pytest.mark.parametrize("condition", ["simple", "joined"])
def test_plain_columns_and_expressions_beside_it_are_written_once(patients, other_organization, condition) -> None:
    rows = patients if condition == "simple" else patients.filter(organization__workos_id="org_1")
    assert rows.update(organization=other_organization, name=Value("x"), history=None) == 4
    assert set(patients.values_list("organization_id", "name", "history", "ssn")) == {
        (other_organization.pk, "x", None, None),
        (other_organization.pk, "x", None, "s1"),
        (other_organization.pk, "x", None, "s3"),
    }


def test_rows_without_values_cost_two_queries_and_no_vault_call(organization, other_organization) -> None:
    Patient.objects.bulk_create(Patient(organization=organization, history=None) for _ in range(3))
    vaults["default"].fail_with(VaultUnavailable("down.", alias="default"))
    with CaptureQueriesContext(connection) as queries, assert_vault_calls(cold=True):
        assert Patient.objects.update(organization=other_organization) == 3
    assert [query["sql"].split()[0] for query in queries if "SAVEPOINT" not in query["sql"]] == [
        "SELECT",
        "UPDATE",
        "SELECT",
    ]


def test_models_without_encrypted_fields_and_other_columns_cost_what_they_did(
    patients, django_assert_num_queries
) -> None:
    with django_assert_num_queries(3):
        Organization.objects.update(region="x")
        patients.update(name="x")
        Thread.objects.update(organization=1)


JOINS = {
    "join": lambda rows: rows.filter(organization__workos_id="org_1"),
    "many": lambda rows: rows.filter(organization__patients__name__gt="n0").distinct(),
    "the other rows": lambda rows: rows.filter(
        Exists(Patient.objects.filter(organization=OuterRef("organization"), ssn=None))
    ),
    "annotation": lambda rows: rows.annotate(n=Count("organization__patients")).filter(n=4),
    "expression": lambda rows: rows.filter(name__gte=F("name")),
    "list": lambda rows: rows.filter(pk__in=[*rows.values_list("pk", flat=True)]),
    "subquery": lambda rows: rows.filter(pk__in=rows.order_by().values("pk")),
    "of null": lambda rows: rows.filter(organization__patients__ssn=None).distinct(),
    "ordered": lambda rows: rows.order_by("-name"),
}


@pytest.mark.parametrize("asked", JOINS.values(), ids=JOINS)
def test_the_condition_is_that_of_the_rows_as_they_were(patients, other_organization, asked) -> None:
    with assert_vault_calls(create=1, decrypt=2, cold=True):
        assert asked(patients).update(organization=other_organization) == 4
    assert contents(patients) == moved_to(other_organization)


def test_what_django_refuses_is_refused_in_its_words(patients, other_organization) -> None:
    for refused, error, match in (
        (patients[:2], TypeError, "slice"),
        (patients.order_by().union(patients.order_by()), NotSupportedError, "update"),
    ):
        with pytest.raises(error, match=match), transaction.atomic():
            refused.update(organization=other_organization)
    with pytest.raises(ValueError, match="expected a number"), transaction.atomic():
        patients.update(organization="x")
    with pytest.raises(FieldError, match="Joined field references"), transaction.atomic():
        patients.update(organization=F("organization__workos_id"))
    with pytest.raises(ValueError, match="[Uu]nsaved"), transaction.atomic():
        patients.update(organization=Organization())


def test_managers_of_relations(patients, organization, other_organization) -> None:
    assert organization.patients.update(organization=other_organization) == 4
    assert contents(patients) == moved_to(other_organization)
    organization.patients.add(*patients)
    assert contents(patients) == moved_to(organization)


def test_coroutines(patients, other_organization) -> None:
    assert async_to_sync(patients.aupdate)(organization=other_organization) == 4
    assert contents(patients) == moved_to(other_organization)


# Expressions.


def test_each_row_gets_what_an_expression_is_for_it(patients, organization, other_organization) -> None:
    third = Organization.objects.create(workos_id="org_3")
    chosen = Case(When(name__in=["n0", "n1"], then=Value(other_organization.pk)), default=Value(third.pk))
    with assert_vault_calls(create=2, decrypt=2, cold=True):
        assert patients.update(organization=chosen, name=F("name")) == 4
    assert contents(patients) == moved_to(other_organization)[:2] + moved_to(third)[2:]
    found = Organization.objects.filter(workos_id="org_1").values("pk")
    assert patients.update(organization=Subquery(found)) == 4
    assert contents(patients) == moved_to(organization)
    with assert_vault_calls(cold=True):
        assert patients.annotate(to=F("organization_id")).update(organization_id=F("to")) == 4
    assert contents(patients) == moved_to(organization)


def test_a_new_column_of_the_context_is_filled_by_an_expression(other_organization) -> None:
    Organization.objects.create(workos_id="org_1")
    Patient.objects.bulk_create(Patient(organization=other_organization, history=None) for _ in range(3))
    with assert_vault_calls(cold=True):
        first = Organization.objects.filter(workos_id="org_1").values("pk")
        assert Patient.objects.update(organization=Subquery(first)) == 3
    assert Patient.objects.filter(organization__workos_id="org_1").count() == 3


def test_an_expression_that_leads_to_no_tenant_writes_nothing(patients, organization) -> None:
    for found in (Organization.objects.filter(workos_id="nobody"), Organization.objects.none()):
        with pytest.raises(KeyContextError, match=r"testapp.Patient.ssn \(pk=\d+\): .*'organization_id': it is None"):
            patients.update(organization=Subquery(found.values("pk")))
    assert contents(patients) == moved_to(organization)


# What the context may be.


def test_text_is_compared_as_it_is_and_not_as_the_database_does(db) -> None:
    Setting.objects.create(tenant="acme", kind="x", value="v")
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        assert Setting.objects.filter(tenant="acme").update(tenant="Acme") == 1
    assert Setting.objects.values_list("tenant", "value").get() == ("Acme", "v")
    assert Setting.objects.update(kind=None) == 1
    assert Setting.objects.values_list("kind", "value").get() == (None, "v")
    with assert_vault_calls(cold=True):
        assert Setting.objects.update(tenant="Acme", kind=None) == 1
        assert Setting.objects.filter(tenant="nobody").update(tenant="x") == 0


def test_contexts_behind_relations(organization, other_organization, stored) -> None:
    document = Document.objects.create(organization=organization, body="b")
    Visit.objects.create(organization=organization, report="r")
    assert Document.objects.update(organization=other_organization) == 1
    assert Visit.objects.update(organization=other_organization) == 1
    assert (Document.objects.get().body, Visit.objects.get().report) == ("b", "r")
    assert companion.decode(stored(document, "body_keys")[0]).context["organization_id"] == "org_2"
    assert Visit.objects.update(organization_id="org_1") == 1
    assert Visit.objects.values_list("organization_id", "report").get() == ("org_1", "r")


def test_another_parent_in_the_same_context_costs_nothing_and_one_in_another_takes_along(
    organization, other_organization
) -> None:
    first, same, other = (
        Thread.objects.create(organization=each) for each in (organization, organization, other_organization)
    )
    for number in range(2):
        Reply.objects.create(thread=first, text=f"t{number}")
    with assert_vault_calls(cold=True):
        assert first.replies.update(thread=same) == 2
    with assert_vault_calls(create=1, decrypt=2, cold=True):
        assert same.replies.update(thread=other) == 2
    with assert_vault_calls(decrypt=1, cold=True):
        assert sorted(other.replies.values_list("text", flat=True)) == ["t0", "t1"]


def test_what_a_value_is_bound_to_may_change(organization, other_organization) -> None:
    Bookmark.objects.create(organization=organization, region="eu", slug="a", url="u")
    assert Bookmark.objects.update(slug="b") == 1
    assert Bookmark.objects.get().url == "u"
    assert Bookmark.objects.filter(slug="b").update(slug="c", organization=other_organization, region="us") == 1
    assert Bookmark.objects.values_list("slug", "region", "url").get() == ("c", "us", "u")
    token = Token.objects.create(tenant="5a0ed1e6-9c0e-4a35-8a40-d2b35a0b2a31", secret="s")
    assert Token.objects.update(id="5a0ed1e6-9c0e-4a35-8a40-d2b35a0b2a32", tenant=token.pk) == 1
    assert Token.objects.exclude(pk=token.pk).get().secret == "s"


def test_composite_keys(organization, other_organization) -> None:
    for number in range(3):
        Share.objects.create(organization=organization, number=number, note=f"n{number}")
    assert Share.objects.filter(number__gt=0).update(organization=other_organization) == 2
    assert Share.objects.filter(organization__workos_id="org_2", number=2).update(number=7) == 1
    assert sorted(Share.objects.values_list("organization_id", "number", "note")) == [
        (organization.pk, 0, "n0"),
        (other_organization.pk, 1, "n1"),
        (other_organization.pk, 7, "n2"),
    ]


def test_shared_companions_and_values_that_become_null(organization, other_organization) -> None:
    Letter.objects.create(organization=organization, subject="s", text=[1])
    assert Letter.objects.update(organization=other_organization) == 1
    assert Letter.objects.values_list("subject", "text").get() == ("s", [1])
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        assert Letter.objects.update(organization=organization, subject=None) == 1
    assert Letter.objects.values_list("organization_id", "subject", "text").get() == (organization.pk, None, [1])
    with assert_vault_calls(cold=True):
        assert Letter.objects.update(organization=other_organization, text=None) == 1


def test_no_tenant_is_refused_where_values_are(patients, organization) -> None:
    with pytest.raises(KeyContextError, match=r"testapp.Patient.ssn \(pk=\d+\): .*'organization_id': it is None"):
        patients.update(organization=None)
    with pytest.raises(KeyContextError, match=r"testapp.Patient.ssn \(pk=\d+\): .*type float"):
        patients.update(organization=2.0)
    assert contents(patients) == moved_to(organization)


def test_plaintext_stays_plaintext_and_needs_no_key(organization, other_organization, execute, stored) -> None:
    execute(
        "INSERT INTO testapp_legacy (id, organization_id, text, data) VALUES (1, %s, 'plain', '[1]')", organization.pk
    )
    with assert_vault_calls(cold=True):
        assert Legacy.objects.update(organization=other_organization) == 1
    row = Legacy.objects.get()
    row.text = "secret"
    row.save(update_fields=["text"])
    assert Legacy.objects.update(organization=organization) == 1
    assert stored(row, "data", "data_keys") == ("[1]", None)
    assert Legacy.objects.values_list("organization_id", "text", "data").get() == (organization.pk, "secret", [1])


# Inheritance.


@pytest.fixture
def wildcard(organization):
    ApiKey.objects.create(organization=organization, label="plain", secret="p")
    Certificate.objects.create(organization=organization, label="c", secret="x", chain="y")
    return WildcardCertificate.objects.create(organization=organization, label="w", secret="s", chain="c", pattern="p")


def certificates():
    rows = WildcardCertificate.objects.values_list("organization_id", "secret", "chain", "pattern")
    return [*rows, *ApiKey.objects.order_by("label").values_list("organization_id", "secret")]


@pytest.mark.parametrize("model", [ApiKey, ShortApiKey, Certificate, WildcardCertificate])
def test_values_of_inheriting_models_come_along(wildcard, organization, other_organization, model) -> None:
    rows = model.objects.filter(label="w")
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        assert rows.update(organization=other_organization) == 1
    assert certificates() == [
        (other_organization.pk, "s", "c", "p"),
        (organization.pk, "x"),
        (organization.pk, "p"),
        (other_organization.pk, "s"),
    ]
    assert model.objects.update(organization=F("organization"), label="w") == len(model.objects.all())
    assert model.objects.filter(organization=other_organization).update(organization=organization, secret="t") == 1
    assert certificates()[0] == (organization.pk, "t", "c", "p")


# What goes wrong.


def test_a_value_whose_key_does_not_open_stops_all(patients, organization, other_organization, execute) -> None:
    keys = """REPLACE(ssn_keys, '"keys":"', '"keys":"AAAA')"""
    execute(f"UPDATE testapp_patient SET ssn_keys = {keys} WHERE name = 'n3'")
    vaults["default"].purge()
    pk = patients.get(name="n3").pk
    with pytest.raises(VaultRefused, match=rf"testapp.Patient.ssn \(pk={pk}\)"):
        patients.update(organization=other_organization)
    assert set(Patient.objects.values_list("organization_id", flat=True)) == {organization.pk}
    with vaults["default"].fail_with(VaultUnavailable("down.", alias="default")), pytest.raises(VaultUnavailable):
        patients.filter(name="n1").update(organization=other_organization)
    assert patients.filter(name__lt="n3").update(organization=other_organization) == 3


def test_a_value_that_somebody_moved_is_not_taken_along_but_may_go_back(
    patients, organization, other_organization, move
) -> None:
    third = Organization.objects.create(workos_id="org_3")
    move(Patient, other_organization)
    with pytest.raises(KeyContextMismatch, match=r"testapp.Patient.ssn \(pk=\d+\)"):
        patients.update(organization=third)
    with assert_vault_calls(cold=True):
        assert patients.update(organization=organization) == 4
    assert contents(patients) == moved_to(organization)


@pytest.mark.parametrize("condition", ["simple", "joined"])
def test_what_others_write_between_the_look_and_the_lock_is_moved_as_it_is_then(
    patients, organization, other_organization, condition
) -> None:
    rows = patients if condition == "simple" else patients.filter(organization__workos_id="org_1")
    n0, n1, n3 = (patients.get(name=name) for name in ("n0", "n1", "n3"))

    def write() -> None:
        n0.ssn, n1.ssn, n3.ssn, n3.history = "gained", "new", None, None
        n3.notes = None
        for row in (n0, n1, n3):
            row.save(update_fields=["ssn", "history", "notes"])

    move = Meanwhile("UPDATE", write)
    with connection.execute_wrapper(move):
        assert rows.update(organization=other_organization) == 4
    assert not move.act
    assert [row[2] for row in contents(patients)] == ["gained", "new", None, None]
    assert set(Patient.objects.values_list("organization_id", flat=True)) == {other_organization.pk}


def test_a_row_that_somebody_takes_out_of_the_query_meanwhile_stays(patients, organization, other_organization) -> None:
    def leave() -> None:
        Patient.objects.filter(name="n1").update(name="left")

    rows = patients.filter(organization__workos_id="org_1", name__startswith="n")
    with connection.execute_wrapper(Meanwhile("UPDATE", leave)):
        assert rows.update(organization=other_organization) == 3
    assert Patient.objects.values_list("organization_id", "ssn").get(name="left") == (organization.pk, "s1")


def test_historical_models_take_values_along(patients, other_organization) -> None:
    historical = ProjectState.from_apps(apps).apps.get_model("testapp", "Patient")
    assert historical.objects.update(organization_id=other_organization.pk) == 4
    assert contents(patients) == moved_to(other_organization)


def test_more_rows_than_one_statement_writes(organization, other_organization) -> None:
    Patient.objects.bulk_create(Patient(organization=organization, ssn=f"{n}", history=None) for n in range(450))
    for rows, to in (
        (Patient.objects.all(), other_organization),
        (Patient.objects.filter(organization__workos_id="org_2"), organization),
    ):
        with assert_vault_calls(create=1, decrypt=1, cold=True):
            assert rows.update(organization=to) == 450
        assert {int(row.ssn) for row in Patient.objects.filter(organization=to)} == set(range(450))
