"""Searches and filters of the admin by the value of an indexed field."""

import logging

import pytest
from django.contrib import admin
from django.contrib.admin.sites import AdminSite, all_sites
from django.urls import path

from tests.testapp.models import Club, Loan, Member
from vault_fields.admin import EncryptedFieldsMixin
from vault_fields.exceptions import TenantUnknown

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

SSN, OTHER_SSN = "078-05-1120", "219-09-9999"


class OfFilter(admin.SimpleListFilter):
    title, parameter_name = "SSN", "of"

    def lookups(self, request, model_admin):
        return [(SSN, "the sample"), (OTHER_SSN, "another")]

    def queryset(self, request, queryset):
        return queryset.filter(ssn=self.value()) if self.value() else queryset


class MemberAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["name"]
    list_filter = ["club", OfFilter]
    search_fields = ["=ssn"]
    ordering = ["name"]
    own_club = None

    def get_queryset(self, request):
        queryset = super().get_queryset(request)
        return queryset if self.own_club is None else queryset.filter(club=self.own_club)


class LoanAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    autocomplete_fields = ["member"]
    search_fields = ["=member__ssn"]
    list_filter = ["member__club"]


site = AdminSite()
site.register(Club)
site.register(Member, MemberAdmin)
site.register(Loan, LoanAdmin)


class PlainAdmin(admin.ModelAdmin):
    search_fields = ["ssn__exact"]
    ordering = ["name"]


plain = AdminSite("plain")
plain.register(Club)
plain.register(Member, PlainAdmin)
plain.register(Loan, admin.ModelAdmin)
# The checks of other tests look at all sites.
all_sites.difference_update({site, plain})
urlpatterns = [path("admin/", site.urls), path("plain/", plain.urls)]

MEMBERS, LOANS = "/admin/testapp/member/", "/admin/testapp/loan/"
OFFERS = f"/admin/autocomplete/?app_label=testapp&model_name=loan&field_name=member&term={SSN}"


@pytest.fixture(autouse=True)
def members(db):
    clubs = [Club.objects.create(name=name) for name in ("chess", "go")]
    return [
        Member.objects.create(club=clubs[0], name="Ada", ssn=SSN, number=7, email="Ada@example.org"),
        Member.objects.create(club=clubs[0], name="Bo", ssn=OTHER_SSN, number=8, email="bo@example.org"),
        Member.objects.create(club=clubs[1], name="Cy", ssn=SSN, number=9, email="cy@example.org"),
    ]


@pytest.fixture
def search_by(monkeypatch):
    return lambda *names: monkeypatch.setattr(MemberAdmin, "search_fields", names)


def get(client, address, **params):
    return client.get(address, params, follow=True)


def found(response):
    return sorted(row.name for row in response.context["cl"].result_list)


def told(response):
    return [str(message) for message in response.context["messages"]]


TELL_THE_CLUB = "Nothing was searched: values are found within one club at a time. Choose one first."


@pytest.mark.parametrize("entry", ["=ssn", "ssn__exact"])
def test_a_search_in_a_queryset_of_one_tenant_finds_its_row(
    admin_client, members, search_by, monkeypatch, entry
) -> None:
    search_by(entry)
    monkeypatch.setattr(MemberAdmin, "own_club", members[2].club)
    assert found(get(admin_client, MEMBERS, q=SSN)) == ["Cy"]
    assert found(get(admin_client, MEMBERS, q=OTHER_SSN)) == []


def test_a_search_after_choosing_the_tenant_in_the_sidebar_finds_its_row(admin_client, members) -> None:
    assert found(get(admin_client, MEMBERS, q=SSN, club__id__exact=members[0].club_id)) == ["Ada"]


def test_a_search_without_a_tenant_finds_nothing_and_says_what_to_choose(admin_client) -> None:
    response = get(admin_client, MEMBERS, q=SSN)
    assert (response.status_code, found(response), told(response)) == (200, [], [TELL_THE_CLUB])
    assert found(get(admin_client, MEMBERS)) == ["Ada", "Bo", "Cy"]


def test_an_action_on_a_search_that_was_not_made_does_nothing(admin_client, members) -> None:
    sent = {"action": "delete_selected", "_selected_action": [members[0].pk], "post": "yes"}
    assert told(admin_client.post(f"{MEMBERS}?q={SSN}", sent, follow=True))[0] == TELL_THE_CLUB
    assert Member.objects.count() == 3


def test_a_global_index_needs_no_tenant_and_no_case(admin_client, search_by) -> None:
    search_by("=email")
    assert found(get(admin_client, MEMBERS, q="ada@EXAMPLE.org")) == ["Ada"]


def test_a_plain_field_and_an_index_are_searched_together(admin_client, search_by) -> None:
    search_by("name", "=email")
    assert found(get(admin_client, MEMBERS, q="ad")) == ["Ada"]
    assert found(get(admin_client, MEMBERS, q="cy@example.org")) == ["Cy"]
    assert found(get(admin_client, MEMBERS, q="ad ada@example.org")) == ["Ada"]
    assert found(get(admin_client, MEMBERS, q="ad cy@example.org")) == []


@pytest.mark.parametrize("entry", ["=number", "number__exact"])
def test_a_text_that_the_field_cannot_have_is_searched_elsewhere(admin_client, search_by, entry) -> None:
    search_by("name", entry)
    assert found(get(admin_client, MEMBERS, q="ada")) == ["Ada"]
    assert found(get(admin_client, MEMBERS, q="8")) == ["Bo"]
    search_by(entry)
    response = get(admin_client, MEMBERS, q="ada")
    assert (found(response), told(response)) == ([], [])


def test_a_field_of_a_related_row_is_searched(admin_client, members) -> None:
    loans = [Loan.objects.create(member=member) for member in members]
    response = get(admin_client, LOANS, q=SSN, member__club__id__exact=members[2].club_id)
    assert list(response.context["cl"].result_list) == [loans[2]]
    assert told(get(admin_client, LOANS, q=SSN)) == [TELL_THE_CLUB]


def test_an_index_that_has_a_name_is_searched(admin_client, search_by) -> None:
    search_by("=ssn__last4")
    assert found(get(admin_client, MEMBERS, q="9999")) == ["Bo"]
    assert found(get(admin_client, MEMBERS, q="1120")) == ["Ada", "Cy"]


def test_a_filter_by_value_needs_the_tenant_too(admin_client, members) -> None:
    assert found(get(admin_client, MEMBERS, of=OTHER_SSN, club__id__exact=members[0].club_id)) == ["Bo"]
    assert told(get(admin_client, MEMBERS, of=OTHER_SSN)) == [TELL_THE_CLUB]


def test_an_address_may_ask_for_a_value(admin_client, members) -> None:
    assert found(get(admin_client, MEMBERS, ssn=SSN, club=members[0].club_id)) == ["Ada"]
    assert told(get(admin_client, MEMBERS, ssn__exact=SSN)) == [TELL_THE_CLUB]


def test_a_key_that_was_withdrawn_is_told(admin_client, members, vault) -> None:
    club = members[0].club_id
    vault.revoke("club_id", str(club))
    response = get(admin_client, MEMBERS, q=SSN, club__id__exact=club)
    vault.restore("club_id", str(club))
    reason = "Nothing was searched, because the key of the index is needed. Cannot be opened: its key was withdrawn."
    assert (response.status_code, found(response), told(response)) == (200, [], [reason])


def test_tenants_that_are_too_many_are_told(admin_client, search_by, monkeypatch) -> None:
    monkeypatch.setattr("vault_fields.fields.tenants.MAX_CONTEXTS", 1)
    response = get(admin_client, MEMBERS, q=SSN, club__in=",".join(map(str, Club.objects.values_list("pk", flat=True))))
    assert told(response) == ["Nothing was searched: values are found within one tenant at a time, and a few of them."]


def test_suggestions_are_found_by_value(admin_client, members, monkeypatch) -> None:
    monkeypatch.setattr(MemberAdmin, "own_club", members[0].club)
    assert admin_client.get(OFFERS).json()["results"] == [{"id": str(members[0].pk), "text": "Ada"}]


def test_suggestions_without_a_tenant_say_what_to_choose(admin_client) -> None:
    told = [{"id": "", "text": TELL_THE_CLUB, "disabled": True}]
    assert admin_client.get(OFFERS).json() == {"results": told, "pagination": {"more": False}}


def test_an_admin_without_the_mixin_fails(admin_client) -> None:
    for address in (f"{MEMBERS}?q={SSN}", OFFERS):
        with pytest.raises(TenantUnknown):
            admin_client.get(address.replace("/admin/", "/plain/"))


def test_no_value_is_logged(admin_client, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    get(admin_client, MEMBERS, q=SSN)
    assert SSN not in caplog.text
