"""Forms, formsets and the admin show at a field that its value is taken, and never the value."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.sites import AdminSite
from django.forms import inlineformset_factory, modelform_factory, modelformset_factory
from django.urls import path

from tests.testapp.models import Athlete, League
from vault_fields.admin import EncryptedFieldsMixin

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

TAKEN = {"number": ["Somebody has this number."]}
FIELDS = ["number", "email", "badge", "team", "is_active"]


class AthleteInline(admin.TabularInline):
    model = Athlete
    fields = ["number", "team"]
    extra = 0


class AthleteAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["id", "number"]
    list_editable = ["number"]
    ordering = ["pk"]


class LeagueAdmin(admin.ModelAdmin):
    inlines = [AthleteInline]


site = AdminSite()
site.register(Athlete, AthleteAdmin)
site.register(League, LeagueAdmin)
urlpatterns = [path("admin/", site.urls)]


@pytest.fixture
def league() -> League:
    return League.objects.create(workos_id="league_a")


@pytest.fixture
def other() -> League:
    return League.objects.create(workos_id="league_b")


def errors(form: Any) -> Any:
    assert not form.is_valid()
    return form.errors


def test_a_form_finds_the_tenant_in_its_data_or_in_its_instance(league, other) -> None:
    Athlete.objects.create(league=league, number="481516")
    with_tenant = modelform_factory(Athlete, fields=["league", *FIELDS])
    assert errors(with_tenant({"league": league.pk, "number": "481516"})) == TAKEN
    assert with_tenant({"league": other.pk, "number": "481516"}).is_valid()
    without = modelform_factory(Athlete, fields=FIELDS)
    assert errors(without({"number": "481516"}, instance=Athlete(league=league))) == TAKEN
    form = without({"number": "481516"}, instance=Athlete(league=other))
    assert form.is_valid()
    assert form.save().league == other
    # A field that is left empty is NULL, which no constraint compares.
    assert Athlete.objects.get(league=other).email is None
    # The view gives the row its tenant later, and the database has the last word.
    assert without({"number": "481516"}).is_valid()


def test_a_form_of_a_row_finds_others_and_not_itself(league) -> None:
    Athlete.objects.create(league=league, number="481516", email="a@example.org")
    athlete = Athlete.objects.create(league=league, number="2342")
    form_class = modelform_factory(Athlete, fields=FIELDS)
    data = {"number": "2342", "team": "red"}
    assert form_class(data, instance=Athlete.objects.get(pk=athlete.pk)).is_valid()
    form = form_class({**data, "number": "481516", "email": "A@example.org"}, instance=athlete)
    message = {"email": ["Athlete with this Email already exists."]}
    assert errors(form) == {**TAKEN, **message}


def test_a_form_may_have_a_message_of_its_own(league) -> None:
    Athlete.objects.create(league=league, number="481516")
    messages = {"number": {"unique": "Taken."}}
    form_class = modelform_factory(Athlete, fields=FIELDS, error_messages=messages)
    assert errors(form_class({"number": "481516"}, instance=Athlete(league=league))) == {"number": ["Taken."]}


def test_the_rows_of_a_formset_are_compared_with_each_other(league) -> None:
    formset_class = inlineformset_factory(League, Athlete, fields=["number"], extra=2)
    management = {"athletes-TOTAL_FORMS": "2", "athletes-INITIAL_FORMS": "0"}
    data = management | {"athletes-0-number": "481516", "athletes-1-number": "481516"}
    formset = formset_class(data, instance=league)
    assert not formset.is_valid()
    assert "481516" not in f"{formset.non_form_errors()}{formset.errors}"
    formset = formset_class(data | {"athletes-1-number": "2342"}, instance=league)
    assert formset.is_valid()
    formset.save()
    assert league.athletes.count() == 2
    formset = formset_class(management | {"athletes-0-number": "481516"}, instance=league)
    assert not formset.is_valid()
    assert formset.errors[0] == TAKEN


def test_the_same_value_of_two_tenants_is_no_duplicate_in_a_formset(league, other) -> None:
    formset_class = modelformset_factory(Athlete, fields=["league", "number"], extra=2)
    data = {"form-TOTAL_FORMS": "2", "form-INITIAL_FORMS": "0", "form-0-number": "1", "form-1-number": "1"}
    formset = formset_class(
        data | {"form-0-league": league.pk, "form-1-league": other.pk}, queryset=Athlete.objects.none()
    )
    assert formset.is_valid()
    formset = formset_class(
        data | {"form-0-league": league.pk, "form-1-league": league.pk}, queryset=Athlete.objects.none()
    )
    assert not formset.is_valid()


def test_the_admin_shows_the_error_at_the_field(admin_client, league) -> None:
    Athlete.objects.create(league=league, number="481516")
    data = {"league": league.pk, "number": "481516", "is_active": "on"}
    response = admin_client.post("/admin/testapp/athlete/add/", data)
    assert response.status_code == 200
    assert response.context["adminform"].form.errors == TAKEN
    assert b"Somebody has this number." in response.content
    response = admin_client.post("/admin/testapp/athlete/add/", data | {"number": "2342"})
    assert response.status_code == 302
    assert Athlete.objects.get(league=league, number="2342").is_active


def test_the_admin_shows_it_in_inlines(admin_client, league) -> None:
    athlete = Athlete.objects.create(league=league, number="481516")
    data = {
        "workos_id": "league_a",
        "athletes-TOTAL_FORMS": "2",
        "athletes-INITIAL_FORMS": "1",
        "athletes-0-id": athlete.pk,
        "athletes-0-league": league.pk,
        "athletes-0-number": "481516",
        "athletes-1-league": league.pk,
        "athletes-1-number": "481516",
    }
    response = admin_client.post(f"/admin/testapp/league/{league.pk}/change/", data)
    assert response.status_code == 200
    assert b"481516 already" not in response.content
    assert league.athletes.count() == 1
    response = admin_client.post(f"/admin/testapp/league/{league.pk}/change/", data | {"athletes-1-number": "2342"})
    assert response.status_code == 302
    assert league.athletes.count() == 2


def test_the_admin_shows_it_in_a_list_that_is_edited(admin_client, league, other) -> None:
    values = [(league, "481516"), (league, "2342"), (other, "481516")]
    rows = [Athlete.objects.create(league=each, number=number) for each, number in values]
    data = {"form-TOTAL_FORMS": "3", "form-INITIAL_FORMS": "3", "_save": "Save"}
    for place, row in enumerate(rows):
        data |= {f"form-{place}-id": row.pk, f"form-{place}-number": row.number}
    response = admin_client.post("/admin/testapp/athlete/", data | {"form-1-number": "481516"})
    assert response.status_code == 200
    assert response.context["cl"].formset.errors == [{}, TAKEN, {}]
    response = admin_client.post("/admin/testapp/athlete/", data | {"form-2-number": "2342"})
    assert response.status_code == 302
    assert Athlete.objects.get(league=other, number="2342") == rows[2]
