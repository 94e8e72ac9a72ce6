"""What the database is asked to do with typed values: found by equality where there is an index, refused otherwise."""

import datetime as dt
from decimal import Decimal

import pytest
from django.core.exceptions import FieldError
from django.db import NotSupportedError
from django.db.models import (
    Avg,
    Case,
    CharField,
    Count,
    DecimalField,
    Exists,
    ExpressionWrapper,
    F,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Q,
    StdDev,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.functions import (
    Abs,
    Cast,
    Coalesce,
    Concat,
    ExtractYear,
    Greatest,
    Length,
    Lower,
    Now,
    Rank,
    Round,
    TruncDate,
    TruncMonth,
    Upper,
)

from tests.testapp.models import Reading, Typed
from tests.types.kinds import DAY, KINDS

pytestmark = pytest.mark.django_db

each_name = pytest.mark.parametrize("name", KINDS)


@pytest.fixture
def row(organization):
    return Typed.objects.create(
        organization=organization, **{name: kind.values[-1] for name, kind in KINDS.items() if name != "duration"}
    )


REFUSED = {
    "sum": lambda name: {"x": Sum(name)},
    "average": lambda name: {"x": Avg(name)},
    "deviation": lambda name: {"x": StdDev(name)},
    "least": lambda name: {"x": Min(name)},
    "most": lambda name: {"x": Max(name)},
    "distinct values": lambda name: {"x": Count(name, distinct=True)},
}


@pytest.mark.parametrize("aggregate", REFUSED)
@each_name
def test_aggregates_are_refused(row, aggregate, name) -> None:
    given = REFUSED[aggregate](name)
    for run in (
        lambda: Typed.objects.aggregate(**given),
        lambda: list(Typed.objects.annotate(**given)),
        lambda: list(Typed.objects.values("organization").annotate(**given)),
        lambda: Typed.objects.filter(pk__gt=0).order_by("pk")[:5].aggregate(**given),
    ):
        # On SQLite, Django refuses sums of dates by itself, in words that differ by its version.
        refused = rf"^(testapp\.Typed\.{name} is encrypted|SQLite does not support|You cannot use Sum)"
        with pytest.raises((FieldError, NotSupportedError), match=refused):
            run()


COMPUTED = {
    "added to": lambda name: ExpressionWrapper(F(name) + 1, IntegerField()),
    "added": lambda name: ExpressionWrapper(1 + F(name), IntegerField()),
    "multiplied": lambda name: ExpressionWrapper(F(name) * F(name), DecimalField()),
    "subtracted dates": lambda name: ExpressionWrapper(Now() - F(name), IntegerField()),
    "negated": lambda name: ExpressionWrapper(-F(name), IntegerField()),
    "bits": lambda name: ExpressionWrapper(F(name).bitand(1), IntegerField()),
    "cast": lambda name: Cast(name, IntegerField()),
    "cast to text": lambda name: Cast(name, CharField()),
    "concatenated": lambda name: Concat(F(name), Value("x"), output_field=CharField()),
    "length": Length,
    "upper": Upper,
    "lower": Lower,
    "absolute": Abs,
    "rounded": Round,
    "coalesced": lambda name: Coalesce(F(name), F(name), output_field=CharField()),
    "greatest": lambda name: Greatest(F(name), F(name), output_field=CharField()),
    "ranked": lambda name: Window(Rank(), order_by=name),
    "branch": lambda name: Case(When(Q(**{f"{name}__isnull": False}), then=Length(name)), default=Value(0)),
}


@pytest.mark.parametrize("computed", COMPUTED)
@each_name
def test_expressions_are_refused(row, computed, name) -> None:
    given = COMPUTED[computed](name)
    for run in (
        lambda: list(Typed.objects.annotate(x=given)),
        lambda: list(Typed.objects.order_by(given)),
        lambda: Typed.objects.aggregate(x=Max(given)),
        lambda: Typed.objects.filter(pk=row.pk).update(organization=given),
    ):
        with pytest.raises(FieldError):
            run()


@pytest.mark.parametrize("name", ["date", "datetime"])
def test_parts_of_dates_are_refused(row, name) -> None:
    for expression in (ExtractYear(name), TruncMonth(name), TruncDate(name)):
        with pytest.raises(FieldError):
            list(Typed.objects.annotate(x=expression))
    for run in (
        lambda: list(Typed.objects.dates(name, "year")),
        lambda: list(Typed.objects.datetimes(name, "year")),
        lambda: Typed.objects.latest(name),
        lambda: Typed.objects.filter(**{f"{name}__year": 2026}).count(),
    ):
        with pytest.raises((FieldError, AssertionError)):
            run()


@each_name
def test_lookups_and_ordering_are_refused(row, name) -> None:
    value = KINDS[name].values[-1]
    for lookup in ("exact", "in", "lt", "gte", "range", "contains", "startswith", "regex", "iexact"):
        given = [value, value] if lookup in {"in", "range"} else value
        with pytest.raises(FieldError):
            Typed.objects.filter(**{f"{name}__{lookup}": given}).count()
        with pytest.raises(FieldError):
            Typed.objects.exclude(**{f"{name}__{lookup}": given}).count()
    for run in (
        lambda: list(Typed.objects.order_by(name)),
        lambda: list(Typed.objects.order_by(F(name).desc())),
        lambda: Typed.objects.filter(organization_id=F(name)).count(),
        lambda: Typed.objects.filter(Exists(Typed.objects.filter(organization_id=OuterRef(name)))).count(),
    ):
        with pytest.raises(FieldError):
            run()


@each_name
def test_counts_and_questions_for_null_are_answered(row, name) -> None:
    expected = int(name != "duration")
    assert Typed.objects.aggregate(x=Count(name)) == {"x": expected}
    assert Typed.objects.filter(**{f"{name}__isnull": False}).count() == expected
    assert Typed.objects.filter(**{name: None}).count() == 1 - expected
    assert Typed.objects.values_list(name).count() == 1


def test_indexed_numbers_and_dates_are_found_whatever_they_are_spelled_like(organization) -> None:
    reading = Reading.objects.create(organization=organization, number="5", amount="1.5", on="2026-11-29")
    rows = Reading.objects.filter(organization=organization)
    for conditions in (
        {"number": 5},
        {"number": "5"},
        {"number__in": [4, 5.0]},
        {"amount": Decimal("1.500")},
        {"amount": 1.5},
        {"on": DAY},
        {"on": "2026-11-29"},
        {"on": dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)},
    ):
        assert rows.get(**conditions) == reading
    assert not rows.filter(number=6).exists()
    with pytest.raises(FieldError, match="cannot have the value that is looked for"):
        rows.filter(number="five").exists()


def test_a_bulk_update_of_values_that_were_not_loaded_leaves_them(organization, stored) -> None:
    made = [Reading.objects.create(organization=organization, number=n, amount=1, on=DAY) for n in (5, 6)]
    before = [stored(row, "on") for row in made]
    rows = list(Reading.objects.only("number"))
    assert Reading.objects.bulk_update(rows, ["on"]) == 2
    assert Reading.objects.filter(pk=rows[0].pk).bulk_update(rows, ["on", "amount"]) == 1
    assert Reading.objects.bulk_update([], ["on"]) == 0
    assert [stored(row, "on") for row in made] == before
