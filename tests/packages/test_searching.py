"""Requests that find rows by a value: filters and searches of Django REST framework, and what an error report shows."""

import json

import pytest
from django.core.exceptions import FieldError
from django.urls import path
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.filters import SearchFilter
from rest_framework.generics import ListAPIView
from rest_framework.test import APIClient
from rest_framework.views import exception_handler

from tests.packages.test_sentry import frames, sent
from tests.testapp.models import Club, Member
from vault_fields.exceptions import TenantUnknown
from vault_fields.reporting import before_send

pytestmark = pytest.mark.django_db

SSN, OTHER_SSN = "078-05-1120", "219-09-9999"


class MemberSerializer(serializers.ModelSerializer):
    class Meta:
        model = Member
        fields = ["name"]


class Members(ListAPIView):
    queryset = Member.objects.order_by("name")
    serializer_class = MemberSerializer
    filter_backends = [DjangoFilterBackend, SearchFilter]
    filterset_fields = {"club": ["exact"], "ssn": ["exact", "in"], "email": ["exact", "iexact"]}
    search_fields = ["name", "=email"]


class MembersOfClub(Members):
    def get_queryset(self):
        return super().get_queryset().filter(club=self.kwargs["club"])


class MembersBySSN(Members):
    search_fields = ["=ssn"]


def handle(error, context):
    if isinstance(error, TenantUnknown):
        error = ValidationError({"detail": f"Name the {' and the '.join(error.missing)}."})
    return exception_handler(error, context)


class MembersWithAnswer(Members):
    def get_exception_handler(self):
        return handle


urlpatterns = [
    path("members", Members.as_view()),
    path("answering", MembersWithAnswer.as_view()),
    path("by-ssn", MembersBySSN.as_view()),
    path("clubs/<int:club>/members", MembersOfClub.as_view()),
]


@pytest.fixture(autouse=True)
def project(settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "rest_framework"]


@pytest.fixture
def clubs(db):
    clubs = [Club.objects.create(name=name) for name in ("chess", "go")]
    Member.objects.create(club=clubs[0], name="Ada", ssn=SSN, number=7, email="Ada@example.org")
    Member.objects.create(club=clubs[0], name="Bo", ssn=OTHER_SSN, number=8, email="bo@example.org")
    Member.objects.create(club=clubs[1], name="Cy", ssn=SSN, number=9, email="cy@example.org")
    return clubs


def get(address, **params):
    return APIClient().get(address, params)


def names(response):
    assert response.status_code == 200
    return [each["name"] for each in response.json()]


def test_a_filter_finds_by_value_within_the_tenant_that_the_request_names(clubs) -> None:
    assert names(get("/members", club=clubs[0].pk, ssn=SSN)) == ["Ada"]
    assert names(get("/members", club=clubs[1].pk, ssn=SSN)) == ["Cy"]
    assert names(get("/members", club=clubs[1].pk, ssn=OTHER_SSN)) == []


def test_a_filter_finds_by_several_values(clubs) -> None:
    assert names(get("/members", club=clubs[0].pk, ssn__in=f"{SSN},{OTHER_SSN}")) == ["Ada", "Bo"]


def test_a_queryset_of_one_tenant_is_filtered_by_value(clubs) -> None:
    assert names(get(f"/clubs/{clubs[1].pk}/members", ssn=SSN)) == ["Cy"]
    assert names(get(f"/clubs/{clubs[1].pk}/members", ssn=OTHER_SSN)) == []


@pytest.mark.parametrize("params", [{"email": "ADA@example.org"}, {"email__iexact": "ADA@example.org"}])
def test_a_global_index_needs_no_tenant(clubs, params) -> None:
    assert names(get("/members", **params)) == ["Ada"]


def test_a_search_finds_by_a_plain_field_or_an_index_without_difference_of_case(clubs) -> None:
    assert names(get("/members", search="ada@EXAMPLE.org")) == ["Ada"]
    assert names(get("/members", search="cy")) == ["Cy"]


def test_a_search_by_an_index_that_tells_case_apart_is_refused(clubs) -> None:
    """The framework makes ``iexact`` of ``=``."""
    with pytest.raises(FieldError, match="iexact"):
        get("/by-ssn", search=SSN, club=clubs[0].pk)


def test_a_request_without_the_tenant_fails_unless_the_project_answers(clubs) -> None:
    with pytest.raises(TenantUnknown):
        get("/members", ssn=SSN)
    response = get("/answering", ssn=SSN)
    assert (response.status_code, response.json()) == (400, {"detail": "Name the club."})


def without_tenant(secret):
    return list(Member.objects.filter(ssn=secret))


def of_no_number(secret):
    return Member.objects.filter(number=secret)


def an_expression(secret):
    return Member.objects.filter(ssn__contains=secret)


@pytest.mark.parametrize("search", [without_tenant, of_no_number, an_expression])
def test_no_report_of_a_refused_search_shows_the_value(clubs, search) -> None:
    with pytest.raises(FieldError) as caught:
        search(SSN)
    assert SSN not in str(caught.value)
    ours = [frame for frame in frames(sent(caught.value)) if frame["module"].startswith("vault_fields")]
    assert ours
    assert SSN not in json.dumps(ours)
    reported = frames(sent(caught.value, before_send=before_send))
    assert SSN not in json.dumps([frame.get("vars") for frame in reported if not frame["module"].startswith("tests.")])
