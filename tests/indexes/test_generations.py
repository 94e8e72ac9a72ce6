"""Two generations of an index key: lookups ask for the hashes of both, and writers use one."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.utils import timezone

from tests.testapp.models import Contact, Organization
from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.indexkeys import SETTLING, Wanted, find_keys, find_written_keys, make_key, stored_key
from vault_fields.keys import KeyContext
from vault_fields.models import IndexKey
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


@pytest.fixture
def organization() -> Organization:
    return Organization.objects.create(workos_id="org_a")


def next_generation(organization: Organization, *, age: timedelta) -> IndexKey:
    context = KeyContext({"organization_id": str(organization.pk)})
    row, _ = stored_key(Wanted("default", context), 2)
    row.save()
    IndexKey.objects.filter(pk=row.pk).update(created_at=timezone.now() - age)
    return row


def hash_of(organization: Organization) -> UUID:
    return Contact.objects.create(organization=organization, ssn="1").ssn_index


def test_a_new_generation_is_read_at_once_and_written_when_lookups_know_it(organization) -> None:
    first = hash_of(organization)
    made = next_generation(organization, age=timedelta())
    assert hash_of(organization) == first
    IndexKey.objects.filter(pk=made.pk).update(created_at=timezone.now() - SETTLING)
    second = hash_of(organization)
    assert second != first
    assert Contact.objects.filter(organization=organization, ssn="1").count() == 3
    assert Contact.objects.filter(organization=organization, ssn__in=["1", "2"]).count() == 3
    assert not Contact.objects.filter(organization=organization).exclude(ssn="1").exists()


def test_a_first_key_is_written_at_once(organization) -> None:
    hash_of(organization)
    assert IndexKey.objects.get().generation == 1
    assert Contact.objects.filter(organization=organization, ssn="1").count() == 1


def test_generations_are_opened_together_and_writers_open_one(organization) -> None:
    hash_of(organization)
    next_generation(organization, age=SETTLING)
    vault = vaults["default"]
    vault.purge()
    before = vault.calls["decrypt"]
    hash_of(organization)
    assert vault.calls["decrypt"] - before == 1
    Contact.objects.filter(organization=organization, ssn="1").exists()
    assert vault.calls["decrypt"] - before == 2


def test_keys_of_other_vaults_and_contexts_are_not_taken_for_those_that_are_wanted() -> None:
    contexts = [KeyContext({"organization_id": name}) for name in ("a", "b")]
    for context in contexts:
        make_key(Wanted("default", context), "default")
    wanted = [Wanted("default", contexts[0]), Wanted("other", contexts[1])]
    assert find_keys(wanted, "default").keys() == {wanted[0]}
    assert find_written_keys(wanted, "default").keys() == {wanted[0]}


def test_a_key_pasted_as_another_generation_is_refused(organization) -> None:
    hash_of(organization)
    IndexKey.objects.update(generation=2)
    with pytest.raises(EnvelopeError, match="of another generation"):
        Contact.objects.filter(organization=organization, ssn="1").exists()


@pytest.mark.django_db(transaction=True)
def test_a_database_without_the_table_says_what_to_run(organization) -> None:
    with connection.schema_editor() as editor:
        editor.delete_model(IndexKey)
    try:
        for work in (
            lambda: Contact.objects.filter(organization=organization, ssn="1").exists(),
            lambda: Contact.objects.create(organization=organization, ssn="1"),
            lambda: make_key(Wanted("default", KeyContext({"a": "b"})), "default"),
        ):
            with pytest.raises(ImproperlyConfigured, match="migrate vault_fields --database default"):
                work()
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(IndexKey)


def test_other_errors_of_the_database_stay_what_they_are(organization) -> None:
    def fail(*args: object, **options: object) -> None:
        raise DatabaseError("the disk is full")

    with connection.execute_wrapper(fail), pytest.raises(DatabaseError, match="the disk is full"):
        find_keys([Wanted("default", KeyContext({"a": "b"}))], "default")
