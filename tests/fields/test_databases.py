"""Several databases: what a row is encrypted for, and written with, is what stands in the one that it is written to."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from django.db import connections
from django.db.utils import ConnectionHandler
from django.forms import modelform_factory
from django.test import override_settings

from tests.testapp.models import Document, Letter, Organization
from vault_fields.admin.forms import closing
from vault_fields.exceptions import KeyContextError
from vault_fields.stored import companion


class ReadReplica:
    def db_for_read(self, model, **hints) -> str:
        return "other"

    def db_for_write(self, model, **hints) -> str:
        return "default"

    def allow_relation(self, *args, **hints) -> bool:
        return True


@pytest.fixture
def other(db: None, tmp_path: Path) -> Iterator[str]:
    """A second database for these tests alone: always SQLite, whatever the first one is."""
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "other.sqlite3"}
    connection = ConnectionHandler({"default": {}, "other": engine})["other"]
    connection.connect()  # Django's test case forbids that to a database that it was not told of, by its alias.
    connections.settings["other"] = connection.settings_dict
    connections["other"] = connection
    try:
        with connection.schema_editor() as editor:
            for model in (Organization, Document, Letter):
                editor.create_model(model)
        for alias in ("default", "other"):
            for number in (1, 2):
                Organization.objects.using(alias).create(pk=number, workos_id=f"org_{number}")
        yield "other"
    finally:
        connection.close()
        del connections["other"], connections.settings["other"]


def letter(pk: int, using: str, **values: object) -> Letter:
    row = Letter(pk=pk, organization_id=1, **values)
    row.save(using=using)
    return row


def values(pk: int, using: str) -> tuple:
    row = Letter.objects.using(using).get(pk=pk)
    return row.subject, row.text


def test_what_a_save_does_not_name_stays_as_it_is_where_it_is_saved(other) -> None:
    letter(1, "default", subject="here", text=["here"])
    letter(1, other, subject="old", text=["precious"])
    Letter(pk=1, organization_id=1, subject="new").save(using=other, update_fields=["subject"])
    assert values(1, other) == ("new", ["precious"])
    assert values(1, "default") == ("here", ["here"])


def test_what_a_bulk_update_does_not_name_stays_as_it_is_where_it_is_saved(other) -> None:
    letter(1, "default", subject="here", text=["here"])
    letter(1, other, subject="old", text=["precious"])
    Letter.objects.using(other).bulk_update([Letter(pk=1, organization_id=1, subject="new")], ["subject"])
    assert values(1, other) == ("new", ["precious"])


@pytest.mark.parametrize("deferred", [False, True])
def test_a_replica_that_lags_behind_is_not_written_over_the_newest(other, deferred) -> None:
    letter(1, other, subject="old", text=["stale"])
    letter(1, "default", subject="old", text=["newest"])
    with override_settings(DATABASE_ROUTERS=[ReadReplica()]):
        row = Letter.objects.only("subject", "organization_id").get(pk=1) if deferred else Letter.objects.get(pk=1)
        row.subject = "new"
        row.save(update_fields=["subject"])
        Letter.objects.bulk_update([Letter.objects.get(pk=1)], ["title"])
    assert values(1, "default") == ("new", ["newest"])


def test_a_form_leaves_out_what_does_not_open_in_a_replica(other) -> None:
    letter(1, other, subject="old", text=["stale"])
    letter(1, "default", subject="old", text=["newest"])
    with connections[other].cursor() as cursor:
        cursor.execute("UPDATE testapp_letter SET subject = SUBSTR(subject, 1, 60)")
    with override_settings(DATABASE_ROUTERS=[ReadReplica()]):
        form = closing(modelform_factory(Letter, fields=["title", "subject"]))
        bound = form({"title": "new", "subject-closed": "1"}, instance=Letter.objects.get(pk=1))
        assert list(bound.closed) == ["subject"]
        bound.save()
    assert Letter.objects.get(pk=1).title == "new"
    assert values(1, "default") == ("old", ["newest"])


def test_a_row_with_deferred_values_is_copied_whole(other) -> None:
    letter(1, "default", subject="here", text=["here"])
    row = Letter.objects.defer("text", "vault_keys").get(pk=1)
    row.save(using=other)
    assert values(1, other) == ("here", ["here"])


def test_the_stored_context_is_asked_for_where_the_row_is_saved(other) -> None:
    letter(1, "default", subject="here")
    moved = Letter(pk=1, organization_id=2, subject="there")
    moved.save(using=other)

    Letter(pk=1, organization_id=2, subject="new").save(using=other, update_fields=["subject"])
    assert values(1, other) == ("new", None)
    with pytest.raises(KeyContextError, match="organization_id differs from that of the stored row"):
        Letter(pk=1, organization_id=1, subject="newer").save(using=other, update_fields=["subject"])


@pytest.mark.parametrize("bulk", [False, True])
def test_a_row_that_was_read_here_is_not_written_over_another_tenants_there(other, bulk) -> None:
    letter(1, "default", subject="here")
    Letter(pk=1, organization_id=2, subject="there").save(using=other)
    row = Letter.objects.get(pk=1)
    row.subject = "new"
    many = Letter.objects.using(other)
    write = (
        partial(many.bulk_update, [row], ["subject"])
        if bulk
        else partial(row.save, using=other, update_fields=["subject"])
    )
    with pytest.raises(KeyContextError, match="organization_id differs from that of the stored row"):
        write()
    assert values(1, other) == ("there", None)


@pytest.mark.parametrize("bulk", [False, True])
def test_a_context_behind_a_relation_is_that_of_the_row_there(other, bulk) -> None:
    Organization.objects.using(other).filter(pk=1).update(workos_id="org_elsewhere")
    rows = [Document(organization_id=1, body=body) for body in ("one", "two")]
    if bulk:
        Document.objects.using(other).bulk_create(rows)
    else:
        for row in rows:
            row.save(using=other)
    contexts = {
        document.organization.workos_id for document in Document.objects.using(other).select_related("organization")
    }
    assert contexts == {"org_elsewhere"}
    assert all("org_elsewhere" in row.body_keys for row in Document.objects.using(other))
    assert {row._state.db for row in rows} == {other}


def test_update_moves_to_the_context_that_is_there(other) -> None:
    Organization.objects.using(other).filter(pk=2).update(workos_id="org_elsewhere")
    Document(organization_id=1, body="one").save(using=other)
    assert Document.objects.using(other).update(organization_id=2) == 1
    assert Document.objects.update(organization_id=2) == 0
    row = Document.objects.using(other).get()
    assert (row.body, companion.decode(row.body_keys).context["organization_id"]) == ("one", "org_elsewhere")


@pytest.mark.parametrize("bulk", [False, True])
def test_a_context_behind_a_relation_is_not_that_of_a_replica(other, bulk) -> None:
    Organization.objects.using(other).filter(pk=1).update(workos_id="org_stale")
    Organization.objects.create(pk=9, workos_id="org_new")
    rows = [Document(organization_id=number, body="text") for number in (1, 9)]
    with override_settings(DATABASE_ROUTERS=[ReadReplica()]):
        if bulk:
            Document.objects.bulk_create(rows)
        else:
            for row in rows:
                row.save()
    contexts = [companion.decode(row.body_keys).context["organization_id"] for row in rows]
    assert contexts == ["org_1", "org_new"]


def test_a_save_that_fails_leaves_the_row_where_it_was(other) -> None:
    row = Document(organization_id=7, body="text")
    with pytest.raises(KeyContextError, match="organization"):
        row.save(using=other)
    assert row._state.db is None
