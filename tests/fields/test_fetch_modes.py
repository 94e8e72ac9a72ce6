"""Fetch modes: the caller's are about what the caller reads, and the library looks up for itself what opens it."""

import django
import pytest

from tests.testapp.models import Document, Organization, Patient, Setting
from vault_fields.testing import assert_vault_calls

pytestmark = pytest.mark.skipif(django.VERSION < (6, 1), reason="Django 6.1 brings fetch modes")

if django.VERSION >= (6, 1):
    from django.core.exceptions import FieldFetchBlocked
    from django.db.models import FETCH_ONE, FETCH_PEERS, FETCH_RAISE

ROWS = 3
BARE = "SELECT id, ssn FROM testapp_patient ORDER BY id"


@pytest.fixture
def patients(organization):
    for number in range(ROWS):
        Patient.objects.create(organization=organization, name=f"n{number}", ssn=f"ssn {number}")
    return Patient.objects.order_by("pk")


@pytest.mark.parametrize(
    "read",
    [
        lambda q: q.fetch_mode(FETCH_RAISE),
        lambda q: q.only("ssn").fetch_mode(FETCH_RAISE),
        lambda q: q.defer("ssn_keys").fetch_mode(FETCH_RAISE),
        lambda q: q.defer("ssn_keys", "organization").fetch_mode(FETCH_RAISE),
        lambda q: Patient.objects.fetch_mode(FETCH_RAISE).raw(BARE),
    ],
)
def test_what_came_along_is_opened_and_saved_under_fetch_raise(patients, read) -> None:
    rows = list(read(patients))
    assert [row.ssn for row in rows] == [f"ssn {number}" for number in range(ROWS)]
    rows[0].ssn = "new"
    rows[0].save(update_fields=["ssn"])
    assert rows[0]._state.fetch_mode is FETCH_RAISE
    assert Patient.objects.get(pk=rows[0].pk).ssn == "new"


def test_what_was_deferred_is_the_callers_to_fetch(patients) -> None:
    row = patients.defer("ssn").fetch_mode(FETCH_RAISE)[0]
    with pytest.raises(FieldFetchBlocked, match="Patient.ssn"):
        row.ssn  # noqa: B018
    with pytest.raises(FieldFetchBlocked):
        patients.only("ssn").fetch_mode(FETCH_RAISE)[0].name  # noqa: B018
    row.ssn = "new"
    row.save()
    assert Patient.objects.get(pk=row.pk).ssn == "new"


def test_relations_that_a_context_lies_behind_are_followed_under_fetch_raise(organization) -> None:
    Document.objects.create(organization=organization, body="b")
    for query in (
        Document.objects.fetch_mode(FETCH_RAISE),
        Document.objects.select_related("organization").only("body", "organization__region").fetch_mode(FETCH_RAISE),
    ):
        row = query.get()
        row.body = "c"
        row.save()
        assert row.body == "c"
        row.organization = Organization.objects.only("region").fetch_mode(FETCH_RAISE).get()
        row.body = "d"
        row.save()
        assert Document.objects.get().body == "d"
    row = Document.objects.fetch_mode(FETCH_RAISE).get()
    row.body = "e"
    row.save(update_fields=["body"])
    with pytest.raises(FieldFetchBlocked):
        Document.objects.fetch_mode(FETCH_RAISE).get().organization  # noqa: B018


def test_a_function_may_read_what_it_needs(db) -> None:
    Setting.objects.create(tenant="t", kind="k", value="v")
    row = Setting.objects.only("value").fetch_mode(FETCH_RAISE).get()
    row.value = "w"
    row.save()
    assert Setting.objects.get().value == "w"


def test_peers_are_still_fetched_together(patients, django_assert_num_queries) -> None:
    with django_assert_num_queries(2), assert_vault_calls(cold=True, decrypt=ROWS):
        rows = list(patients.defer("ssn").fetch_mode(FETCH_PEERS))
        assert [row.ssn for row in rows] == [f"ssn {number}" for number in range(ROWS)]
    with django_assert_num_queries(3):
        rows = list(Patient.objects.fetch_mode(FETCH_PEERS).raw(BARE))
        assert [row.ssn for row in rows] == [f"ssn {number}" for number in range(ROWS)]
    with django_assert_num_queries(1 + 2 * ROWS):
        rows = list(Patient.objects.fetch_mode(FETCH_ONE).raw(BARE))
        assert [row.ssn for row in rows] == [f"ssn {number}" for number in range(ROWS)]
