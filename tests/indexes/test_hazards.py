"""Rows of another database, tables that routers leave out, and fixtures without the index keys of their rows."""

import pickle
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections, transaction
from django.db.utils import ConnectionHandler

from tests.testapp.models import Contact, Organization
from vault_fields.exceptions import IndexKeyMissing
from vault_fields.models import IndexKey

VALUES = {"organization_id": 1, "ssn": "078-05-1120", "email": "Ada@example.org"}
LOOKUPS = [{"organization": 1, "ssn": "078-05-1120"}, {"email": "ada@example.org"}]


@pytest.fixture
def other(db: None, tmp_path: Path) -> Iterator[str]:
    """A second database for these tests alone, without a table of index keys: always SQLite."""
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "other.sqlite3"}
    connection = ConnectionHandler({"default": {}, "other": engine})["other"]
    connection.connect()  # Django's test case forbids that to a database that it was not told of, by its alias.
    connections.settings["other"] = connection.settings_dict
    connections["other"] = connection
    try:
        with connection.schema_editor() as editor:
            for model in (Organization, Contact):
                editor.create_model(model)
        for alias in ("default", "other"):
            Organization.objects.using(alias).create(pk=1, workos_id="org_1")
        yield "other"
    finally:
        connection.close()
        del connections["other"], connections.settings["other"]


@pytest.fixture
def other_with_keys(other: str) -> str:
    with connections[other].schema_editor() as editor:
        editor.create_model(IndexKey)
    return other


def found(using: str = "default") -> list[int]:
    """How many rows each lookup finds."""
    return [Contact.objects.using(using).filter(**lookup).count() for lookup in LOOKUPS]


@pytest.mark.parametrize("is_opened", [False, True])
def test_a_row_that_was_read_here_is_found_where_it_is_saved(other_with_keys: str, is_opened: bool) -> None:
    other = other_with_keys
    made = Contact.objects.create(**VALUES)
    Contact.objects.using(other).create(pk=made.pk + 1, organization_id=1, ssn="another", email="another")
    row = Contact.objects.get()
    if is_opened:
        assert (row.ssn, row.email) == (VALUES["ssn"], VALUES["email"])
    row.save(using=other)
    assert found() == found(other) == [1, 1]
    here, there = (Contact.objects.using(alias).get(pk=made.pk) for alias in ("default", other))
    assert {here.ssn_index, here.email_index}.isdisjoint({there.ssn_index, there.email_index})

    # And back: the instance is that database's row now.
    row.save(using="default")
    assert found() == [1, 1]


def test_rows_that_are_created_in_bulk_elsewhere_are_found_there(other_with_keys: str) -> None:
    Contact.objects.create(**VALUES)
    Contact.objects.using(other_with_keys).bulk_create([*Contact.objects.all()])
    assert found() == found(other_with_keys) == [1, 1]


def test_a_database_without_the_table_says_how_to_get_it(other: str) -> None:
    """As one whose routers forbid vault_fields: migrate makes no table there."""
    Contact.objects.create(**VALUES)
    row = Contact.objects.get()
    message = r"The database 'other' has no table of index keys.* let the routers allow vault_fields"
    for work in (
        lambda: row.save(using=other),
        lambda: Contact.objects.using(other).create(**VALUES),
        lambda: Contact.objects.using(other).bulk_create([row]),
        lambda: found(other),
    ):
        with pytest.raises(ImproperlyConfigured, match=message):
            work()
    assert not Contact.objects.using(other).exists()
    assert found() == [1, 1]


@pytest.mark.django_db
def test_rows_of_a_fixture_without_their_index_keys_are_missed_until_hashes_are_made_anew(tmp_path: Path) -> None:
    Organization.objects.create(pk=1, workos_id="org_1")
    Contact.objects.create(**VALUES)
    path = tmp_path / "rows.json"
    call_command("dumpdata", "testapp.Contact", output=str(path), verbosity=0)
    old = Contact.objects.values_list("ssn_index", "email_index").get()
    Contact.objects.all().delete()
    IndexKey.objects.all().delete()
    call_command("loaddata", str(path), verbosity=0)
    assert Contact.objects.values_list("ssn_index", "email_index").get() == old
    for lookup in LOOKUPS:
        with pytest.raises(IndexKeyMissing, match="--rebuild"):
            Contact.objects.filter(**lookup).exists()
    with pytest.raises(IndexKeyMissing), transaction.atomic():
        Contact.objects.create(**VALUES)
    call_command("vault_index", "testapp.Contact", rebuild=True, stdout=StringIO())
    assert found() == [1, 1]
    assert {*Contact.objects.values_list("ssn_index", "email_index").get()}.isdisjoint(old)


@pytest.mark.django_db
def test_a_row_out_of_a_pickle_costs_the_statements_that_the_page_names(django_assert_num_queries) -> None:
    Organization.objects.create(pk=1, workos_id="org_1")
    Contact.objects.create(**VALUES)
    row = pickle.loads(pickle.dumps(Contact.objects.get()))
    # The update; the index keys once for the row, and for each of two values and two companions.
    with django_assert_num_queries(1 + 1 + 4):
        row.save()
    assert found() == [1, 1]
