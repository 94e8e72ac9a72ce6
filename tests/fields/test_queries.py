"""Every way to select an encrypted column, and every way in which it must not be used."""

import pytest
from django.core.exceptions import FieldError
from django.db import NotSupportedError, connection, transaction
from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    Max,
    Min,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    TextField,
    Value,
    When,
    Window,
)
from django.db.models.functions import Cast, Coalesce, Concat, Length, Lower, Rank
from django.db.models.lookups import Exact

from tests.testapp.models import ApiKey, Certificate, Document, Letter, Organization, Patient, Token
from vault_fields.exceptions import KeyContextMismatch
from vault_fields.testing import assert_vault_calls

ROWS = 6


@pytest.fixture
def patients(organization, other_organization):
    """Six rows, each with a data key of its own, in two organizations; the last one has no value."""
    for number in range(ROWS):
        Patient.objects.create(
            organization=organization if number % 2 else other_organization,
            name=f"n{number}",
            ssn=f"ssn {number}" if number < ROWS - 1 else None,
            notes="note",
            history=[number],
        )
    return Patient.objects.order_by("name")


EXPECTED = [f"ssn {number}" for number in range(ROWS - 1)] + [None]


def test_a_list_of_rows_is_one_round_when_touched_and_nothing_before(patients) -> None:
    with assert_vault_calls(cold=True):
        rows = list(patients)
    with assert_vault_calls(decrypt=ROWS - 1):
        assert [row.ssn for row in rows] == EXPECTED
    with assert_vault_calls():
        assert [row.ssn for row in patients] == EXPECTED
    with assert_vault_calls(decrypt=1):
        assert [row.history for row in patients] == [[number] for number in range(ROWS)]


def test_rows_are_opened_in_one_batch(patients, monkeypatch) -> None:
    from vault_fields.vaults import vaults

    batches = []
    vault = vaults["default"]
    original = vault.decrypt_data_keys
    monkeypatch.setattr(vault, "decrypt_data_keys", lambda wanted: batches.append(len(wanted)) or original(wanted))
    for query in (
        lambda: [row.history for row in patients.all()],
        lambda: [row.history for row in patients.iterator(chunk_size=2)],
        lambda: list(patients.values_list("history")),
        lambda: [row.history for row in patients.only("history")],
        lambda: [row.history for row in patients.defer("name")],
        lambda: [row.history for row in Patient.objects.raw("SELECT * FROM testapp_patient")],
        lambda: [row.history for row in patients[:ROWS]],
        lambda: [row.history for row in patients.in_bulk().values()],
        lambda: [row.x for row in patients.annotate(x=F("history"))],
        lambda: [row.history for row in Patient.objects.filter(name="n0").union(Patient.objects.exclude(name="n0"))],
    ):
        vault.purge()
        batches.clear()
        assert len(query()) == ROWS
        assert batches == [ROWS]


def test_a_refused_key_does_not_stand_in_the_way_of_the_other_rows(patients, execute) -> None:
    keys = Patient.objects.values("notes_keys").get(name="n0")["notes_keys"]
    execute("UPDATE testapp_patient SET ssn_keys = %s WHERE name = 'n1'", keys)
    rows = list(patients)
    assert rows[0].ssn == "ssn 0"
    with pytest.raises(Exception, match=r"testapp.Patient.ssn \(pk="):
        rows[1].ssn  # noqa: B018
    assert [row.ssn for row in rows[2:]] == EXPECTED[2:]


@pytest.mark.parametrize(
    "select",
    [
        lambda patients: [row["ssn"] for row in patients.values("ssn")],
        lambda patients: [row["ssn"] for row in patients.values()],
        lambda patients: [row[0] for row in patients.values_list("ssn")],
        lambda patients: list(patients.values_list("ssn", flat=True)),
        lambda patients: [row.ssn for row in patients.values_list("ssn", "name", named=True)],
        lambda patients: [row.ssn for row in patients.only("ssn")],
        lambda patients: [row.ssn for row in patients.only("name")],
        lambda patients: [row.ssn for row in patients.defer("ssn")],
        lambda patients: [row.ssn for row in patients.defer("ssn_keys")],
        lambda patients: [row.ssn for row in patients.defer("organization")],
        lambda patients: [row.ssn for row in patients.iterator(chunk_size=2)],
        lambda patients: [row.value for row in patients.annotate(value=F("ssn"))],
        lambda patients: [row.ssn for row in patients.annotate(value=F("ssn"))],
        lambda patients: [row.ssn for row in patients.annotate(n=Count("organization"))],
        lambda patients: [row.ssn for row in patients.distinct()],
        lambda patients: [row.ssn for row in patients.select_related("organization")],
        lambda patients: [row.ssn for row in patients.select_related("organization").only("ssn", "organization__id")],
        lambda patients: [row.ssn for row in patients.select_for_update()],
        lambda patients: [row.ssn for row in patients.extra(select={"one": "1"})],
        lambda patients: [row.ssn for row in patients.alias(value=F("ssn"))],
        lambda patients: [
            row.ssn
            for row in patients.order_by()
            .filter(name="n0")
            .union(patients.order_by().exclude(name="n0"), all=True)
            .order_by("name")
        ],
        lambda patients: [
            row["ssn"] for row in patients[:1].union(patients[1:ROWS]).values("ssn", "name").order_by("name")
        ]
        if connection.vendor == "postgresql"
        else EXPECTED,
        lambda patients: [
            row.value
            for row in patients.annotate(
                value=Subquery(Patient.objects.filter(pk=OuterRef("pk")).values("ssn")[:1])
            )
        ],
        lambda patients: [row["ssn"] for row in patients.values("ssn", "name").annotate(n=Count("id"))],
        lambda patients: [row.ssn for row in Patient.objects.raw("SELECT * FROM testapp_patient ORDER BY name")],
        lambda patients: [
            row.ssn for row in Patient.objects.raw("SELECT id, name, ssn, ssn_keys FROM testapp_patient ORDER BY name")
        ],
        lambda patients: [
            row.ssn for row in Patient.objects.raw("SELECT id, name, ssn FROM testapp_patient ORDER BY name")
        ],
        lambda patients: sorted(
            (row.ssn for organization in Organization.objects.prefetch_related("patients")
             for row in organization.patients.all()),
            key=lambda ssn: (ssn is None, ssn),
        ),
        lambda patients: sorted(
            (row.ssn for organization in Organization.objects.prefetch_related(
                Prefetch("patients", Patient.objects.only("ssn", "organization"), to_attr="loaded"))
             for row in organization.loaded),
            key=lambda ssn: (ssn is None, ssn),
        ),
        lambda patients: list(
            Organization.objects.order_by("patients__name").values_list("patients__ssn", flat=True)
        ),
    ],
)  # fmt: skip
@pytest.mark.django_db
def test_every_way_to_select_gives_plaintext(patients, select) -> None:
    assert select(patients) == EXPECTED


def test_what_can_be_asked_of_the_column(patients) -> None:
    assert patients.filter(ssn__isnull=True).count() == 1
    assert patients.filter(ssn__isnull=False).count() == ROWS - 1
    assert patients.filter(ssn=None).count() == 1
    assert patients.exclude(ssn=None).count() == ROWS - 1
    assert patients.filter(Q(ssn=None) | Q(name="n0")).count() == 2
    assert patients.filter(history=None).count() == 0
    assert Organization.objects.filter(patients__ssn__isnull=True).count() == 1
    assert patients.alias(value=F("ssn")).filter(value__isnull=True).count() == 1
    assert patients.aggregate(n=Count("ssn")) == {"n": ROWS - 1}
    assert Organization.objects.annotate(n=Count("patients__ssn")).order_by("pk").values_list("n", flat=True)[0] == 2
    assert patients.filter(ssn=None).exists()
    assert patients.filter(ssn__isnull=True).update(name="x") == 1
    assert Patient.objects.filter(ssn=None).delete()[0] == 1


@pytest.mark.parametrize(
    "misuse",
    [
        lambda q: q.filter(ssn="x"),
        lambda q: q.filter(ssn__in=["x"]),
        lambda q: q.filter(ssn__iexact="x"),
        lambda q: q.filter(ssn__contains="x"),
        lambda q: q.filter(ssn__gt="x"),
        lambda q: q.filter(ssn__regex="x"),
        lambda q: q.filter(history__key="x"),
        lambda q: q.filter(history__key__other="x"),
        lambda q: q.filter(history__has_key="x"),
        lambda q: q.filter(history=[1]),
        lambda q: q.exclude(ssn="x"),
        lambda q: q.filter(~Q(ssn="x")),
        lambda q: q.filter(name=F("ssn")),
        lambda q: q.filter(ssn=F("name")),
        lambda q: q.order_by("ssn"),
        lambda q: q.order_by("-ssn"),
        lambda q: q.order_by(F("ssn").desc()),
        lambda q: q.order_by(Lower("ssn")),
        lambda q: q.annotate(value=F("ssn")).order_by("value"),
        lambda q: q.values("ssn").order_by("ssn"),
        lambda q: q.values_list("ssn", flat=True).order_by("-ssn"),
        lambda q: q.annotate(value=Lower("ssn")),
        lambda q: q.annotate(value=Length("ssn")),
        lambda q: q.annotate(value=Coalesce("ssn", Value(""), output_field=TextField())),
        lambda q: q.annotate(value=Concat("ssn", Value(""), output_field=TextField())),
        lambda q: q.annotate(value=Cast("ssn", CharField(max_length=9))),
        lambda q: q.annotate(value=Case(When(name="x", then=F("ssn")), output_field=TextField())),
        lambda q: q.annotate(value=Case(When(ssn="x", then=Value(1)))),
        lambda q: q.annotate(value=F("ssn")).annotate(other=Lower("value")),
        lambda q: q.annotate(value=Window(Rank(), order_by=F("ssn").asc())),
        lambda q: q.annotate(value=ExpressionWrapper(F("ssn"), output_field=TextField())),
        lambda q: q.filter(Exact(F("ssn"), Value("x"))),
        lambda q: q.filter(Exists(Patient.objects.filter(name=OuterRef("ssn")))),
        lambda q: q.values("organization").annotate(value=Max("ssn")),
        lambda q: q.annotate(n=Count("ssn", distinct=True)),
        lambda q: q.values("ssn").annotate(n=Count("id")).order_by("ssn"),
    ],
)
def test_every_other_use_is_refused(patients, misuse) -> None:
    with pytest.raises(FieldError, match=r"testapp.Patient.(ssn|history)"), transaction.atomic():
        list(misuse(Patient.objects.all()))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: Patient.objects.aggregate(Max("ssn")),
        lambda: Patient.objects.distinct().aggregate(Min("ssn")),
        lambda: Patient.objects.filter(ssn="x").delete(),
        lambda: Patient.objects.filter(name=F("ssn")).delete(),
        lambda: Patient.objects.filter(name=F("ssn")).update(name="x"),
        lambda: Patient.objects.filter(ssn="x").exists(),
        lambda: Patient.objects.earliest("ssn"),
        lambda: Organization.objects.filter(patients__ssn="x").count(),
        lambda: list(Organization.objects.order_by("patients__ssn")),
    ],
)
def test_every_other_use_is_refused_at_once(patients, misuse) -> None:
    with pytest.raises(FieldError, match="testapp.Patient.ssn"), transaction.atomic():
        misuse()


def test_other_databases_are_refused(patients, monkeypatch) -> None:
    monkeypatch.setattr(connection, "vendor", "oracle")
    with pytest.raises(NotSupportedError, match="testapp.Patient.ssn can be read on SQLite, .*not on oracle"):
        list(Patient.objects.values_list("ssn"))


def test_distinct_on_is_refused(patients) -> None:
    if connection.vendor != "postgresql":
        with pytest.raises(Exception, match="DISTINCT ON"):
            list(Patient.objects.distinct("ssn"))
        return
    with pytest.raises(FieldError, match="testapp.Patient.ssn"):
        list(Patient.objects.distinct("ssn"))
    assert len(Patient.objects.order_by("name").distinct("name").values("ssn", "name")) == ROWS


@pytest.mark.parametrize(
    "read",
    [
        lambda: Patient.objects.get(name="n0").ssn,
        lambda: Patient.objects.only("ssn").get(name="n0").ssn,
        lambda: Patient.objects.only("name").get(name="n0").ssn,
        lambda: Patient.objects.values_list("ssn").get(name="n0"),
        lambda: Patient.objects.annotate(value=F("ssn")).get(name="n0").value,
        lambda: Patient.objects.raw("SELECT * FROM testapp_patient WHERE name = 'n0'")[0].ssn,
        lambda: next(Patient.objects.filter(name="n0").iterator()).ssn,
        lambda: Organization.objects.values_list("patients__ssn").get(patients__name="n0"),
    ],
)
def test_a_value_pasted_into_another_tenants_row_is_refused_on_every_path(patients, execute, read) -> None:
    text, keys = Patient.objects.raw("SELECT * FROM testapp_patient WHERE name = 'n1'")[0].__dict__["ssn"].text, None
    keys = Patient.objects.get(name="n1").ssn_keys
    execute("UPDATE testapp_patient SET ssn = %s, ssn_keys = %s WHERE name = 'n0'", text, keys)
    with pytest.raises(KeyContextMismatch, match="testapp.Patient.ssn"):
        read()


def test_a_value_pasted_into_another_column_does_not_open(patients, execute) -> None:
    execute("UPDATE testapp_patient SET notes = ssn, notes_keys = ssn_keys WHERE name = 'n0'")
    with pytest.raises(Exception, match=r"testapp.Patient.notes \(pk=\d+\): the value does not open"):
        Patient.objects.get(name="n0").notes  # noqa: B018


def test_a_bound_value_pasted_into_another_row_does_not_open(db, execute) -> None:
    import uuid

    tenant = uuid.uuid4()
    first = Token.objects.create(tenant=tenant, secret="first")
    second = Token.objects.create(tenant=tenant, secret="second")
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret, secret_keys FROM testapp_token")
        text, keys = next(row for row in cursor.fetchall() if row[1] == first.secret_keys)
    execute(
        "UPDATE testapp_token SET secret = %s, secret_keys = %s WHERE id = %s",
        text, keys, Token._meta.pk.get_db_prep_value(second.pk, connection),
    )  # fmt: skip
    for read in (
        lambda: Token.objects.get(pk=second.pk).secret,
        lambda: Token.objects.values_list("secret").get(pk=second.pk),
        lambda: Token.objects.only("secret").get(pk=second.pk).secret,
    ):
        with pytest.raises(Exception, match="does not open with its data key"):
            read()
    assert Token.objects.get(pk=first.pk).secret == "first"


def test_an_older_value_and_one_of_another_row_of_the_tenant_open_with_their_companions(
    patients, execute, stored
) -> None:
    """What a column without ``bind_to`` cannot notice, as the pages say."""
    row, sibling = patients[0], patients[2]
    older = stored(row, "ssn", "ssn_keys")
    row.ssn = "newer"
    row.save()
    put_back = "UPDATE testapp_patient SET ssn = %s, ssn_keys = %s WHERE name = %s"

    execute(put_back, *older, "n0")
    assert Patient.objects.get(name="n0").ssn == "ssn 0"
    execute(put_back, *older, "n2")
    assert Patient.objects.get(pk=sibling.pk).ssn == "ssn 0"


def test_an_attribute_changed_in_memory_is_not_a_mismatch_for_raw_queries(patients, other_organization) -> None:
    row = Patient.objects.raw("SELECT * FROM testapp_patient WHERE name = 'n1'")[0]
    row.organization = other_organization
    assert row.ssn == "ssn 1"


def test_what_raw_sql_calls_a_column_is_taken_for_it(patients, execute) -> None:
    """As the page says: a query can say that a pasted value stands where it stood."""
    row = Patient.objects.get(name="n1")
    text, keys = row.__dict__["ssn"].text, row.ssn_keys
    execute("UPDATE testapp_patient SET ssn = %s, ssn_keys = %s WHERE name = 'n0'", text, keys)
    selected = "SELECT id, ssn, ssn_keys, %s AS organization_id FROM testapp_patient WHERE name = 'n0'"
    here, there = (Patient.objects.get(name=name).organization_id for name in ("n0", "n1"))
    with pytest.raises(KeyContextMismatch, match="testapp.Patient.ssn"):
        Patient.objects.raw(selected, [here])[0].ssn  # noqa: B018
    assert Patient.objects.raw(selected, [there])[0].ssn == "ssn 1"


def test_deferred_columns_cost_one_query_for_each_row_and_no_more(patients, django_assert_num_queries) -> None:
    (row, *_) = Patient.objects.only("ssn").order_by("pk")
    with django_assert_num_queries(0):
        assert row.ssn == "ssn 0"


def test_the_column_of_a_parent_model_is_read_along(organization, other_organization, move) -> None:
    for number in range(3):
        Certificate.objects.create(
            organization=organization, secret=f"s{number}", chain=f"c{number}", label=str(number)
        )
    certificates = Certificate.objects.order_by("label")
    expected = [("s0", "c0"), ("s1", "c1"), ("s2", "c2")]
    assert [(row.secret, row.chain) for row in certificates] == expected
    assert [(row.secret, row.chain) for row in certificates.only("secret", "chain")] == expected
    assert list(certificates.values_list("secret", "chain")) == expected
    assert [(row.x, row.y) for row in certificates.annotate(x=F("secret"), y=F("chain"))] == expected
    move(ApiKey, other_organization, Certificate.objects.get(label="1").pk)
    with pytest.raises(KeyContextMismatch, match="Certificate.chain"):
        certificates.values_list("chain").get(label="1")
    with pytest.raises(KeyContextMismatch, match="Certificate.chain"):
        certificates.get(label="1").chain  # noqa: B018


def test_grouping_and_counting_work_beside_encrypted_columns(patients) -> None:
    rows = patients.values("organization").annotate(n=Count("ssn")).order_by("n")
    assert [row["n"] for row in rows] == [2, 3]
    assert Patient.objects.annotate(n=Count("organization__patients")).get(name="n0").ssn == "ssn 0"


def test_documents_and_letters_select_along_what_they_need(organization) -> None:
    Document.objects.create(organization=organization, body="b")
    Letter.objects.create(organization=organization, subject="s", text=[1])
    assert Document.objects.values_list("body", flat=True).get() == "b"
    assert Document.objects.select_related("organization").get().body == "b"
    assert Letter.objects.values_list("text", "subject").get() == ([1], "s")
    assert Letter.objects.only("text").get().text == [1]
