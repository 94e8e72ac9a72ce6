"""Blind indexes where each tenant has a schema: index keys are beside the rows that they serve, in each schema."""

import io
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django_tenants.utils import schema_context

from tests.tenants.clinic.models import Member
from tests.tenants.shared.models import Tenant
from vault_fields.exceptions import IndexKeyMissing
from vault_fields.models import IndexKey

# In both schemas the same values, of a ward of the same name: of each index but that of the badge the keys have the
# same names.
SAME = {"ward": "north", "phone": "555-0199", "email": "ada@example.org", "badge": "7"}
LOOKUPS = [{"ward": "north", "phone": "555-0199"}, {"email": "ada@example.org"}, {"badge": "7"}]


@pytest.fixture
def tenants(transactional_db: None) -> Iterator[list[str]]:
    """Two schemas, made by their migrations, and a member of each."""
    made = [Tenant.objects.create(schema_name=name) for name in ("acme", "bolt")]
    for tenant in made:
        with schema_context(tenant.schema_name):
            Member.objects.create(name=f"of {tenant.schema_name}", **SAME)
    yield [tenant.schema_name for tenant in made]
    connection.set_schema_to_public()  # Which tenant_command does not.
    for tenant in made:
        tenant.delete(force_drop=True)


def found() -> list[list[str]]:
    """The names that each lookup finds in the schema of the connection."""
    return [[*Member.objects.filter(**lookup).values_list("name", flat=True)] for lookup in LOOKUPS]


def hashes(schema: str) -> list[tuple]:
    with schema_context(schema):
        return [*Member.objects.values_list("phone_index", "email_index", "badge_index")]


def test_migrations_make_the_table_of_index_keys_in_each_schema(tenants: list[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_schema FROM information_schema.tables WHERE table_name = %s ORDER BY 1",
            [IndexKey._meta.db_table],
        )
        assert cursor.fetchall() == [("acme",), ("bolt",), ("public",)]
    assert not IndexKey.objects.exists()
    for name in tenants:
        with schema_context(name):
            assert IndexKey.objects.count() == 3


def test_each_schema_finds_its_own_rows_under_keys_of_its_own(tenants: list[str]) -> None:
    for name in tenants:
        with schema_context(name):
            assert found() == [[f"of {name}"]] * len(LOOKUPS)
    ((acme,), (bolt,)) = map(hashes, tenants)
    assert {*acme}.isdisjoint(bolt)
    with schema_context("acme"):
        Member.objects.all().delete()
        assert found() == [[]] * len(LOOKUPS)
    with schema_context("bolt"):
        assert found() == [["of bolt"]] * len(LOOKUPS)


def test_values_are_unique_in_each_schema(tenants: list[str]) -> None:
    for name in tenants:
        with schema_context(name):
            for taken in ("email", "badge"):
                values = SAME | {"email": "other@example.org", "badge": "8"} | {taken: SAME[taken]}
                with pytest.raises(IntegrityError), transaction.atomic():
                    Member.objects.create(name="second", **values)
            assert Member.objects.update_or_create(badge="7", defaults={"name": "renamed"})[1] is False
            assert Member.objects.get().name == "renamed"


def test_a_row_that_is_saved_in_another_schema_is_found_there_if_its_context_names_the_schema(
    tenants: list[str],
) -> None:
    out = io.StringIO()
    with schema_context("acme"):
        row = Member.objects.get()
    with schema_context("bolt"):
        Member.objects.all().delete()
        row.save()
        # Nothing tells that the phone's hash was read in another schema: see docs/contexts.md.
        assert found() == [[], ["of acme"], ["of acme"]]
        call_command("vault_index", "clinic.Member", stdout=out)
        assert found() == [["of acme"]] * len(LOOKUPS)


def test_lost_index_keys_of_one_schema_are_missed_there_alone(tenants: list[str]) -> None:
    out = io.StringIO()
    with schema_context("acme"):
        IndexKey.objects.all().delete()
        for lookup in LOOKUPS:
            with pytest.raises(IndexKeyMissing):
                Member.objects.filter(**lookup).exists()
    with schema_context("bolt"):
        assert found() == [["of bolt"]] * len(LOOKUPS)
    before = hashes("bolt")
    call_command("tenant_command", "vault_index", "clinic.Member", "--rebuild", schema_name="acme", stdout=out)
    with schema_context("acme"):
        assert found() == [["of acme"]] * len(LOOKUPS)
    assert hashes("bolt") == before


def test_index_keys_are_rotated_in_one_schema(tenants: list[str]) -> None:
    out, ((acme,), (bolt,)) = io.StringIO(), map(hashes, tenants)
    with schema_context("acme"):
        call_command("vault_index", "--rotate", "--offline", stdout=out)
        assert found() == [["of acme"]] * len(LOOKUPS)
    assert {*hashes("acme")[0]}.isdisjoint(acme)
    assert hashes("bolt") == [bolt]
    with schema_context("bolt"):
        assert found() == [["of bolt"]] * len(LOOKUPS)
        call_command("vault_index", "clinic.Member", "--verify", stdout=out)
