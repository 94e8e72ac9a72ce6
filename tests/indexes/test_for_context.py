"""A value is looked up in a key context that is given with it, where a query cannot say whose rows it is about."""

import copy
import pickle

import pytest
from django.core.exceptions import FieldError
from django.db.models import Exists, OuterRef

from tests.testapp.models import Account, Contact, Dossier, Organization
from vault_fields.fields import ForContext

pytestmark = pytest.mark.django_db


@pytest.fixture
def first() -> Organization:
    tenants = [Organization.objects.create(workos_id=name) for name in ("org_a", "org_b")]
    for tenant in tenants:
        Contact.objects.create(organization=tenant, ssn="1", email="a@b", plain="1")
        Dossier.objects.create(organization=tenant, number="7")
        Account.objects.create(organization=tenant, number="5")
    return tenants[0]


def test_a_given_context_needs_nothing_of_the_query(first) -> None:
    for given in ({"organization_id": first.pk}, {"organization": first}, {"organization": str(first.pk)}):
        value = ForContext("1", **given)
        assert Contact.objects.get(ssn=value).organization == first
        assert Contact.objects.get(ssn__in=[value]).organization == first
    outer = Contact.objects.filter(organization=OuterRef("pk"), ssn=ForContext("1", organization=first))
    assert list(Organization.objects.filter(Exists(outer))) == [first]
    assert Account.objects.get(number=ForContext("5", organization=first)).organization == first
    assert not Contact.objects.filter(ssn=ForContext("1", organization_id=None)).exists()


def test_a_given_context_may_be_the_end_of_a_relation(first, django_assert_num_queries) -> None:
    with django_assert_num_queries(2):
        assert Dossier.objects.filter(number=ForContext("7", organization__workos_id="org_a")).count() == 1
    with django_assert_num_queries(3):
        assert Dossier.objects.filter(number=ForContext("7", organization=first)).count() == 1


def test_what_is_given_is_what_the_context_starts_from(first) -> None:
    for given, words in (
        ({}, "add organization_id"),
        ({"organization": first, "name": "x"}, "does not start from 'name'"),
        ({"organization": Organization()}, "not saved"),
        ({"organization_id": 1.5}, "cannot name a tenant"),
    ):
        with pytest.raises(FieldError, match=words):
            Contact.objects.filter(ssn=ForContext("1", **given)).count()
    with pytest.raises(FieldError, match="index over all tenants"):
        Contact.objects.filter(email=ForContext("a@b", organization=first))
    for nothing in (None, ForContext("1")):
        with pytest.raises(TypeError, match="takes a value to look for"):
            ForContext(nothing)


def test_the_value_leaves_neither_by_repr_nor_by_pickle(first) -> None:
    value = ForContext("078-05-1120", organization_id=17)
    assert repr(value) == "ForContext(<value>, organization_id=…)"
    assert copy.copy(value) is value is copy.deepcopy(value)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(value)
