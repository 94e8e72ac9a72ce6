"""Random conditions find the same rows by the index as by a twin column in the clear, or are refused."""

from contextlib import suppress
from functools import reduce
from operator import and_, or_, xor
from typing import Any

import pytest
from django.core.exceptions import FieldError
from django.db.models import Case, IntegerField, Q, When
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.testapp.models import Contact, Dossier, Organization

pytestmark = pytest.mark.django_db

TENANTS = "abc"
leaves = st.one_of(
    st.tuples(st.just("value"), st.sampled_from("123")),
    st.tuples(st.just("value__in"), st.lists(st.sampled_from("123"), min_size=1, max_size=2)),
    st.tuples(st.just("value__isnull"), st.booleans()),
    st.tuples(st.just("organization__workos_id"), st.sampled_from(TENANTS)),
    st.tuples(st.sampled_from(["organization", "organization__dossier__organization"]), st.sampled_from(TENANTS)),
    st.tuples(st.just("organization__in"), st.lists(st.sampled_from(TENANTS), min_size=1, max_size=2)),
    st.tuples(st.just("organization__dossier__organization__isnull"), st.booleans()),
)
# Most of the trees need a tenant somewhere, or all would be refused.
tied = st.tuples(st.just(and_), st.tuples(st.just("organization"), st.sampled_from(TENANTS)), leaves)
trees = st.recursive(
    leaves | tied,
    lambda inner: st.tuples(st.sampled_from([and_, or_, xor]), inner, inner) | st.tuples(st.just("not"), inner),
    max_leaves=6,
)


@pytest.fixture
def keys(db: None) -> dict[str, int]:
    keys = {}
    for name in TENANTS:
        tenant = Organization.objects.create(workos_id=name)
        keys[name] = tenant.pk
        for value in ("1", "2", None) if name != "c" else (None,):  # One tenant has no index key.
            Contact.objects.create(organization=tenant, ssn=value, plain=value)
    Dossier.objects.create(organization_id=keys["a"], number="1")
    return keys


def condition(tree: Any, column: str, keys: dict[str, int]) -> Q:
    head, *rest = tree
    if head == "not":
        return ~condition(rest[0], column, keys)
    if not isinstance(head, str):
        return reduce(head, (condition(each, column, keys) for each in rest))
    name, value = head, rest[0]
    if name in {"organization", "organization__in", "organization__dossier__organization"}:
        value = keys[value] if isinstance(value, str) else [keys[each] for each in value]
    return Q(**{name.replace("value", column): value})


def rows(where: Q, tenant: int | None, is_case: bool) -> list[int]:
    queryset = Contact.objects.all()
    if tenant is not None:
        queryset = queryset.filter(organization=tenant)
    if not is_case:
        return sorted(queryset.filter(where).values_list("pk", flat=True))
    hit = Case(When(where, then=1), default=0, output_field=IntegerField())
    return sorted(queryset.annotate(hit=hit).filter(hit=1).values_list("pk", flat=True))


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=trees, tenant=st.none() | st.sampled_from(TENANTS), is_case=st.booleans())
def test_the_index_finds_what_the_twin_column_finds(keys, tree, tenant, is_case) -> None:
    key = None if tenant is None else keys[tenant]
    wanted = rows(condition(tree, "plain", keys), key, is_case)
    with suppress(FieldError):  # Refused: that is never wrong.
        assert rows(condition(tree, "ssn", keys), key, is_case) == wanted
