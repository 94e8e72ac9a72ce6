"""Django REST framework finds unique values by their constraints; history tables repeat them."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from rest_framework import serializers

from tests.packages.models import Subscriber
from tests.testapp.models import Athlete, League, Ticket

pytestmark = pytest.mark.django_db

TAKEN = {"non_field_errors": ["Somebody has this number."]}


class CurrentLeague:
    requires_context = True

    def __call__(self, field: Any) -> League:
        league: League = field.context["league"]
        return league


class WithTenant(serializers.ModelSerializer):
    class Meta:
        model = Athlete
        fields = ["league", "number", "email", "badge", "team", "is_active"]


class OfTenant(serializers.ModelSerializer):
    league = serializers.HiddenField(default=CurrentLeague())

    class Meta:
        model = Athlete
        fields = ["league", "number", "email", "badge", "team"]


class WithoutTenant(serializers.ModelSerializer):
    class Meta:
        model = Athlete
        fields = ["number", "email", "team"]


class Tickets(serializers.ModelSerializer):
    class Meta:
        model = Ticket
        fields = ["athlete", "code"]


@pytest.fixture
def league() -> League:
    return League.objects.create(workos_id="league_a")


def errors(serializer: Any) -> Any:
    assert not serializer.is_valid()
    found = repr(serializer.errors)
    assert "481516" not in found
    return serializer.errors


def test_a_serializer_with_the_tenant_finds_duplicates(league) -> None:
    athlete = Athlete.objects.create(league=league, number="481516", email="a481516@example.org", badge="481516")
    data = {"league": league.pk, "number": "481516", "team": "red"}
    assert errors(WithTenant(data=data)) == TAKEN
    data["number"] = "2342"
    email = {"email": ["athlete with this email already exists."]}
    assert errors(WithTenant(data={**data, "email": "A481516@EXAMPLE.org"})) == email
    assert set(errors(WithTenant(data={**data, "badge": "481516", "is_active": True}))) == {"non_field_errors"}
    other = League.objects.create(workos_id="league_b")
    serializer = WithTenant(data={**data, "league": other.pk})
    serializer.is_valid(raise_exception=True)
    serializer.save()
    serializer = WithTenant(athlete, data={**data, "team": "blue"})
    serializer.is_valid(raise_exception=True)
    assert serializer.save().team == "blue"


def test_a_serializer_with_a_hidden_tenant_finds_duplicates(league) -> None:
    Athlete.objects.create(league=league, number="481516")
    context = {"league": league}
    assert errors(OfTenant(data={"number": "481516"}, context=context)) == TAKEN
    serializer = OfTenant(data={"number": "2342"}, context=context)
    serializer.is_valid(raise_exception=True)
    assert serializer.save().league == league


def test_a_serializer_without_the_tenant_leaves_it_to_the_database(league) -> None:
    Athlete.objects.create(league=league, number="481516")
    serializer = WithoutTenant(data={"number": "481516"})
    serializer.is_valid(raise_exception=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        serializer.save(league=league)


def test_a_context_behind_a_relation_is_found_by_the_relation(league) -> None:
    athlete = Athlete.objects.create(league=league)
    Ticket.objects.create(athlete=athlete, code="481516")
    assert set(errors(Tickets(data={"athlete": athlete.pk, "code": "481516"}))) == {"non_field_errors"}


def test_a_table_of_history_repeats_values(league) -> None:
    subscriber = Subscriber.objects.create(league=league, number="481516")
    subscriber.name = "Ada"
    subscriber.save()
    assert [each.number for each in subscriber.records.all()] == ["481516", "481516"]
    with pytest.raises(IntegrityError), transaction.atomic():
        Subscriber.objects.create(league=league, number="481516")
