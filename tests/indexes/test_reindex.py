"""``vault_index`` gives rows their hashes, finds wrong ones, and leaves rows alone that do not open."""

from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.testapp.models import Contact, Organization
from vault_fields.fields.groups import groups_of
from vault_fields.models import IndexKey
from vault_fields.rows import reindex
from vault_fields.rows.reindex import reindex_group

pytestmark = pytest.mark.django_db


@pytest.fixture
def contacts() -> list[Contact]:
    tenants = [Organization.objects.create(workos_id=name) for name in ("org_a", "org_b")]
    return [Contact.objects.create(organization=tenant, ssn=ssn) for tenant in tenants for ssn in ("1", "2", None)]


def indexed(*names: str, **options: object) -> str:
    out = StringIO()
    call_command("vault_index", "testapp.Contact", *names, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def forget_hashes(**values: object) -> None:
    """Change hashes as only the database can."""
    table = connection.ops.quote_name(Contact._meta.db_table)
    field = Contact._meta.get_field("ssn_index")
    with connection.cursor() as cursor:
        for pk, value in values.items():
            given = field.get_db_prep_value(value, connection)
            cursor.execute(f"UPDATE {table} SET ssn_index = %s WHERE id = %s", [given, int(pk[2:])])


def test_hashes_that_are_missing_or_wrong_are_written(contacts) -> None:
    forget_hashes(**{f"pk{contacts[0].pk}": None, f"pk{contacts[1].pk}": uuid4(), f"pk{contacts[3].pk}": None})
    assert "1 row has its hash, 2 missing and 1 wrong would be written" in indexed("ssn", dry_run=True)
    assert "1 row has its hash, 2 missing and 1 wrong written, 0 failed" in indexed("ssn", batch_size=2)
    assert "4 rows have their hashes, 0 missing and 0 wrong" in indexed()
    assert Contact.objects.get(organization=contacts[0].organization, ssn="1") == contacts[0]


def test_lost_index_keys_are_replaced_on_demand(contacts) -> None:
    IndexKey.objects.all().delete()
    with pytest.raises(CommandError, match="4 rows were left alone"):
        indexed("ssn")
    assert "0 rows have their hashes, 0 missing and 4 wrong written" in indexed("ssn", rebuild=True)
    assert Contact.objects.get(organization=contacts[4].organization, ssn="2") == contacts[4]


def test_a_row_that_does_not_open_is_left_alone(contacts) -> None:
    forget_hashes(**{f"pk{each.pk}": None for each in contacts})
    table = connection.ops.quote_name(Contact._meta.db_table)
    moved = [contacts[3].organization_id, contacts[0].pk]
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET organization_id = %s WHERE id = %s", moved)
    with pytest.raises(CommandError, match="1 row was left alone"):
        indexed("ssn")
    assert Contact.objects.exclude(ssn_index=None).count() == 3


def test_a_row_that_is_written_meanwhile_is_looked_at_again(contacts, monkeypatch) -> None:
    forget_hashes(**{f"pk{each.pk}": None for each in contacts})
    write = reindex.StoredRows.write
    others = [lambda: Contact.objects.filter(pk=contacts[0].pk).update(ssn="changed")]

    def after_another(self, names, changes):
        if others:
            others.pop()()
        return write(self, names, changes)

    monkeypatch.setattr(reindex.StoredRows, "write", after_another)
    (group,) = (group for group in groups_of(Contact) if group.companion == "ssn_keys")
    problems: list[str] = []
    report = reindex_group(group, on_problem=problems.append)
    assert (report.right, report.missing, report.wrong, problems) == (1, 3, 0, [])
    assert Contact.objects.get(organization=contacts[0].organization, ssn="changed") == contacts[0]


def test_only_indexed_fields_are_named(contacts) -> None:
    with pytest.raises(CommandError, match="None of these fields has an index"):
        call_command("vault_index", "testapp.Patient")
