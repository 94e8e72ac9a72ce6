"""Rows that hold plaintext alone, sealed without an instance for each: their cost, and what goes another way."""

import uuid
from contextlib import contextmanager
from unittest import mock

import pytest
from django.db import connection, models

from tests.testapp.models import Legacy, Organization, Reply, Thread, Token
from vault_fields.exceptions import VaultUnavailable
from vault_fields.fields.groups import group_of
from vault_fields.fields.newkeys import NewKeys
from vault_fields.rows import firstseal
from vault_fields.rows.backfill import encrypt_column
from vault_fields.rows.walk import StoredRows
from vault_fields.stored import companion
from vault_fields.vaults import vaults

TEXT = Legacy._meta.get_field("text")


@pytest.fixture
def tenants(db):
    return [Organization.objects.create(workos_id=f"org_{number}") for number in range(3)]


@pytest.fixture
def plain(tenants, execute):
    for number in range(12):
        tenant = tenants[number % 3]
        execute("INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, %s)", tenant.pk, f"text {number}")
    return [f"text {number}" for number in range(12)]


def texts():
    return list(Legacy.objects.order_by("pk").values_list("text", flat=True))


def calls():
    return vaults["default"].calls.copy()


def test_a_batch_costs_its_statements_and_a_tenant_one_instance(plain, django_assert_num_queries) -> None:
    # Read, lock and read again, write; SQLite takes its lock by a statement of its own. And the read of no rows.
    a_batch = 3 if connection.features.has_select_for_update else 4
    made = mock.Mock(side_effect=Legacy.from_db)
    before = calls()
    with mock.patch.object(Legacy, "from_db", made), django_assert_num_queries(2 * a_batch + 1):
        encrypt_column(TEXT, batch_size=6)
    assert made.call_count == 3
    assert calls() - before == {"create": 3}
    assert texts() == plain


def test_tenants_are_forgotten_where_there_are_many(plain, monkeypatch) -> None:
    monkeypatch.setattr(firstseal, "MAX_REMEMBERED", 1)
    encrypt_column(TEXT, batch_size=3)
    assert texts() == plain
    for row in Legacy.objects.all():
        assert companion.decode(row.text_keys).context == {"organization_id": str(row.organization_id)}


@pytest.mark.parametrize("method", ["prepare", "create_data_key"])
def test_a_vault_that_is_away_is_named_with_the_first_row(plain, monkeypatch, method) -> None:
    asked = mock.Mock(side_effect=VaultUnavailable("Nobody is there."))
    monkeypatch.setattr(vaults["default"], method, asked)
    first = Legacy.objects.order_by("pk").values_list("pk", flat=True)[0]
    with pytest.raises(VaultUnavailable, match=rf"testapp\.Legacy\.text \(pk={first}\): Nobody is there\."):
        encrypt_column(TEXT, on_problem=print)
    assert asked.call_count == 1


def test_what_lies_in_other_rows_is_followed_for_each_batch(tenants, execute, monkeypatch) -> None:
    text = Reply._meta.get_field("text")
    monkeypatch.setattr(text, "migrating", True)
    thread = Thread.objects.create(organization=tenants[0])
    for number in range(4):
        execute("INSERT INTO testapp_reply (thread_id, text) VALUES (%s, %s)", thread.pk, f"text {number}")

    @contextmanager
    def renaming(title, count):
        yield lambda done: Organization.objects.filter(pk=tenants[0].pk).update(workos_id="renamed")

    encrypt_column(text, batch_size=2, progress=renaming)

    found = [
        companion.decode(keys).context for keys in Reply.objects.order_by("pk").values_list("text_keys", flat=True)
    ]
    assert found == [{"organization_id": "org_0"}] * 2 + [{"organization_id": "renamed"}] * 2


def test_what_a_value_is_tied_to_is_its_own_rows(execute, monkeypatch, db) -> None:
    secret = Token._meta.get_field("secret")
    monkeypatch.setattr(secret, "migrating", True)
    tokens = [Token.objects.create(tenant=uuid.uuid4(), secret="sealed") for _ in range(3)]
    execute("UPDATE testapp_token SET secret = 'plain', secret_keys = NULL")
    encrypt_column(secret)
    assert [Token.objects.get(pk=token.pk).secret for token in tokens] == ["plain"] * 3


def test_values_beside_a_sealed_one_get_its_key(plain, execute) -> None:
    encrypt_column(TEXT)
    keys = list(Legacy.objects.order_by("pk").values_list("text_keys", flat=True))
    execute("UPDATE testapp_legacy SET text = 'put there' WHERE text_keys = %s", keys[0])
    encrypt_column(TEXT)
    assert texts() == ["put there" if keys[0] == each else text for each, text in zip(keys, plain, strict=True)]


def test_a_column_that_a_converter_loads_is_left_to_its_rows(db) -> None:
    class Spelled(models.CharField):
        def from_db_value(self, value, expression, connection):
            return value

    group = group_of(TEXT)
    first_seal = firstseal.FirstSeal(group, mock.Mock())
    assert first_seal.changes([]) == ([], [])
    with mock.patch.object(firstseal, "column_type", return_value=Spelled()):
        row = object()
        assert firstseal.FirstSeal(group, mock.Mock()).changes([row]) == ([], [row])


def test_a_value_that_stays_in_the_clear_is_left_to_its_row(plain, monkeypatch) -> None:
    monkeypatch.setattr(TEXT, "migrating", "read")
    (batch,) = StoredRows(group_of(TEXT), "default").batches(100)
    assert firstseal.FirstSeal(group_of(TEXT), NewKeys()).changes(batch) == ([], batch)


class Shifted(models.BigAutoField):
    """A key that shows another number than it stores, as one that hides how many rows there are."""

    def from_db_value(self, value, expression, connection):
        return value + 1

    def get_prep_value(self, value):
        return None if value is None else value - 1


def test_a_key_that_shows_another_number_names_its_own_row(plain, monkeypatch) -> None:
    monkeypatch.setattr(Legacy._meta.pk, "__class__", Shifted)
    encrypt_column(TEXT, batch_size=5)
    monkeypatch.undo()
    assert texts() == plain
