"""Where an encrypted column may stand in a query: what is read gives plaintext, and everything else is refused."""

import json

import django
import pytest
from django.core.exceptions import FieldError
from django.db import connection, transaction
from django.db.models import (
    Aggregate,
    Case,
    CharField,
    Count,
    Exists,
    Expression,
    ExpressionWrapper,
    F,
    FilteredRelation,
    Func,
    JSONField,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    TextField,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, JSONObject, Length, Lower, RowNumber
from django.db.models.lookups import IsNull

from tests.testapp.models import Certificate, Letter, Organization, Patient
from vault_fields.testing import assert_vault_calls

ROWS = 4
ALL = ["ssn 0", "ssn 1", "ssn 2", None]


@pytest.fixture
def patients(organization, other_organization):
    """Four rows in two organizations, the last without a value."""
    for number in range(ROWS):
        Patient.objects.create(
            organization=organization if number % 2 else other_organization,
            name=f"n{number}",
            ssn=ALL[number],
            history=[number],
        )
    return Patient.objects.order_by("name")


def ssns(rows):
    return [row.ssn for row in rows]


def rank():
    return Window(RowNumber(), order_by=F("name").asc())


def first_ssn():
    return Subquery(Patient.objects.filter(organization=OuterRef("pk")).order_by("name").values("ssn")[:1])


class Lazy(Value):
    """A value that is found out while the statement is compiled, as lazy objects are."""

    def __init__(self):
        super().__init__("", output_field=CharField())

    def as_sql(self, compiler, connection):
        return "%s", [Patient.objects.values_list("ssn", flat=True).get(name="n0")]


READS = {
    "a rank": lambda q: ssns(q.annotate(r=rank()).filter(r__lte=4)),
    "a rank that is not selected": lambda q: ssns(q.alias(r=rank()).filter(r__lte=4)),
    "a rank beside values()": lambda q: [row["ssn"] for row in q.values("ssn").alias(r=rank()).filter(r__lte=4)],
    "a rank beside an annotation": lambda q: [row.x for row in q.annotate(x=F("ssn"), r=rank()).filter(r__lte=4)],
    "a rank beside only()": lambda q: ssns(q.only("ssn").annotate(r=rank()).filter(r__lte=4)),
    "a rank or NULL": lambda q: ssns(q.annotate(r=rank()).filter(Q(r__lte=3) | Q(ssn=None))),
    "a rank or NULL of an annotation": lambda q: [
        row.x for row in q.annotate(x=F("ssn"), r=rank()).filter(Q(r__lte=3) | Q(x__isnull=True))
    ],
    "a rank in a condition that stays": lambda q: ssns(q.annotate(r=rank()).filter(r__lte=4, name__startswith="n")),
    "a sliced prefetch": lambda q: sorted(
        (
            row.ssn
            for organization in Organization.objects.prefetch_related(Prefetch("patients", q[:2], to_attr="some"))
            for row in organization.some
        ),
        key=lambda ssn: (ssn is None, ssn),
    ),
    "a sliced prefetch of one column": lambda q: sorted(
        (
            row.ssn
            for organization in Organization.objects.prefetch_related(
                Prefetch("patients", q.only("organization", "ssn")[:2], to_attr="some")
            )
            for row in organization.some
        ),
        key=lambda ssn: (ssn is None, ssn),
    ),
    "a combined condition on another column": lambda q: ssns(
        q.annotate(b=Q(name__gt="a") | Q(name="")).filter(b=True)
    ),
    "a condition on another column, not filtered": lambda q: ssns(q.annotate(b=Q(name__gt="a") & ~Q(name="x"))),
    "a combined condition on NULL": lambda q: ssns(q.annotate(b=Q(ssn=None) | Q(name__gt="a")).filter(b=True)),
    "an order by NULL": lambda q: ssns(q.order_by(IsNull(F("ssn"), True), "name")),
    "an order by NULL in CASE": lambda q: ssns(q.order_by(Case(When(ssn__isnull=True, then=1), default=0), "name")),
    "a condition on another row": lambda q: ssns(
        q.filter(Exists(Patient.objects.filter(pk=OuterRef("pk")).values("ssn")))
    ),
    "a condition on the rows of a relation": lambda q: ssns(
        q.filter(organization__in=Organization.objects.filter(patients__ssn__isnull=False))
    ),
    "FilteredRelation": lambda q: ssns(
        q.annotate(others=FilteredRelation("organization__patients", condition=Q(organization__patients__ssn=None)))
        .filter(Q(others__pk=None) | Q(others__name="n3"))
        .distinct()
    ),
    "DISTINCT with the primary key": lambda q: [row["ssn"] for row in q.values("pk", "ssn", "name").distinct()],
    "DISTINCT of rows": lambda q: ssns(q.filter(organization__patients__name__gt="a").distinct()),
    "grouping by an annotation": lambda q: [
        row["x"] for row in q.annotate(x=F("ssn")).values("x", "name").annotate(n=Count("pk")).order_by("name")
    ],
    "grouping beside an annotation": lambda q: [
        row.x for row in q.annotate(x=F("ssn")).annotate(n=Count("organization__patients"))
    ],
    "an aggregate in HAVING": lambda q: ssns(
        q.annotate(c=Count("organization__patients__ssn")).filter(c__gt=0)
    ),
    "a query as an annotation": lambda q: [
        row.x for row in q.annotate(x=Patient.objects.filter(pk=OuterRef("pk")).values("ssn")[:1])
    ],
    "a subquery in a subquery": lambda q: [
        row.x
        for row in q.annotate(
            x=Subquery(
                Patient.objects.filter(pk=OuterRef("pk"))
                .annotate(y=Subquery(Patient.objects.filter(pk=OuterRef("pk")).values("ssn")[:1]))
                .values("y")[:1]
            )
        )
    ],
    "a subquery of an annotation": lambda q: [
        row.x
        for row in q.annotate(x=Subquery(Patient.objects.filter(pk=OuterRef("pk")).annotate(y=F("ssn")).values("y")))
    ],
    "UNION of rows": lambda q: ssns(
        Patient.objects.filter(name="n0").union(Patient.objects.exclude(name="n0")).order_by("name")
    ),
    "UNION of values": lambda q: [
        row["ssn"]
        for row in Patient.objects.filter(name="n0")
        .values("name", "ssn")
        .union(Patient.objects.exclude(name="n0").values("name", "ssn"), all=True)
        .order_by("name")
    ],
    "INTERSECT": lambda q: ssns(Patient.objects.intersection(Patient.objects.exclude(name="")).order_by("name")),
    "EXCEPT": lambda q: ssns(Patient.objects.difference(Patient.objects.filter(name="")).order_by("name")),
}  # fmt: skip


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_is_not_asked_of_the_column_does_not_stand_in_the_way(patients, read) -> None:
    assert read(patients) == ALL


def test_a_value_may_read_rows_while_another_query_is_compiled(patients) -> None:
    assert ssns(patients.exclude(name=Lazy())) == ALL


def test_window_functions_may_count_values(patients) -> None:
    assert {row.n for row in patients.annotate(n=Window(Count("ssn")))} == {3}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (lambda o: o.annotate(c=Count("patients__ssn")).filter(c__gt=1), 1),
        (lambda o: o.annotate(c=Count("patients__ssn") + 1).filter(c__gt=2), 1),
        (lambda o: o.alias(c=Count("patients__ssn")).filter(c__lt=2), 1),
        (lambda o: o.filter(Exists(Patient.objects.filter(organization=OuterRef("pk")).values("ssn").distinct())), 2),
        (lambda o: o.annotate(c=Case(When(region="eu", then=Count("patients__ssn")), default=0)).filter(c__gt=1), 1),
        (lambda o: o.annotate(c=Count("patients__ssn", filter=Q(patients__name="n0"))).filter(c=1), 1),
        (lambda o: o.annotate(c=Count(Case(When(patients__name="n0", then="patients__ssn")))).filter(c=1), 1),
        (lambda o: o.annotate(c=Sum("patients__pk", filter=Q(patients__ssn=None))).exclude(c=None), 1),
        (lambda o: o.annotate(l=first_ssn()).filter(l__isnull=False), 2),
        (lambda o: o.annotate(l=first_ssn()).filter(l=None), 0),
        (lambda o: o.annotate(c=Count("patients__ssn")).order_by("c"), 2),
        (lambda o: o.filter(patients__ssn__isnull=False).annotate(r=Window(RowNumber())).filter(r=1), 1),
        (lambda o: o.filter(pk__in=Patient.objects.filter(ssn=None).values("organization")), 1),
    ],
)
def test_counting_values_and_asking_for_null_work_wherever_they_stand(patients, count, expected) -> None:
    assert len(count(Organization.objects.all())) == expected


def test_counting_over_distinct_rows_and_annotations(patients) -> None:
    assert patients.distinct().aggregate(n=Count("ssn")) == {"n": 3}
    assert patients.annotate(x=F("ssn")).aggregate(n=Count("x")) == {"n": 3}
    assert Organization.objects.annotate(l=first_ssn()).aggregate(n=Count("l")) == {"n": 2}
    assert patients.values("ssn").count() == ROWS
    assert patients.annotate(x=F("ssn")).exists()


def test_a_subquery_may_rank_rows(patients) -> None:
    if connection.vendor == "mysql":
        pytest.skip("a derived table of MariaDB does not see the outer row")
    ranked = Patient.objects.filter(pk=OuterRef("pk")).annotate(r=rank()).filter(r=1).values("ssn")[:1]
    assert [row.x for row in patients.annotate(x=Subquery(ranked))] == ALL


def test_a_subquery_gives_plaintext_in_one_round(patients) -> None:
    with assert_vault_calls(cold=True, decrypt=2):
        assert sorted(Organization.objects.annotate(l=first_ssn()).values_list("l", flat=True)) == ["ssn 0", "ssn 1"]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_query_may_be_compiled_as_often_as_one_likes(patients, read, monkeypatch) -> None:
    from django.db.models.sql.compiler import SQLCompiler

    execute = SQLCompiler.execute_sql

    def compile_twice(self, *args, **kwargs):
        # As the caches of queries and profilers do.
        assert self.as_sql() == self.as_sql()
        return execute(self, *args, **kwargs)

    monkeypatch.setattr(SQLCompiler, "execute_sql", compile_twice)
    assert read(patients) == ALL


class Concatenated(Subquery):
    template = "(SELECT MAX(x.ssn) FROM (%(subquery)s) x)"


class Peeking(Func):
    """Compiles behind the compiler's back."""

    def as_sql(self, compiler, connection):
        return self.source_expressions[0].as_sql(compiler, connection)


class Named(Expression):
    """Names a column in a way of its own, as packages for common table expressions do."""

    def as_sql(self, compiler, connection):
        return "ssn", ()


def named():
    return Named(output_field=Patient._meta.get_field("ssn"))


def text(query):
    return query.annotate(x=Peeking("ssn", output_field=TextField()))


REFUSED = {
    "order by a subquery": lambda o, q: o.annotate(l=first_ssn()).order_by("l"),
    "order by a subquery itself": lambda o, q: o.order_by(first_ssn()),
    "order by a subquery, downwards": lambda o, q: o.annotate(l=first_ssn()).order_by(F("l").desc(nulls_last=True)),
    "order by what is not selected": lambda o, q: o.alias(l=first_ssn()).order_by("l"),
    "equal to a subquery": lambda o, q: o.annotate(l=first_ssn()).filter(region=F("l")),
    "equal to a subquery that is not selected": lambda o, q: o.alias(l=first_ssn()).filter(region=F("l")),
    "equal to a sliced query": lambda o, q: o.filter(region=Patient.objects.values("ssn")[:1]),
    "a subquery compared": lambda o, q: o.annotate(l=first_ssn()).filter(l="x"),
    "a subquery longer than": lambda o, q: o.annotate(l=first_ssn()).filter(l__gt="x"),
    "in a query": lambda o, q: o.filter(region__in=Patient.objects.values("ssn")),
    "not in a query": lambda o, q: o.exclude(region__in=Patient.objects.values_list("ssn", flat=True)),
    "in a query of an annotation": lambda o, q: o.filter(
        region__in=Patient.objects.annotate(x=F("ssn")).values("x")
    ),
    "length of a subquery": lambda o, q: o.annotate(l=Length(first_ssn())),
    "length of an annotated subquery": lambda o, q: o.annotate(l=first_ssn(), n=Length("l")),
    "a subquery of another type": lambda o, q: o.annotate(
        l=Subquery(Patient.objects.values("ssn")[:1], output_field=TextField())
    ),
    "a subquery with a template": lambda o, q: o.annotate(
        l=Concatenated(Patient.objects.filter(organization=OuterRef("pk")).values("ssn"))
    ),
    "a subquery with an extra template": lambda o, q: o.annotate(
        l=Subquery(Patient.objects.values("ssn")[:1], template="LOWER(%(subquery)s)")
    ),
    "a subquery, wrapped": lambda o, q: o.annotate(l=ExpressionWrapper(first_ssn(), output_field=TextField())),
    "a subquery or something else": lambda o, q: o.annotate(
        l=Coalesce(first_ssn(), Value(""), output_field=TextField())
    ),
    "a computed subquery": lambda o, q: o.annotate(
        l=Subquery(Patient.objects.annotate(x=Lower("ssn", output_field=TextField())).values("x")[:1])
    ),
    "grouped by computing": lambda o, q: o.values(x=Lower("patients__ssn")).annotate(n=Count("pk")),
    "in a window's partition": lambda o, q: q.annotate(r=Window(RowNumber(), partition_by=F("ssn"))),
    "in a window's order": lambda o, q: q.annotate(r=Window(RowNumber(), order_by="ssn")).filter(r=1),
    "in a window": lambda o, q: q.annotate(r=Window(Max("ssn"))),
    "in a JSON object": lambda o, q: q.annotate(x=JSONObject(ssn="ssn")),
    "in a JSON object of a subquery": lambda o, q: o.annotate(x=JSONObject(ssn=first_ssn())),
    "a subquery of JSON objects": lambda o, q: o.annotate(
        x=Subquery(Patient.objects.annotate(y=JSONObject(ssn="ssn")).values("y")[:1])
    ),
    "in an aggregate of one's own": lambda o, q: q.values("organization").annotate(
        x=Aggregate("ssn", function="GROUP_CONCAT", output_field=TextField())
    ),
    "maximum of a subquery": lambda o, q: o.annotate(l=first_ssn()).values("region").annotate(m=Max("l")),
    "in the condition of an aggregate": lambda o, q: q.aggregate(n=Count("pk", filter=Q(name=F("ssn")))),
    "in the condition of a CASE": lambda o, q: q.annotate(x=Case(When(name=F("ssn"), then=1))),
    "in a combined condition": lambda o, q: q.annotate(b=Q(name="x") | Q(name=F("ssn"))),
    "in a combined condition, filtered": lambda o, q: q.annotate(b=Q(name="x") | Q(name=F("ssn"))).filter(b=True),
    "in HAVING": lambda o, q: o.annotate(c=Max("patients__ssn")).filter(c__isnull=False),
    "beside a rank": lambda o, q: q.annotate(r=rank()).filter(Q(r=1) | Q(name=F("ssn"))),
    "ordering by a rank's neighbour": lambda o, q: q.annotate(r=rank()).filter(r=1).order_by("ssn"),
    "ordering by an annotation beside a rank": lambda o, q: q.annotate(x=F("ssn"), r=rank())
    .filter(r=1)
    .order_by("x"),
    "in the condition of a join": lambda o, q: o.annotate(
        p=FilteredRelation("patients", condition=Q(patients__name=F("patients__ssn")))
    ).filter(p__pk__gt=0),
    "compared with an outer row": lambda o, q: q.annotate(x=Exists(Patient.objects.filter(name=OuterRef("ssn")))),
    "selected from an outer row": lambda o, q: q.annotate(
        x=Subquery(Organization.objects.annotate(y=OuterRef("ssn")).values("y")[:1])
    ).order_by("x"),
    "DISTINCT": lambda o, q: q.order_by().values("ssn").distinct(),
    "DISTINCT of a list": lambda o, q: q.order_by().values_list("ssn", flat=True).distinct(),
    "DISTINCT of an annotation": lambda o, q: q.order_by().annotate(x=F("ssn")).values("x").distinct(),
    "DISTINCT over a relation": lambda o, q: o.values("pk", "patients__ssn").distinct(),
    "DISTINCT of a subquery": lambda o, q: o.annotate(l=first_ssn()).values("l").distinct(),
    "UNION with another column": lambda o, q: Patient.objects.values("ssn").union(Patient.objects.values("name")),
    "UNION of another column with it": lambda o, q: Patient.objects.values("name").union(
        Patient.objects.values("ssn")
    ),
    "UNION of two encrypted columns": lambda o, q: Patient.objects.values("ssn").union(
        Patient.objects.values("notes")
    ),
    "UNION with the third": lambda o, q: Patient.objects.values("name").union(
        Patient.objects.values("name"), Patient.objects.values("ssn")
    ),
    "UNION of two models": lambda o, q: Patient.objects.values("ssn").union(Letter.objects.values("subject")),
    "UNION of rows with values": lambda o, q: Patient.objects.order_by().union(
        Patient.objects.order_by().values_list(*[field.attname for field in Patient._meta.concrete_fields])
    ),
    "UNION that is ordered": lambda o, q: Patient.objects.values("ssn")
    .union(Patient.objects.values("ssn"))
    .order_by("ssn"),
    "UNION in a condition": lambda o, q: o.filter(
        region__in=Patient.objects.values("ssn").union(Patient.objects.values("ssn"))
    ),
    "EXCEPT with another column": lambda o, q: Patient.objects.values("name").difference(
        Patient.objects.values("ssn")
    ),
    "extra(order_by)": lambda o, q: q.extra(order_by=["ssn"]),
    "compared by an expression of a package": lambda o, q: q.filter(name=named()),
    "ordered by an expression of a package": lambda o, q: q.order_by(named()),
    "read by an expression of a package": lambda o, q: q.annotate(x=named()).values("x"),
    "compared by SQL": lambda o, q: q.filter(name=RawSQL("ssn", (), Patient._meta.get_field("ssn"))),
    "behind the compiler's back": lambda o, q: text(q),
    "behind the compiler's back, in a condition": lambda o, q: text(q).filter(x="x"),
}  # fmt: skip


@pytest.mark.parametrize("misuse", REFUSED.values(), ids=REFUSED)
def test_wherever_it_would_be_compared_or_computed_with_it_is_refused(patients, misuse) -> None:
    label = r"testapp\.(Patient\.(ssn|notes)|Letter\.subject) is encrypted"
    with pytest.raises(FieldError, match=label), transaction.atomic():
        list(misuse(Organization.objects.order_by(), Patient.objects.order_by()))


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (lambda: Organization.objects.update(region=first_ssn()), "use in an update"),
        (lambda: Organization.objects.update(region=Length(first_ssn())), "use in an update"),
        (lambda: Organization.objects.filter(region=first_ssn()).delete(), "conditions"),
        (lambda: Organization.objects.filter(region=first_ssn())._raw_delete("default"), "use in an update"),
        (lambda: Organization.objects.filter(region=first_ssn()).update(region="x"), "use in an update"),
        (lambda: Organization.objects.create(workos_id="x", region=first_ssn()), "use in an update"),
        (lambda: Organization.objects.annotate(l=first_ssn()).aggregate(m=Max("l")), r"use in Max\(\)"),
        (lambda: Organization.objects.annotate(l=first_ssn()).aggregate(m=Count("l", distinct=True)), "use in Count"),
        (lambda: Patient.objects.distinct().aggregate(m=Max(Length("ssn"))), r"use in Max\(\)"),
        (lambda: Patient.objects.distinct().aggregate(m=Count("ssn", distinct=True)), r"use in Count\(\)"),
        (lambda: Patient.objects.values("ssn").distinct().count(), "DISTINCT without the primary key"),
        (lambda: Organization.objects.annotate(l=first_ssn()).latest("l"), "ordering"),
        (lambda: list(Organization.objects.annotate(l=Length(first_ssn()))), r"use in Length\(\)"),
        (lambda: list(Patient.objects.annotate(x=F("ssn")).order_by("x")), "ordering"),
        (lambda: list(Organization.objects.filter(region=first_ssn())), "conditions, ordering or DISTINCT ON"),
    ],
)
@pytest.mark.django_db
def test_the_error_names_what_was_asked(misuse, words) -> None:
    with pytest.raises(FieldError, match=f"testapp.Patient.ssn is encrypted and does not support {words}"):
        misuse()


def test_distinct_on_an_annotation_is_refused(patients) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("DISTINCT ON is PostgreSQL's")
    for query in (
        Patient.objects.annotate(x=F("ssn")).distinct("x"),
        Organization.objects.annotate(l=first_ssn()).distinct("l"),
    ):
        with pytest.raises(FieldError, match="Patient.ssn is encrypted and does not support .*DISTINCT ON"):
            list(query)


def test_postgres_aggregates_and_arrays_are_refused(patients) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("the expressions are PostgreSQL's")
    from django.contrib.postgres.aggregates import ArrayAgg, JSONBAgg
    from django.contrib.postgres.expressions import ArraySubquery

    if django.VERSION < (6, 0):
        from django.contrib.postgres.aggregates import StringAgg
    else:
        from django.db.models import StringAgg
    rows = Patient.objects.filter(organization=OuterRef("pk"))
    for expression in (
        ArraySubquery(rows.values("ssn")),
        ArraySubquery(rows.annotate(x=F("ssn")).values("x")),
        ArraySubquery(rows.values(x=JSONObject(ssn="ssn"))),
        ArrayAgg("patients__ssn"),
        ArrayAgg("patients__name", order_by="patients__ssn"),
        JSONBAgg("patients__ssn"),
        StringAgg("patients__ssn", Value(",")),
        Func("patients__ssn", function="to_json", output_field=JSONField()),
    ):
        with pytest.raises(FieldError, match="testapp.Patient.ssn is encrypted"):
            list(Organization.objects.annotate(x=expression))


def test_rows_of_inherited_tables_are_told_apart(organization) -> None:
    for number in range(2):
        Certificate.objects.create(organization=organization, secret="same", chain="same", label=str(number))
    certificates = Certificate.objects.order_by("label")
    assert [(row.secret, row.chain) for row in certificates.distinct()] == [("same", "same")] * 2
    assert list(certificates.values_list("secret", "label", "pk").distinct()) == [
        ("same", str(number), certificates[number].pk) for number in range(2)
    ]
    assert len(certificates.filter(organization__patients=None).only("chain").distinct()) == 2


def test_values_beside_a_rank_are_read_with_what_opens_them(patients) -> None:
    query = patients.annotate(r=rank()).filter(r__lte=2)
    assert list(query.values_list("name", "ssn", "r")) == [("n0", "ssn 0", 1), ("n1", "ssn 1", 2)]
    with assert_vault_calls(cold=True, decrypt=2):
        assert ssns(query) == ALL[:2]
    assert json.loads(json.dumps(list(query.values_list("history", flat=True)))) == [[0], [1]]


def test_a_trace_ends_with_the_statement(patients) -> None:
    with pytest.raises(FieldError, match=r"Patient.ssn"):
        list(Organization.objects.filter(region__in=Patient.objects.values("ssn")))
    assert list(patients.none()) == []
    assert ssns(patients.filter(Q(pk__in=[]) | Q(name="n0"))) == ["ssn 0"]
    assert ssns(patients) == ALL
