"""Hashes follow their rows: to another key context by a rekey, and to another tenant by every kind of write."""

from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.testapp.models import Contact, Dossier, Organization
from vault_fields.exceptions import ValueRefused
from vault_fields.fields.groups import groups_of
from vault_fields.models import IndexKey
from vault_fields.rows.rekey import rekey_group
from vault_fields.rows.rewriting import convert_column
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


@pytest.fixture
def first() -> Organization:
    return Organization.objects.create(workos_id="org_a")


@pytest.fixture
def second() -> Organization:
    return Organization.objects.create(workos_id="org_b")


def rekey(**options: object) -> str:
    out = StringIO()
    call_command("vault_rekey", "testapp.Dossier", stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def found(organization: Organization, number: str) -> int:
    return Dossier.objects.filter(organization=organization, number=number).count()


def test_a_rekey_to_another_context_makes_the_hashes_of_that_context(first) -> None:
    for number in ("1", "2", "1"):
        Dossier.objects.create(organization=first, number=number)
    Organization.objects.update(workos_id="org_z")
    assert found(first, "1") == 0
    before = dict(vaults["default"].calls)
    assert "3 rekeyed" in rekey(accept_redirected=True)
    assert vaults["default"].calls["create"] - before["create"] == 1  # The index key of the new context.
    assert (found(first, "1"), found(first, "2")) == (2, 1)
    assert "0 rekeyed" in rekey()


def test_rows_of_a_context_are_written_while_others_are_not_rekeyed_yet(first) -> None:
    Dossier.objects.create(organization=first, number="1")
    Organization.objects.update(workos_id="org_z")
    Dossier.objects.create(organization=Organization.objects.get(), number="1")
    assert found(first, "1") == 1
    rekey(accept_redirected=True)
    assert found(first, "1") == 2


def test_a_rekey_that_keeps_the_context_leaves_the_hashes_alone(first) -> None:
    dossier = Dossier.objects.create(organization=first, number="1")
    rekey(rewrap=True)
    dossier.refresh_from_db()
    again = Dossier.objects.get()
    assert again.number_index == dossier.number_index
    assert found(first, "1") == 1


def test_a_moved_row_gets_the_hash_of_its_new_tenant(first, second, move) -> None:
    Dossier.objects.create(organization=first, number="1")
    Dossier.objects.create(organization=second, number="2")
    move(Dossier, second)
    assert "1 re-encrypted" in rekey(accept_moved=True)
    assert (found(first, "1"), found(second, "1"), found(second, "2")) == (0, 1, 1)


def test_a_row_whose_hash_cannot_be_made_is_left_alone(first, monkeypatch) -> None:
    Dossier.objects.create(organization=first, number="1")
    Dossier.objects.create(organization=first, number="two")
    Organization.objects.update(workos_id="org_z")

    def fail(text: str) -> str:
        return str(int(text))

    monkeypatch.setattr(Dossier._meta.get_field("number_index"), "normalize", fail)
    (group,) = groups_of(Dossier)
    problems: list[str] = []
    report = rekey_group(group, accept_redirected=True, on_problem=problems.append)
    assert (report.rekeyed, report.failed) == (1, 1)
    assert "the normalization of its index 'number_index' failed (ValueError)" in problems[0]
    assert "two" not in problems[0]
    with pytest.raises(CommandError, match="1 row was left alone"):
        rekey(accept_redirected=True)


def test_a_converted_value_gets_a_hash_of_what_it_is_now(first) -> None:
    Dossier.objects.create(organization=first, number="a")
    problems: list[str] = []
    convert_column(Dossier._meta.get_field("number"), str.upper, on_problem=problems.append)
    assert not problems
    assert (found(first, "a"), found(first, "A")) == (0, 1)


def test_every_way_to_move_a_row_gives_it_the_hash_of_its_new_tenant(first, second) -> None:
    def contact() -> Contact:
        return Contact.objects.create(organization=first, ssn="1", email="e")

    saved, named, updated, bulk = contact(), contact(), contact(), Contact.objects.get(pk=contact().pk)
    saved.organization = second
    saved.save()
    named.organization = second
    named.save(update_fields=["organization"])
    Contact.objects.filter(pk=updated.pk).update(organization=second)
    bulk.organization = second
    Contact.objects.bulk_update([bulk], ["organization"])
    assert Contact.objects.filter(organization=second, ssn="1").count() == 4
    assert not Contact.objects.filter(organization=first, ssn="1").exists()
    assert Contact.objects.filter(email="E").count() == 4
    bulk.ssn = None
    bulk.save()
    bulk.ssn = "1"
    bulk.organization = first
    bulk.save()
    assert Contact.objects.filter(organization=first, ssn="1").get() == bulk


def test_a_row_of_a_tenant_that_is_deleted_gets_the_hash_of_the_next_one(first, second) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    Contact.objects.filter(organization__workos_id="org_a").update(organization=second.pk)
    first.delete()
    assert Contact.objects.get(organization=second, ssn="1") == contact


def test_a_value_and_a_foreign_hash_are_told_by_the_command(first) -> None:
    Contact.objects.create(organization=first, ssn="1")
    Contact.objects.create(organization=first)
    table = connection.ops.quote_name(Contact._meta.db_table)
    given = Contact._meta.get_field("ssn_index").get_db_prep_value(uuid4(), connection)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET ssn_index = %s WHERE ssn IS NULL", [given])
    out = StringIO()
    call_command("vault_index", "testapp.Contact", "ssn", stdout=out)
    assert "1 row has its hash, 0 missing and 1 wrong written" in out.getvalue()
    assert Contact.objects.get(ssn=None).ssn_index is None


def test_a_dry_run_makes_no_index_key(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    IndexKey.objects.all().delete()
    out = StringIO()
    call_command("vault_index", "testapp.Contact", "ssn", stdout=out, dry_run=True)
    assert "0 missing and 1 wrong would be written" in out.getvalue()
    assert not IndexKey.objects.exists()
    contact.refresh_from_db()
    assert contact.ssn == "1"


def test_a_refused_normalization_is_an_error_of_its_row(first, monkeypatch) -> None:
    monkeypatch.setattr(Dossier._meta.get_field("number_index"), "normalize", int)
    with pytest.raises(ValueRefused, match=r"index 'number_index' failed \(ValueError\)"):
        Dossier.objects.create(organization=first, number="two")
