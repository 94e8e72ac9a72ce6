"""An index key that is lost reads as an error, and never as a value that is not there."""

import pickle
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models import Q

from tests.testapp.models import Account, Contact, Dossier, Organization, Patient
from vault_fields.exceptions import DecryptionError, EnvelopeError, IndexKeyMissing
from vault_fields.fields import ForContext, indexing, make_index_keys
from vault_fields.models import IndexKey
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


@pytest.fixture
def first() -> Organization:
    return Organization.objects.create(workos_id="org_a", region="eu")


@pytest.fixture
def second() -> Organization:
    return Organization.objects.create(workos_id="org_b", region="eu")


def calls() -> dict[str, int]:
    return dict(vaults["default"].calls)


def test_a_lookup_without_its_key_raises(first, second) -> None:
    Contact.objects.create(organization=first, ssn="1", email="e")
    IndexKey.objects.all().delete()
    for queryset in (
        Contact.objects.filter(organization=first, ssn="1"),
        first.contacts.exclude(ssn="1"),
        Contact.objects.filter(organization__in=[second, first], ssn__in=["1", "2"]),
        Contact.objects.filter(Q(organization=first) ^ Q(ssn=ForContext("1", organization=first))),
        Contact.objects.filter(email="e"),
    ):
        with pytest.raises(IndexKeyMissing, match=r"testapp.Contact.(ssn|email): rows of this key context"):
            queryset.exists()
    assert not Contact.objects.filter(organization=second, ssn="1").exists()


def test_a_lookup_of_a_tenant_without_values_costs_one_statement_more_and_no_call(
    first, second, django_assert_num_queries
) -> None:
    Contact.objects.create(organization=first, ssn="1")
    before = calls()
    with django_assert_num_queries(3):
        assert not Contact.objects.filter(organization=second, ssn="1").exists()
    with django_assert_num_queries(3):
        assert Contact.objects.filter(organization__in=[first, second], ssn="1").count() == 1
    with django_assert_num_queries(3):
        assert not Contact.objects.filter(email="e").exists()
    assert calls() == before


def test_a_key_behind_a_relation_and_one_in_a_parents_table_are_missed(first, second) -> None:
    Dossier.objects.create(organization=first, number="1")
    Account.objects.create(organization=first, number="1")
    IndexKey.objects.all().delete()
    for queryset in (
        Dossier.objects.filter(organization=first, number="1"),
        Dossier.objects.filter(organization__workos_id="org_a", number="1"),
        Account.objects.filter(organization=first, number="1"),
    ):
        with pytest.raises(IndexKeyMissing):
            queryset.exists()
    assert not Dossier.objects.filter(organization=second, number="1").exists()
    assert not Account.objects.filter(organization=second, number="1").exists()


def test_a_row_of_another_context_does_not_miss_the_key(first) -> None:
    """Its hash was made with the key of the context that its companion names."""
    Dossier.objects.create(organization=first, number="1")
    first.workos_id = "org_z"
    first.save()
    assert not Dossier.objects.filter(organization=first, number="1").exists()
    IndexKey.objects.all().delete()
    assert not Dossier.objects.filter(organization=first, number="1").exists()
    Dossier.objects.create(organization=first, number="2")
    assert Dossier.objects.filter(organization=first, number="2").exists()


def test_a_prepared_tenant_makes_no_key_while_it_writes(first, second, django_assert_num_queries) -> None:
    with django_assert_num_queries(7):
        make_index_keys(Contact(organization=first))
    assert IndexKey.objects.count() == 2
    before = calls()
    with django_assert_num_queries(1):
        make_index_keys(Contact(organization=first))
    assert calls() == before
    with django_assert_num_queries(2):
        Contact.objects.create(organization=first, ssn="1", email="e")
    assert calls()["create"] - before["create"] == 1  # The data key of the row.
    make_index_keys(Account(organization=second))
    assert IndexKey.objects.count() == 3
    with django_assert_num_queries(0):
        make_index_keys(Patient(organization=first))  # It has no index.
    with django_assert_num_queries(2):
        assert not Contact.objects.filter(organization=second, ssn="1").exists()


def test_preparing_a_tenant_whose_key_was_lost_raises(first) -> None:
    Contact.objects.create(organization=first, ssn="1")
    IndexKey.objects.all().delete()
    with pytest.raises(IndexKeyMissing):
        make_index_keys(Contact(organization=first))
    assert not IndexKey.objects.exists()


def test_a_hash_that_was_read_long_ago_is_made_again(first, monkeypatch, django_assert_num_queries) -> None:
    Contact.objects.create(organization=first, ssn="1")
    contact = Contact.objects.get()
    with django_assert_num_queries(1):
        contact.save()
    # As if the index key had been replaced since it was read.
    replaced = uuid4()
    vars(contact)["ssn_index"] = replaced
    unpickled = pickle.loads(pickle.dumps(contact))
    unpickled.save()
    assert Contact.objects.filter(organization=first, ssn="1").exists()
    contact.save()
    assert not Contact.objects.filter(organization=first, ssn="1").exists()
    monkeypatch.setattr(indexing, "HASH_AGE", -1.0)
    vars(contact)["ssn_index"] = replaced
    contact.save()
    assert Contact.objects.filter(organization=first, ssn="1").exists()


def test_a_copy_and_a_row_for_another_database_get_hashes_of_their_own(first) -> None:
    Contact.objects.create(organization=first, ssn="1")
    contact = Contact.objects.get()
    contact.pk, contact._state.adding = None, True
    contact.save()
    assert Contact.objects.filter(organization=first, ssn="1").count() == 2


def test_a_swapped_key_is_refused_on_every_path(first, second) -> None:
    Contact.objects.create(organization=first, ssn="1")
    Contact.objects.create(organization=second, ssn="1")
    one, other = IndexKey.objects.order_by("pk")
    IndexKey.objects.filter(pk=one.pk).update(companion=other.companion)
    IndexKey.objects.filter(pk=other.pk).update(companion=one.companion)
    for work in (
        lambda: Contact.objects.filter(organization=first, ssn="1").exists(),
        lambda: Contact.objects.create(organization=first, ssn="2"),
        lambda: Contact.objects.update(ssn="2"),
        lambda: make_index_keys(Contact(organization=second)),
    ):
        with pytest.raises(DecryptionError, match="another key context"), transaction.atomic():
            work()
    with pytest.raises(EnvelopeError):
        Contact.objects.filter(organization=second).exclude(ssn="1").exists()
