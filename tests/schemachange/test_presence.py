"""Tables and columns whose names the database takes, though its lists spell them in another way or leave them out."""

import pytest
from django.core.management.base import CommandError
from django.db import DatabaseError, OperationalError, connection, models, transaction
from django.db.migrations.operations import AddField, AlterField, CreateModel, RemoveField, RunPython

from tests.schemachange.test_guard import do_nothing, key, text
from vault_fields.audit.places import where_stored
from vault_fields.exceptions import MigrationRefused
from vault_fields.fields import CompanionField
from vault_fields.fields.groups import groups_of
from vault_fields.operations import DecryptField, EncryptField, RekeyField
from vault_fields.rows.presence import has_column, has_table

FIELDS = {"a": models.TextField(null=True)}
TO_ENCRYPTED = [AddField("note", "a_keys", CompanionField()), AlterField("note", "a", text(migrating=True))]
TO_PLAIN = [RemoveField("note", "a_keys"), AlterField("note", "a", models.TextField(null=True))]


def execute(*statements) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def schema(transactional_db):
    if connection.vendor != "postgresql":
        pytest.skip("Only PostgreSQL has schemas.")
    execute("CREATE SCHEMA vault_fields_other")
    yield "vault_fields_other"
    execute("DROP SCHEMA vault_fields_other CASCADE")


def note(table, **options):
    fields = [("id", key()), ("tenant", models.CharField(max_length=20)), *FIELDS.items()]
    return CreateModel("Note", fields, options={"db_table": table, **options})


def in_another_schema(project, table, **options) -> None:
    project.write("0001", note(table, **options))
    if options:
        execute("CREATE TABLE vault_fields_other.visit (id bigserial PRIMARY KEY, tenant varchar(20), a text)")
    project.migrate()


def in_capitals(project, **options) -> None:
    """A table that was there before the project, as databases have it that do not tell capitals from small letters."""
    if connection.vendor == "postgresql":
        pytest.skip("PostgreSQL tells them apart.")
    # Names of tables are names of files on MariaDB.
    table = f"{project.label}_note"
    made = table.upper() if connection.vendor == "sqlite" else table
    kind = "integer PRIMARY KEY" if connection.vendor == "sqlite" else "bigint AUTO_INCREMENT PRIMARY KEY"
    execute(f"CREATE TABLE {made} (ID {kind}, TENANT varchar(20) NOT NULL, A longtext NULL)")
    project.write("0001", note(table, **options))
    project.migrate(fake=True)


SCHEMA_TABLES = ['"vault_fields_other"."visit"', 'vault_fields_other"."visit']


def require_kept(project) -> None:
    model = project.model("note")
    with pytest.raises(MigrationRefused, match=r"Note\.a has 1 row "):
        project.migrate("0001")
    project.write("0003", *TO_PLAIN)
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated(.|\n)*Note\.a has 1 row "):
        project.migrate()
    project.write("0003", RunPython(do_nothing, do_nothing), *TO_PLAIN, dependencies=[(project.label, "0002")])
    with pytest.raises(MigrationRefused, match=r"Note\.a has 1 row "):
        project.migrate()
    assert model.objects.get().a == "kept"


@pytest.mark.parametrize("table", SCHEMA_TABLES)
def test_values_in_another_schema_are_not_lost(project, schema, table) -> None:
    in_another_schema(project, table)
    project.write("0002", *TO_ENCRYPTED)
    project.migrate()
    project.model("note").objects.create(tenant="t", a="kept")
    require_kept(project)


def test_values_under_names_in_capitals_are_not_lost(project) -> None:
    in_capitals(project)
    project.write("0002", *TO_ENCRYPTED)
    project.migrate()
    project.model("note").objects.create(tenant="t", a="kept")
    require_kept(project)


def test_a_column_in_another_schema_that_is_narrower_than_its_values_is_refused(project, schema) -> None:
    in_another_schema(project, SCHEMA_TABLES[1])
    project.write("0002", *TO_ENCRYPTED)
    project.migrate()
    project.model("note").objects.create(tenant="t", a="longer than that")
    short = AlterField("note", "a", models.CharField(max_length=3, null=True))
    project.write("0003", DecryptField("note", "a"), short, RemoveField("note", "a_keys"))
    with pytest.raises(MigrationRefused, match="more than the 3 characters"):
        project.migrate()


def test_a_context_in_another_schema_keeps_its_spelling(project, schema) -> None:
    in_another_schema(project, SCHEMA_TABLES[0])
    project.write("0002", *TO_ENCRYPTED)
    project.migrate()
    project.model("note").objects.create(tenant="007", a="kept")
    project.write("0003", AlterField("note", "tenant", models.IntegerField()))
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated(.|\n)*Note\.a has 1 row "):
        project.migrate()
    assert project.model("note").objects.get().a == "kept"


def test_a_column_of_another_kind_in_another_schema_is_refused(project, schema) -> None:
    in_another_schema(project, SCHEMA_TABLES[0])
    project.write("0002", AddField("note", "b", models.BooleanField(null=True)))
    project.migrate()
    project.model("note").objects.create(tenant="t", b=True)
    project.write("0003", AddField("note", "b_keys", CompanionField()), AlterField("note", "b", text()))
    with pytest.raises(MigrationRefused, match=r"Note\.b is a BooleanField"):
        project.migrate()


@pytest.mark.parametrize("where", ["schema", "capitals"])
def test_operations_find_a_table_that_django_does_not_manage(project, where, request) -> None:
    if where == "schema":
        request.getfixturevalue("schema")
        in_another_schema(project, SCHEMA_TABLES[0], managed=False)
        table = SCHEMA_TABLES[0]
    else:
        in_capitals(project, managed=False)
        table = f"{project.label}_note"
    execute(f"ALTER TABLE {table} ADD a_keys {'longtext' if connection.vendor == 'mysql' else 'text'}")
    execute(f"INSERT INTO {table} (tenant, a) VALUES ('t', 'plain')")
    project.write("0002", *TO_ENCRYPTED, EncryptField("note", "a"), RekeyField("note", "a"))
    project.migrate()
    assert project.model("note").objects.get().a == "plain"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT a FROM {table}")
        assert cursor.fetchone()[0].startswith("$vf$")


def test_a_table_that_django_does_not_manage_and_that_is_not_there_is_passed_over(project) -> None:
    project.write("0001", note("nowhere", managed=False))
    project.write("0002", *TO_ENCRYPTED, EncryptField("note", "a"), RekeyField("note", "a"))
    project.migrate()


def refusing(execute, sql, params, many, context):
    if "vault_fields_asked" in sql:
        raise OperationalError("asked to fail")
    return execute(sql, params, many, context)


@pytest.mark.parametrize("operations", [TO_PLAIN, [RunPython(do_nothing, do_nothing), *TO_PLAIN]], ids=["plan", "run"])
def test_a_database_that_does_not_answer_is_not_taken_for_an_empty_one(project, operations) -> None:
    project.write("0001", note(f"{project.label}_note"))
    project.write("0002", *TO_ENCRYPTED)
    project.migrate()
    project.model("note").objects.create(tenant="t", a="kept")
    project.write("0003", *operations)
    with connection.execute_wrapper(refusing), pytest.raises(MigrationRefused, match="OperationalError") as refusal:
        project.migrate()
    assert isinstance(refusal.value, CommandError)
    assert isinstance(refusal.value.__cause__, DatabaseError)
    assert project.model("note").objects.get().a == "kept"


def test_a_database_is_asked_in_the_middle_of_a_transaction(project) -> None:
    project.write("0001", note(f"{project.label}_note"))
    project.migrate()
    table = f"{project.label}_note"
    with transaction.atomic():
        project.model("note").objects.create(tenant="t")
        assert has_table(connection, table)
        assert not has_table(connection, "nowhere")
        assert not has_column(connection, "nowhere", "a")
        assert [has_column(connection, table, name) for name in ("a", "b", "count", table)] == [True, *[False] * 3]
    assert project.model("note").objects.count() == 1


def test_a_table_of_a_schema_that_is_not_there_is_not_there(project) -> None:
    assert not has_table(connection, 'nowhere"."visit' if connection.vendor != "mysql" else "nowhere`.`visit")


@pytest.mark.parametrize("where", ["schema", "capitals"])
def test_keys_are_found_whatever_the_table_is_called(project, where, request, monkeypatch) -> None:
    if where == "schema":
        request.getfixturevalue("schema")
        in_another_schema(project, SCHEMA_TABLES[0])
    else:
        in_capitals(project)
    project.write("0002", *TO_ENCRYPTED)
    project.migrate()
    model = project.model("note")
    model.objects.create(tenant="t", a="kept")
    groups = [("default", each) for each in groups_of(model)]
    monkeypatch.setattr("vault_fields.audit.places.tables", lambda databases: groups)
    assert where_stored("default") == f"{project.label}.Note.a_keys"
