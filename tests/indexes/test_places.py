"""The place of a lookup in its query decides which tenants count for it: each condition is judged where it stands."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldError
from django.db import connection, models
from django.db.models import Case, Count, Exists, F, FilteredRelation, OuterRef, Q, QuerySet, Value, When, Window
from django.db.models.functions import Coalesce, RowNumber
from django.db.models.lookups import Exact
from django.test.utils import isolate_apps

from tests.testapp.models import Contact, Organization, Thread
from vault_fields.exceptions import KeyContextError
from vault_fields.fields import EncryptedTextField, context_from, searching

pytestmark = pytest.mark.django_db


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> Callable[[QuerySet[Any]], set[tuple[str, ...]]]:
    """Compile a queryset and return the values of the contexts in which its lookups search."""
    found: list[Any] = []
    original = searching.contexts_in_query

    def record(*args: Any) -> Any:
        contexts = original(*args)
        found.extend(contexts)
        return contexts

    monkeypatch.setattr(searching, "contexts_in_query", record)
    # Some of the tables are not there.
    monkeypatch.setattr(searching, "require_never_used", lambda *args: None)

    def compiled(queryset: QuerySet[Any]) -> set[tuple[str, ...]]:
        found.clear()
        queryset.query.get_compiler(connection=connection).as_sql()
        return {tuple(context.values()) for context in found}

    return compiled


@pytest.fixture
def isolated() -> Iterator[None]:
    """Models of the test are not among those of the suite."""
    with isolate_apps("tests.testapp"):
        yield


@pytest.fixture
def tenants() -> tuple[Organization, Organization]:
    first, second = (Organization.objects.create(workos_id=name) for name in ("org_a", "org_b"))
    for tenant in (first, second):
        for ssn in ("1", "2", None):
            Contact.objects.create(organization=tenant, ssn=ssn, plain=ssn)
    return first, second


def found(queryset: QuerySet[Any]) -> list[tuple[str, str | None]]:
    return sorted(queryset.values_list("organization__workos_id", "plain"))


def refused(queryset: QuerySet[Any]) -> None:
    with pytest.raises(FieldError, match="does not say whose rows"):
        list(queryset)


def hits(condition: Q) -> list[tuple[int, int]]:
    hit = Case(When(condition, then=1), default=0, output_field=models.IntegerField())
    return sorted(Contact.objects.annotate(hit=hit).values_list("pk", "hit"))


def test_a_condition_that_two_combined_queries_share_searches_for_the_tenants_of_both(tenants) -> None:
    first, second = tenants
    shared = Contact.objects.filter(ssn="1")
    assert found(shared.filter(organization=first) | shared.filter(organization=second)) == [
        ("org_a", "1"),
        ("org_b", "1"),
    ]


def test_a_condition_that_two_combined_queries_share_needs_a_tenant_in_both(tenants) -> None:
    shared = Contact.objects.filter(ssn="1")
    refused(shared.filter(organization=tenants[0]) | shared.filter(plain="1"))


def test_a_related_row_that_is_missing_does_not_say_that_the_row_has_no_tenant(tenants) -> None:
    rows = Contact.objects.filter(organization__dossier__organization__isnull=True, ssn="1")
    refused(rows)
    assert found(rows.filter(organization=tenants[0])) == [("org_a", "1")]


def test_a_condition_on_a_missing_row_is_neither_true_nor_false_under_not(tenants) -> None:
    first, _ = tenants
    assert hits(~Q(organization__dossier__organization=first, ssn="1")) == hits(
        ~Q(organization__dossier__organization=first, plain="1")
    )


def test_a_condition_inside_of_a_case_has_its_tenant_beside_it(tenants) -> None:
    first, second = tenants
    assert hits(Q(organization=first, ssn="1") | Q(organization=second, ssn="2")) == hits(
        Q(organization=first, plain="1") | Q(organization=second, plain="2")
    )
    with pytest.raises(FieldError, match="does not say whose rows"):
        hits(Q(ssn="1"))
    counts = Organization.objects.annotate(
        n=Count("contacts", filter=Q(contacts__organization=first, contacts__ssn="1"))
    )
    assert list(counts.order_by("workos_id").values_list("n", flat=True)) == [1, 0]
    assert list(counts.filter(n__gt=0)) == [first]


def test_rows_are_updated_by_a_case_with_its_own_tenant(tenants) -> None:
    first, _ = tenants
    Contact.objects.update(plain=Case(When(organization=first, ssn="1", then=Value("changed")), default=F("plain")))
    assert found(Contact.objects.filter(plain="changed")) == [("org_a", "changed")]


def test_an_ordering_is_about_the_tenants_of_its_query(tenants) -> None:
    order = Case(When(ssn="1", then=1), default=0)
    assert tenants[0].contacts.order_by(order.desc(), "plain")[0].plain == "1"
    refused(Contact.objects.order_by(order))


def test_a_window_is_about_more_rows_than_the_one_beside_it(tenants) -> None:
    first, _ = tenants
    ones = Window(Count("pk", filter=Q(ssn="1")))
    assert {each.n for each in Contact.objects.filter(organization=first).annotate(n=ones)} == {1}
    refused(Contact.objects.annotate(n=ones).filter(Q(organization=first, n__gt=0) | Q(plain="none")))
    ranked = Contact.objects.annotate(rank=Window(RowNumber(), order_by="pk"))
    assert found(ranked.filter(organization=first, ssn="1", rank__gt=0)) == [("org_a", "1")]


def test_a_lookup_beside_a_window_under_or_is_refused_in_words(tenants) -> None:
    ranked = Contact.objects.annotate(rank=Window(RowNumber(), order_by="pk"))
    with pytest.raises(FieldError, match="beside a window function"):
        list(ranked.filter(Q(organization=tenants[0], ssn="1") | Q(rank=1)))


def test_a_joined_row_has_the_tenant_of_the_condition_that_joins_it(tenants) -> None:
    first, second = tenants
    condition = Q(contacts__ssn="1", contacts__organization=first)
    rows = Organization.objects.annotate(mine=FilteredRelation("contacts", condition=condition))
    assert list(rows.filter(mine__plain="1")) == [first]
    assert list(rows.filter(mine__organization__isnull=True)) == [second]


def test_a_row_that_is_left_out_of_a_join_is_not_one_without_a_tenant(tenants) -> None:
    rows = Organization.objects.annotate(mine=FilteredRelation("contacts", condition=Q(contacts__ssn="1")))
    assert list(rows.filter(pk=tenants[0].pk, mine__plain="1")) == [tenants[0]]
    refused(rows.filter(mine__organization__isnull=True))


def test_a_subquery_says_its_own_tenant(tenants) -> None:
    first, _ = tenants
    inner = Contact.objects.filter(organization=OuterRef("organization"), ssn="1")
    refused(Contact.objects.filter(Exists(inner), organization=first))
    assert len(Contact.objects.filter(Exists(inner.filter(organization=first)))) == 3
    shared = Contact.objects.filter(organization=first, ssn="1")
    assert found(shared.filter(pk__in=shared)) == [("org_a", "1")]
    # An alias that is another row of the same tenant.
    assert found(first.contacts.filter(organization__contacts__ssn="2", ssn="1")) == [("org_a", "1")]


@pytest.mark.parametrize("combine", [lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a ^ b])
def test_querysets_combine_with_their_tenants(tenants, combine) -> None:
    first, second = tenants
    others = Contact.objects.filter(organization=second)
    assert found(combine(first.contacts.filter(ssn="1"), others.filter(ssn__in=["1", "2"]))) == found(
        combine(first.contacts.filter(plain="1"), others.filter(plain__in=["1", "2"]))
    )


def test_only_what_djangos_own_lookups_say_by_value_fixes_a_tenant(contexts, tenants) -> None:
    first, _ = tenants

    class Loosely(Exact):
        """Equality as a project may define it."""

        def as_sql(self, compiler: Any, connection: Any) -> Any:
            return "1 = 1", []

    key = Contact._meta.get_field("organization").get_col("testapp_contact")
    loosely = Loosely(key, first.pk)
    with pytest.raises(FieldError, match="does not say whose rows"):
        contexts(Contact.objects.filter(loosely, ssn="1"))
    for condition in (Q(organization=F("pk")), Q(Exact(Coalesce("organization_id", 0), first.pk)), Q(Exists(inner()))):
        with pytest.raises(FieldError, match="does not say whose rows"):
            contexts(Contact.objects.filter(condition, ssn="1"))
    assert contexts(Contact.objects.filter(organization__in=[None, first.pk, first.pk], ssn="1")) == {(str(first.pk),)}


def inner() -> QuerySet[Any]:
    return Contact.objects.filter(pk=1)


def test_the_columns_of_a_function_are_all_needed(contexts, isolated) -> None:
    @context_from("tenant", "kind")
    def by_kind(row: Any) -> dict[str, str]:
        if row.tenant == "gone":
            raise Organization.DoesNotExist
        if row.tenant == "nobody":
            raise KeyContextError("nobody has a key")
        return {"tenant": row.tenant, "kind": row.kind or "general"}

    @context_from("tenant")
    def careless(row: Any) -> dict[str, str]:
        return {"tenant": row.tenant, "kind": row.kind}

    class Choice(models.Model):
        tenant = models.CharField(max_length=20)
        kind = models.CharField(max_length=20, null=True)
        text = EncryptedTextField(key_context=by_kind, index=True)
        other = EncryptedTextField(key_context=careless, index=True)

        class Meta:
            app_label = "testapp"
            db_table = "testapp_setting"

    rows = Choice.objects
    assert contexts(rows.filter(tenant="a", kind="k", text="1")) == {("k", "a")}
    assert contexts(rows.filter(tenant__in=["a", "b"], kind=None, text="1")) == {("general", "a"), ("general", "b")}
    assert contexts(rows.filter(tenant__in=["gone", "nobody"], kind="k", text="1")) == set()
    assert contexts(rows.exclude(tenant="a", kind="k", text="1")) == {("k", "a")}
    for condition, missing in (
        (Q(tenant="a", text="1"), "kind"),
        (Q(tenant__in=[F("kind"), "a"], kind="k", text="1"), "tenant"),
        # A row without a kind has a value all the same, and then the condition on its kind is neither true nor false.
        (Q(tenant="a", kind="k", text="1") ^ Q(pk=1), "kind"),
    ):
        with pytest.raises(FieldError, match=f"add {missing} to it"):
            contexts(rows.filter(condition))
    with pytest.raises(FieldError, match="does not declare"):
        contexts(rows.filter(tenant="a", other="1"))


def test_a_context_behind_two_relations_is_taken_from_the_nearest_end(
    contexts, isolated, tenants, django_assert_num_queries
) -> None:
    class Answer(models.Model):
        thread = models.ForeignKey(Thread, on_delete=models.CASCADE)
        text = EncryptedTextField(key_context={"tenant": "thread__organization__workos_id"}, index=True)

        class Meta:
            app_label = "testapp"
            db_table = "testapp_reply"

    thread = Thread.objects.create(organization=tenants[1])
    for condition, queries in (
        ({"thread__organization__workos_id": "org_b"}, 1),
        ({"thread__organization": tenants[1]}, 2),
        ({"thread": thread}, 2),
        ({"thread__in": [thread.pk, 0]}, 2),
    ):
        with django_assert_num_queries(queries):  # The last is that for the index keys.
            assert contexts(Answer.objects.filter(text="1", **condition)) == {("org_b",)}
    refused(Answer.objects.filter(text="1", thread__organization__region="eu"))


def test_a_join_of_two_types_does_not_make_their_texts_equal(isolated) -> None:
    class Topic(models.Model):
        notes = GenericRelation("Note")

        class Meta:
            app_label = "testapp"

    class Note(models.Model):
        content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
        object_id = models.CharField(max_length=20)
        topic = GenericForeignKey()
        text = EncryptedTextField(key_context=["object_id"], index=True)

        class Meta:
            app_label = "testapp"

    refused(Topic.objects.filter(pk=1, notes__text="1"))
