"""The tenant of a lookup is found in the query, or the lookup is refused; it is never guessed."""

import pytest
from django.core.exceptions import FieldError
from django.db import models
from django.db.models import Case, Count, Exists, IntegerField, OuterRef, Prefetch, Q, Subquery, Sum, Value, When
from django.test.utils import isolate_apps

from tests.testapp.models import Account, Contact, Dossier, Organization
from vault_fields.fields import EncryptedTextField, searching

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenants() -> tuple[Organization, Organization]:
    first, second = (Organization.objects.create(workos_id=name) for name in ("org_a", "org_b"))
    for tenant in (first, second):
        for ssn in ("1", "2", None):
            Contact.objects.create(organization=tenant, ssn=ssn, plain=ssn)
    return first, second


def found(queryset) -> list[tuple[str, str | None]]:
    return sorted(queryset.values_list("organization__workos_id", "plain"))


def test_the_tenant_may_be_named_anywhere_in_the_conjunction(tenants) -> None:
    first, _ = tenants
    wanted = [("org_a", "1")]
    assert found(Contact.objects.filter(organization=first, ssn="1")) == wanted
    assert found(Contact.objects.filter(ssn="1", organization_id=first.pk)) == wanted
    assert found(Contact.objects.filter(ssn="1").filter(organization__id=first.pk)) == wanted
    assert found(Contact.objects.filter(ssn="1").filter(organization__workos_id="org_b", organization=first)) == []
    assert found(Contact.objects.filter(ssn="1") & Contact.objects.filter(organization=first)) == wanted
    assert found(first.contacts.filter(ssn="1")) == wanted
    assert found(first.contacts.exclude(ssn="1").exclude(plain=None)) == [("org_a", "2")]
    assert first.contacts.exclude(ssn="1").count() == 2


def test_several_tenants_are_searched_together(tenants) -> None:
    first, second = tenants
    assert len(found(Contact.objects.filter(organization__in=[first, second], ssn__in=["1", "2"]))) == 4
    assert found(Contact.objects.filter(Q(organization=first, ssn="1") | Q(organization=second, ssn="2"))) == [
        ("org_a", "1"),
        ("org_b", "2"),
    ]
    assert found(Contact.objects.filter(Q(ssn="1") | Q(plain="2"), organization=second)) == [
        ("org_b", "1"),
        ("org_b", "2"),
    ]


def test_related_lookups_find_the_tenant_through_the_join(tenants) -> None:
    first, _ = tenants
    assert list(Organization.objects.filter(pk=first.pk, contacts__ssn="1")) == [first]
    assert list(Organization.objects.filter(contacts__organization=first, contacts__ssn="1")) == [first]
    assert (
        Organization.objects.filter(pk=first.pk).aggregate(n=Count("contacts", filter=Q(contacts__ssn="1")))["n"] == 1
    )
    (organization,) = Organization.objects.filter(pk=first.pk).annotate(
        n=Sum(Case(When(contacts__ssn="1", then=1), default=0, output_field=IntegerField()))
    )
    assert organization.n == 1
    prefetch = Prefetch("contacts", Contact.objects.filter(organization=first, ssn="2"))
    assert [each.plain for each in Organization.objects.prefetch_related(prefetch).get(pk=first.pk).contacts.all()] == [
        "2"
    ]
    inner = Contact.objects.filter(organization=OuterRef("pk"), ssn="1")
    with pytest.raises(FieldError, match="each tenant's own"):
        list(Organization.objects.filter(Exists(inner)))
    assert list(Organization.objects.filter(Exists(inner.filter(organization=first)))) == [first]
    assert (
        Organization.objects.filter(
            pk__in=Subquery(Contact.objects.filter(organization=first, ssn="1").values("organization"))
        ).get()
        == first
    )
    union = (
        Contact.objects.filter(organization=first, ssn="1")
        .only("pk")
        .union(Contact.objects.filter(organization=first, ssn="2").only("pk"))
    )
    assert len(union) == 2


def test_a_tenant_that_does_not_hold_for_the_lookup_does_not_count(tenants) -> None:
    first, _ = tenants
    for condition in (
        Q(ssn="1"),
        Q(ssn="1") | Q(organization=first),
        Q(ssn="1") & ~Q(organization=first),
        Q(ssn="1") ^ Q(organization=first),
        Q(ssn="1", organization__in=Organization.objects.filter(pk=first.pk)),
        Q(ssn="1", organization__gt=first.pk),
        Q(ssn="1", organization__workos_id="org_a"),
    ):
        with pytest.raises(FieldError, match="add organization_id to it by equality") as caught:
            list(Contact.objects.filter(condition))
        assert "'1'" not in str(caught.value)


def test_tables_that_joins_tie_to_one_tenant_share_it(tenants) -> None:
    first, _ = tenants
    assert list(Organization.objects.filter(contacts__plain="2").filter(pk=first.pk, contacts__ssn="1")) == [first]


def test_rows_without_a_tenant_and_more_tenants_than_are_searched(tenants) -> None:
    assert found(Contact.objects.filter(organization=None, ssn="1")) == []
    with pytest.raises(FieldError, match="looked up for 101 tenants, and at most 100"):
        list(Contact.objects.filter(organization__in=range(101), ssn="1"))


def test_a_context_behind_a_relation_costs_one_query_or_none(tenants, django_assert_num_queries) -> None:
    first, second = tenants
    for tenant in tenants:
        Dossier.objects.create(organization=tenant, number="7")
    with django_assert_num_queries(3):  # Organizations, index keys, rows.
        assert len(Dossier.objects.filter(organization__in=[first, second], number="7").values_list("pk")) == 2
    with django_assert_num_queries(2):
        assert Dossier.objects.filter(organization__workos_id="org_a", number="7").values_list(
            "organization"
        ).get() == (first.pk,)
    assert not Dossier.objects.filter(organization__in=[10**6, first.pk], number="8").exists()
    assert Dossier.objects.filter(organization__in=[10**6, first.pk], number="7").count() == 1
    with pytest.raises(FieldError, match="each tenant's own"):
        Dossier.objects.filter(number="7").count()


def test_columns_of_a_parents_table_fix_the_tenant(tenants) -> None:
    first, second = tenants
    for tenant in tenants:
        Account.objects.create(organization=tenant, number="5")
    assert Account.objects.get(organization=first, number="5").organization == first
    assert Account.objects.get(organization=second, number="5").organization == second
    with pytest.raises(FieldError, match="each tenant's own"):
        Account.objects.filter(number="5").count()


def test_conditions_of_updates_and_deletions_find_their_tenant(tenants) -> None:
    first, second = tenants
    assert Contact.objects.filter(organization=first, ssn="1").update(plain="changed") == 1
    assert Contact.objects.filter(organization=second, ssn="2").delete()[0] == 1
    assert found(Contact.objects.exclude(plain=None)) == [("org_a", "2"), ("org_a", "changed"), ("org_b", "1")]


def test_an_index_in_a_value_expression_is_refused(tenants) -> None:
    first, _ = tenants
    for condition in ({"ssn": Value("1")}, {"ssn__in": Contact.objects.values("plain")}):
        with pytest.raises(FieldError, match="takes values and not expressions"):
            Contact.objects.filter(organization=first, **condition)


@isolate_apps("tests.testapp")
def test_a_tenant_that_surrounds_the_query_has_to_be_there(monkeypatch) -> None:
    class Notice(models.Model):
        text = EncryptedTextField(key_context={"schema": lambda: surrounding[-1]}, index=True)

        class Meta:
            app_label = "testapp"

    # There is no such table.
    monkeypatch.setattr(searching, "require_never_used", lambda *args: None)
    surrounding: list[str | None] = ["org_a"]
    assert "text_index" in str(Notice.objects.filter(text="1").query)
    surrounding.append(None)
    with pytest.raises(FieldError, match="look it up where there is one"):
        str(Notice.objects.filter(text="1").query)
