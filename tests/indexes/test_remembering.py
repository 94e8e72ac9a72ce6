"""VAULT_INDEX_KEY_AGE: lookups outside of transactions remember the rows of index keys for some seconds."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction

from tests.testapp.models import Contact, Organization
from vault_fields.fields import indexkeys
from vault_fields.models import IndexKey

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def remembering(settings):
    settings.VAULT_INDEX_KEY_AGE = 10
    vars(connection).pop("_vault_fields_index_keys", None)


@pytest.fixture
def contact(organization):
    return Contact.objects.create(organization=organization, ssn="1", email="a@example.org")


def find(organization, ssn="1"):
    return Contact.objects.filter(organization=organization, ssn=ssn).first()


def test_a_second_lookup_is_one_statement(contact, organization, django_assert_num_queries) -> None:
    with django_assert_num_queries(2):
        assert find(organization) == contact
    with django_assert_num_queries(1):
        assert find(organization, "another") is None
    with django_assert_num_queries(2):
        assert Contact.objects.get(email="A@example.org") == contact
    with django_assert_num_queries(1):
        assert Contact.objects.get(email="A@example.org") == contact


def test_nothing_is_remembered_for_no_time(contact, organization, settings, django_assert_num_queries) -> None:
    settings.VAULT_INDEX_KEY_AGE = 0
    for _ in range(2):
        with django_assert_num_queries(2):
            assert find(organization) == contact


@pytest.mark.parametrize("age", [None, 10])
def test_it_ends_with_the_age(contact, organization, monkeypatch, settings, django_assert_num_queries, age) -> None:
    now = 1000.0
    monkeypatch.setattr(indexkeys, "monotonic", lambda: now)
    if age is None:
        del settings.VAULT_INDEX_KEY_AGE
    find(organization)
    now += (age or 1) - 0.1
    with django_assert_num_queries(1):
        find(organization)
    now += 0.2
    with django_assert_num_queries(2):
        find(organization)


def test_a_transaction_neither_remembers_nor_is_told(contact, organization, django_assert_num_queries) -> None:
    with transaction.atomic():
        for _ in range(2):
            with django_assert_num_queries(2):
                find(organization)
    with django_assert_num_queries(2):
        find(organization)
    with transaction.atomic(), django_assert_num_queries(2):
        find(organization)


def test_a_first_key_that_is_rolled_back_is_not_used(organization) -> None:
    with transaction.atomic():
        Contact.objects.create(organization=organization, ssn="1")
        assert find(organization)
        transaction.set_rollback(True)
    assert find(organization) is None
    again = Contact.objects.create(organization=organization, ssn="1")
    assert find(organization) == again


def test_that_there_is_no_key_is_not_remembered(organization, contact) -> None:
    other = Organization.objects.create(workos_id="org_later")
    assert find(other) is None
    late = Contact.objects.create(organization=other, ssn="1")
    assert find(other) == late


def test_a_key_that_is_lost_finds_its_rows_until_then(contact, organization) -> None:
    find(organization)
    IndexKey.objects.all().delete()
    assert find(organization) == contact


def test_a_key_that_is_made_in_the_place_of_another_is_noticed(contact, organization) -> None:
    other = Organization.objects.create(workos_id="org_other")
    later = Contact.objects.create(organization=other, ssn="1")
    assert (find(organization), find(other)) == (contact, later)
    Contact.objects.all().delete()
    IndexKey.objects.all().delete()
    again = Contact.objects.create(organization=organization, ssn="1")
    assert find(organization) == again
    assert find(other) is None


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has schemas.")
def test_nothing_is_remembered_where_another_schema_has_such_a_table(
    contact, organization, django_assert_num_queries
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA another")
        cursor.execute("CREATE TABLE another.vault_fields_indexkey AS SELECT * FROM vault_fields_indexkey LIMIT 0")
    try:
        for _ in range(2):
            with django_assert_num_queries(2):
                assert find(organization) == contact
        with connection.cursor() as cursor:
            cursor.execute("SET search_path TO another, public")
        assert IndexKey.objects.count() == 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET search_path")
            cursor.execute("DROP SCHEMA another CASCADE")


def test_what_is_remembered_has_an_end(contact, organization, monkeypatch, django_assert_num_queries) -> None:
    monkeypatch.setattr(indexkeys, "_MOST_REMEMBERED", 1)
    find(organization)
    Contact.objects.get(email="a@example.org")
    with django_assert_num_queries(2):
        find(organization)


@pytest.mark.parametrize("age", [31, -1])
def test_an_age_that_rotations_do_not_wait_for_is_refused(contact, organization, settings, age) -> None:
    settings.VAULT_INDEX_KEY_AGE = age
    with pytest.raises(ImproperlyConfigured, match=rf"VAULT_INDEX_KEY_AGE is {age}, and may be at most 30 seconds"):
        find(organization)
