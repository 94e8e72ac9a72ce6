"""Walking a table as it is stored, and writing only to what nobody else has written to."""

import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.apps.registry import Apps
from django.db import DataError, connection, connections, models, transaction
from django.test.utils import CaptureQueriesContext

from tests.testapp.models import Certificate, Legacy, Organization, Token
from vault_fields.exceptions import DatabaseBusy
from vault_fields.fields import EncryptedTextField
from vault_fields.fields.barerows import StoredColumns
from vault_fields.fields.groups import group_of
from vault_fields.rows.update import update
from vault_fields.rows.walk import StoredRows

GROUP = group_of(Legacy._meta.get_field("text"))


def rows(group=GROUP, using="default"):
    return StoredRows(group, using)


@pytest.fixture
def legacy(organization, execute):
    """Rows in the clear, as they were before the field was an encrypted one."""
    for number in range(7):
        execute("INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, %s)", organization.pk, f"text {number}")
    return list(Legacy.objects.order_by("pk").values_list("pk", flat=True))


@pytest.mark.parametrize("size", [1, 2, 6, 7, 8, 100])
def test_every_row_comes_once_in_the_order_of_its_key(legacy, size) -> None:
    batches = list(rows().batches(size))
    assert [row.instance.pk for batch in batches for row in batch] == legacy
    assert all(len(batch) <= size for batch in batches)
    assert rows().count() == 7


def test_no_row_is_skipped_if_rows_before_it_go_meanwhile(legacy, execute) -> None:
    seen = []
    for batch in rows().batches(2):
        seen += [row.instance.pk for row in batch]
        execute("DELETE FROM testapp_legacy WHERE id <= %s", seen[-1])
    assert seen == legacy


def test_only_the_columns_of_the_group_are_read(legacy) -> None:
    with CaptureQueriesContext(connection) as queries:
        batch = next(rows().batches(1))
    assert "data" not in queries[0]["sql"]
    assert "OFFSET" not in queries[0]["sql"]
    assert batch[0].instance.get_deferred_fields() == {"data", "data_keys"}


def test_uuid_keys(db) -> None:
    pks = {Token.objects.create(tenant=uuid.uuid4(), secret="x").pk for _ in range(9)}
    group = group_of(Token._meta.get_field("secret"))
    assert {row.instance.pk for batch in rows(group).batches(2) for row in batch} == pks


def test_context_columns_of_a_parent_table(organization, db) -> None:
    certificate = Certificate.objects.create(organization=organization, secret="s", chain="c")
    group = group_of(Certificate._meta.get_field("chain"))
    (row,) = next(rows(group).batches(10))
    assert row.instance.pk == certificate.pk
    assert row.instance.__dict__["organization_id"] == organization.pk
    assert rows(group).write(["chain"], [(row, ["written"])]) == (1, [])


def test_only_rows_that_are_as_they_were_read_are_written(legacy, stored, execute, other_organization) -> None:
    batch = next(rows().batches(10))
    first, companion, value, context, deleted, case, space = legacy
    execute("UPDATE testapp_legacy SET text_keys = 'k' WHERE id = %s", companion)
    execute("UPDATE testapp_legacy SET text = 'new' WHERE id = %s", value)
    execute("UPDATE testapp_legacy SET organization_id = %s WHERE id = %s", other_organization.pk, context)
    execute("DELETE FROM testapp_legacy WHERE id = %s", deleted)
    # Collations that ignore these must not hide them.
    execute("UPDATE testapp_legacy SET text = 'TEXT 5' WHERE id = %s", case)
    execute("UPDATE testapp_legacy SET text = 'text 6 ' WHERE id = %s", space)
    written, changed = rows().write(["text", "text_keys"], [(row, ["written", "keys"]) for row in batch])
    assert written == 1
    assert [row.instance.pk for row in changed] == [companion, value, context, case, space]
    assert [row.text(GROUP.members[0]) for row in changed] == ["text 1", "new", "text 3", "TEXT 5", "text 6 "]
    assert stored(Legacy(pk=first), "text", "text_keys") == ("written", "keys")
    assert stored(Legacy(pk=value), "text", "text_keys") == ("new", None)


def test_nothing_to_write_costs_nothing(db, django_assert_num_queries) -> None:
    with django_assert_num_queries(0):
        assert rows().write(["text"], []) == (0, [])


def test_a_value_that_looks_like_one_read_with_its_companion_is_taken_as_it_is(organization, execute) -> None:
    text = '\x1ev["1"]\x1fcompanion\x1fvalue'
    execute("INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, %s)", organization.pk, text)
    (row,) = next(rows().batches(1))
    assert row.text(GROUP.members[0]) == text


def test_more_rows_than_a_statement_takes_parameters(legacy, monkeypatch) -> None:
    monkeypatch.setattr(type(connection.features), "max_query_params", 3)
    batch = next(rows().batches(10))
    assert rows().write(["text"], [(row, ["written"]) for row in batch]) == (7, [])


def test_composite_keys(transactional_db, organization) -> None:
    class Page(models.Model):
        pk = models.CompositePrimaryKey("book", "number")
        book = models.CharField(max_length=10)
        number = models.IntegerField()
        owner = models.CharField(max_length=10)
        text = EncryptedTextField(key_context=["owner"])

        class Meta:
            app_label = "pages"
            apps = Apps()

    with connection.schema_editor() as editor:
        editor.create_model(Page)
    try:
        keys = [("a", 1), ("a", 2), ("a", 10), ("b", 1), ("c", -1)]
        Page.objects.bulk_create(Page(book=book, number=number, owner="o", text="t") for book, number in keys)
        group = group_of(Page._meta.get_field("text"))
        batches = list(rows(group).batches(2))
        assert [row.instance.pk for batch in batches for row in batch] == keys
        assert rows(group).write(["text"], [(row, [f"new {row.instance.number}"]) for row in batches[1]]) == (2, [])
        with connection.cursor() as cursor:
            cursor.execute("SELECT book, number FROM pages_page WHERE text LIKE 'new %' ORDER BY 1, 2")
            assert list(cursor.fetchall()) == [("a", 10), ("b", 1)]
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Page)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("not connection.features.has_select_for_update", reason="this database locks no rows")
def test_who_writes_at_the_same_time_is_waited_for(legacy, stored) -> None:
    """Another transaction has written to a row and not committed: its value counts, not the one that was read."""
    batch = next(rows().batches(10))
    written = threading.Event()

    def write_slowly() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("UPDATE testapp_legacy SET text = 'theirs' WHERE id = %s", [legacy[3]])
                written.set()
                # Not before the other one stands in the queue for the row.
                deadline = time.monotonic() + 30
                while not somebody_waits(cursor) and time.monotonic() < deadline:
                    # MariaDB shows the same list again to whoever asks within a tenth of a second.
                    time.sleep(0.2)
        finally:
            connection.close()

    with ThreadPoolExecutor() as pool:
        theirs = pool.submit(write_slowly)
        assert written.wait(30)
        count, changed = rows().write(["text"], [(row, ["ours"]) for row in batch])
        theirs.result(30)
    assert (count, [row.instance.pk for row in changed]) == (6, [legacy[3]])
    assert stored(Legacy(pk=legacy[3]), "text") == ("theirs",)


def somebody_waits(cursor):
    if connection.vendor == "postgresql":
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    else:
        cursor.execute(
            "SELECT 1 FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
            "ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()"
        )
    return cursor.fetchone() is not None


@pytest.fixture
def file_database(tmp_path, django_db_blocker):
    """A SQLite file, which several connections can have open; a database in memory is all one."""
    path = tmp_path / "db.sqlite3"
    default = connections.databases["default"]
    connections.databases["file"] = default | {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {}}
    with django_db_blocker.unblock():
        with connections["file"].schema_editor() as editor:
            editor.create_model(Organization)
            editor.create_model(Legacy)
        organization = Organization.objects.using("file").create(workos_id="org")
        with connections["file"].cursor() as cursor:
            for text in ("a", "b", "c"):
                cursor.execute(
                    "INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, %s)", [organization.pk, text]
                )
        yield path
        connections["file"].close()
    del connections["file"]
    del connections.databases["file"]


def write_elsewhere(path, text, pk) -> None:
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        other.execute("UPDATE testapp_legacy SET text = ? WHERE id = ?", (text, pk))
    finally:
        other.close()


def test_in_a_sqlite_file_another_process_is_not_overwritten(file_database) -> None:
    stored_rows = rows(using="file")
    batch = next(stored_rows.batches(10))
    write_elsewhere(file_database, "theirs", 2)
    written, changed = stored_rows.write(["text"], [(row, ["ours"]) for row in batch])
    assert (written, [row.text(GROUP.members[0]) for row in changed]) == (2, ["theirs"])


def test_in_a_sqlite_file_nobody_writes_between_comparison_and_writing(file_database, monkeypatch) -> None:
    stored_rows = rows(using="file")
    batch = next(stored_rows.batches(10))
    read = StoredColumns.read
    seen = []

    def read_while_another_writes(self, queryset):
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            write_elsewhere(file_database, "theirs", 2)
        seen.append(queryset)
        return read(self, queryset)

    monkeypatch.setattr(StoredColumns, "read", read_while_another_writes)
    assert stored_rows.write(["text"], [(row, ["ours"]) for row in batch]) == (3, [])
    assert len(seen) == 1


def test_in_a_sqlite_file_a_writer_is_waited_for(file_database) -> None:
    """A transaction that began with reading would be refused at once; this one waits as long as the timeout says."""
    connections["file"].settings_dict["OPTIONS"] = {"timeout": 0.1}
    connections["file"].close()
    stored_rows = rows(using="file")
    batch = next(stored_rows.batches(10))
    other = sqlite3.connect(file_database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusy, match="'file'"):
        stored_rows.write(["text"], [(row, ["ours"]) for row in batch])
    other.execute("UPDATE testapp_legacy SET text = 'theirs' WHERE id = 2")
    other.execute("COMMIT")
    other.close()
    written, changed = stored_rows.write(["text"], [(row, ["ours"]) for row in batch])
    assert (written, [row.instance.pk for row in changed]) == (2, [2])


class TypedColumn(models.TextField):
    """A column whose type in the database is the test's choice."""

    kind = "text"

    def db_type(self, connection):
        return type(self).kind


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b"],
        ["a\x1fb", "b"],
        ["\x1e", None],
        [None, None],
        ['{"a": "\\\\", "é": [1]}', ""],
        [""],
        ["", None],
    ],
)
def test_what_is_written_is_what_stands_there_then(legacy, values, django_assert_num_queries) -> None:
    rows_and_values = list(zip(legacy, [[value] for value in values], strict=False))
    with django_assert_num_queries(1):
        update(Legacy, "default", ["text"], rows_and_values)
    assert texts_of(legacy[: len(values)]) == values


def texts_of(pks):
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(pks))
        cursor.execute(f"SELECT text FROM testapp_legacy WHERE id IN ({marks}) ORDER BY id", pks)
        return [text for (text,) in cursor.fetchall()]


@pytest.mark.parametrize("kind", ["varchar(5)", "char(5)"])
def test_a_column_of_another_type_takes_its_values_and_nothing_longer(transactional_db, monkeypatch, kind) -> None:
    monkeypatch.setattr(TypedColumn, "kind", kind)

    class Parcel(models.Model):
        text = TypedColumn(null=True)

        class Meta:
            app_label = "parcels"
            apps = Apps()

    with connection.schema_editor() as editor:
        editor.create_model(Parcel)
    try:
        Parcel.objects.bulk_create([Parcel(pk=number, text="old") for number in (1, 2)])
        update(Parcel, "default", ["text"], [(1, ["one"]), (2, ["seven"])])
        assert [text.strip() for text in Parcel.objects.order_by("pk").values_list("text", flat=True)] == [
            "one",
            "seven",
        ]
        if connection.vendor == "postgresql":
            with pytest.raises(DataError):
                update(Parcel, "default", ["text"], [(1, ["too long"])])
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Parcel)


def test_a_row_is_what_was_read_until_it_has_an_instance(legacy) -> None:
    row, *_ = next(rows().batches(10))
    (member,) = GROUP.members
    assert (row.pk, row.text(member), row.companion, row.is_encrypted(member)) == (legacy[0], "text 0", None, False)
    row.instance.__dict__[member.attname] = None
    row.instance.__dict__[GROUP.companion] = "keys"
    assert (row.text(member), row.companion, row.envelope(member)) == (None, "keys", None)
