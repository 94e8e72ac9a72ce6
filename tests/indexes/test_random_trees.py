"""Random conditions find the same rows by the index as by a twin column in the clear, or are refused."""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_, xor
from typing import Any

import pytest
from django.core.exceptions import FieldError
from django.db.models import Case, IntegerField, Q, When
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.testapp.models import Contact, Dossier, Organization, Pass, Reader, Town

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


@dataclass
class Table:
    """A table with a twin column, and the names that it has for those in the trees."""

    model: Any
    column: str
    names: dict[str, str]
    keys: dict[str, int] = field(default_factory=dict)

    def condition(self, tree: Any, column: str) -> Q:
        head, *rest = tree
        if head == "not":
            return ~self.condition(rest[0], column)
        if not isinstance(head, str):
            return reduce(head, (self.condition(each, column) for each in rest))
        name, value = head, rest[0]
        if name in {"organization", "organization__in", "organization__dossier__organization"}:
            value = self.keys[value] if isinstance(value, str) else [self.keys[each] for each in value]
        names = {"value": column, **self.names}
        return Q(**{"__".join(names.get(part, part) for part in name.split("__")): value})


@pytest.fixture
def full(db: None) -> Table:
    table = Table(Contact, "ssn", {})
    for name in TENANTS:
        tenant = Organization.objects.create(workos_id=name)
        table.keys[name] = tenant.pk
        for value in ("1", "2", None) if name != "c" else (None,):  # One tenant has no index key.
            Contact.objects.create(organization=tenant, ssn=value, plain=value)
    Dossier.objects.create(organization_id=table.keys["a"], number="1")
    return table


def truncated(column: str, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Return a table whose hashes all are one: every row fits every value, and those of other tenants."""
    monkeypatch.setattr(Reader._meta.get_field(f"{column}_index"), "bits", 0)
    table = Table(Reader, column, {"organization": "town", "dossier": "pass", "workos_id": "code"})
    for name in TENANTS:
        tenant = Town.objects.create(code=name)
        table.keys[name] = tenant.pk
        for value in ("1", "2", None) if name != "c" else (None,):
            Reader.objects.create(town=tenant, plain=value, **{column: value})
    Pass.objects.create(town_id=table.keys["a"], code="1")
    return table


def rows(table: Table, where: Q, tenant: int | None, is_case: bool) -> list[int]:
    queryset = table.model.objects.all()
    if tenant is not None:
        queryset = queryset.filter(**{table.names.get("organization", "organization"): tenant})
    if not is_case:
        return sorted(queryset.filter(where).values_list("pk", flat=True))
    hit = Case(When(where, then=1), default=0, output_field=IntegerField())
    return sorted(queryset.annotate(hit=hit).filter(hit=1).values_list("pk", flat=True))


def compare(table: Table, tree: Any, tenant: str | None, is_case: bool) -> None:
    key = None if tenant is None else table.keys[tenant]
    wanted = rows(table, table.condition(tree, "plain"), key, is_case)
    with suppress(FieldError):  # Refused: that is never wrong.
        assert rows(table, table.condition(tree, table.column), key, is_case) == wanted


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=trees, tenant=st.none() | st.sampled_from(TENANTS), is_case=st.booleans())
def test_the_index_finds_what_the_twin_column_finds(full, tree, tenant, is_case) -> None:
    compare(full, tree, tenant, is_case)


@pytest.mark.parametrize("column", ["card", "pin"])
def test_truncated_hashes_find_what_the_twin_column_finds(column, db, monkeypatch) -> None:
    table = truncated(column, monkeypatch)

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(tree=trees, tenant=st.none() | st.sampled_from(TENANTS), is_case=st.booleans())
    def search(tree: Any, tenant: str | None, is_case: bool) -> None:
        compare(table, tree, tenant, is_case)

    search()
