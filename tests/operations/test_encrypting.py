"""``EncryptField`` in real migrations, there and back, on the real database; the app is ``tests.migrated``."""

import contextlib
import io
import json
import re
import uuid
from typing import Never

import pytest
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.optimizer import MigrationOptimizer
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from vault_fields.exceptions import PlaintextFound, RowsLeftAlone, VaultUnavailable
from vault_fields.fields import CompanionField, EncryptedTextField
from vault_fields.operations import EncryptField
from vault_fields.vaults import vaults

PLAIN, MIXED, ENCRYPTED, FINAL = "0001_initial", "0002_encrypted", "0003_encrypt_rows", "0004_encrypted_only"
TABLES = ("migrated_note", "migrated_letter", "migrated_employee", "migrated_person", "migrated_tenant")

TEXTS = [
    None,
    "",
    "0",
    "None",
    " leading, and trailing  ",
    "quotes ' \" ` and a \\ backslash, %s, {}",
    "lines\r\nand\ttabs",
    "الدكتور جرير الحكم",
    "项目要求加入发现",
    "👩🏽‍⚕️ ❤️‍🩹",
    "Å is not Å",
    "long " * 20_000,
    "\x1evalue\x1fwith\x1fseparators",
    "$vf is how an envelope begins, almost: $vf$x$",
]
VALUES = [
    None,
    0,
    False,
    "",
    [],
    {},
    True,
    -1.5,
    0.1,
    2**70,
    "text",
    [None, [], {}, [[0]]],
    {"b": {"a": ["الدكتور", "项目", "👩🏽‍⚕️"]}, "": None, "quotes": "'\"\\"},
    {"long": ["x" * 1000] * 100},
]


@pytest.fixture
def migrate(transactional_db):
    """Bring ``tests.migrated`` to a migration, from wherever it is; return the models of that time."""

    def run(name):
        executor = MigrationExecutor(connection)
        executor.migrate([("migrated", name)])
        return MigrationExecutor(connection).loader.project_state(("migrated", name)).apps

    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "tests.migrated"]):
        yield run
        with connection.cursor() as cursor:
            for table in TABLES:
                if table in connection.introspection.table_names(cursor):
                    cursor.execute(f"DELETE FROM {table}")
        MigrationExecutor(connection).migrate([("migrated", None)])


@pytest.fixture
def filled(migrate):
    """The plain tables with a row for each kind of value, of two tenants."""
    apps = migrate(PLAIN)
    tenants = [apps.get_model("migrated", "Tenant").objects.create(name=name) for name in ("a", "b")]
    note, letter = apps.get_model("migrated", "Note"), apps.get_model("migrated", "Letter")
    for number, (text, value) in enumerate(zip(TEXTS, VALUES, strict=True)):
        tenant = tenants[number % 2]
        note.objects.create(tenant=tenant, text=text, data=value)
        letter.objects.create(id=uuid.UUID(int=number**9), tenant=tenant, subject=text, body=value or {})
        if text is not None:
            apps.get_model("migrated", "Employee").objects.create(code=f"E{number}", tenant=tenant, salary=text)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO migrated_note (tenant_id, text, data) VALUES (%s, 'null', 'null')", [tenants[0].pk])
    return migrate


def contents(apps):
    return {
        (name, row["pk"]): row
        for name, columns in {
            "Note": ("tenant", "text", "data"),
            "Letter": ("tenant", "subject", "body"),
            "Employee": ("tenant", "salary"),
        }.items()
        for row in apps.get_model("migrated", name).objects.values("pk", *columns)
    }


def raw(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


PAIRS = [("note", "text", "text_keys"), ("note", "data", "data_keys"), ("letter", "subject", "vault_keys")]
PAIRS += [("letter", "body", "vault_keys"), ("employee", "salary", "salary_keys")]


def test_values_are_the_same_after_migrating_forwards_and_backwards(filled) -> None:
    plain = contents(filled(PLAIN))
    # JSON's null, which Python shows as None too, is not NULL.
    before = raw("SELECT id, text, data IS NULL FROM migrated_note ORDER BY id")
    assert contents(filled(MIXED)) == plain
    assert contents(filled(ENCRYPTED)) == plain
    assert contents(filled(FINAL)) == plain
    assert contents(filled(ENCRYPTED)) == plain
    assert contents(filled(MIXED)) == plain
    for table, column, keys in PAIRS:
        assert raw(f"SELECT COUNT(*) FROM migrated_{table} WHERE {keys} IS NOT NULL") == [(0,)], column
    assert contents(filled(PLAIN)) == plain
    assert raw("SELECT id, text, data IS NULL FROM migrated_note ORDER BY id") == before


def test_the_database_holds_envelopes_and_companions_only(filled) -> None:
    filled(FINAL)
    for table, column, keys in PAIRS:
        for value, companion in raw(f"SELECT {column}, {keys} FROM migrated_{table}"):
            if value is not None:
                assert re.fullmatch(r"\$vf\$1\$[0-9a-f-]{36}\$[A-Za-z0-9+/]+=*", value), (table, column)
                assert json.loads(companion)["id"] == value.split("$")[3]
    assert raw("SELECT COUNT(*) FROM migrated_note WHERE text IS NULL AND text_keys IS NULL") == [(1,)]
    assert raw("SELECT COUNT(*) FROM migrated_note WHERE data IS NULL AND data_keys IS NULL") == [(1,)]


def test_one_data_key_for_each_context_and_one_query_for_each_relation_and_batch(filled) -> None:
    filled(MIXED)
    before = vaults["default"].calls.copy()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        filled(ENCRYPTED)
    # Two tenants, and four columns: note.text, note.data, letter's two, employee.salary. Letters that have no subject
    # are encrypted with the next operation, under keys of its own.
    made = vaults["default"].calls - before
    assert made["create"] == 2 + 2 + 2 + 1 + 2
    assert made["rekey"] == 0
    # 15 rows of notes are 4 batches; only note.text has a context behind a relation.
    relation = [query for query in queries if re.match(r"SELECT .*FROM .migrated_tenant.", query["sql"])]
    assert len(relation) == 4


def test_makemigrations_finds_nothing_to_do(filled) -> None:
    filled(FINAL)
    call_command("makemigrations", "migrated", "--check", "--dry-run", verbosity=0)


def test_running_again_after_a_failure_encrypts_the_rest(filled, monkeypatch) -> None:
    plain = contents(filled(PLAIN))
    filled(MIXED)
    create, calls = vaults["default"].create_data_key, []

    def create_twice(context):
        calls.append(context)
        if len(calls) > 3:
            raise VaultUnavailable("Away.")
        return create(context)

    monkeypatch.setattr(vaults["default"], "create_data_key", create_twice)
    with pytest.raises(VaultUnavailable, match=r"^migrated\.Note\.data \(pk=\d+\): Away"):
        filled(ENCRYPTED)
    monkeypatch.undo()
    encrypted = raw("SELECT id, text, text_keys FROM migrated_note WHERE text LIKE '$vf$1$%' ORDER BY id")
    assert len(encrypted) == 14
    assert not raw("SELECT id FROM migrated_note WHERE data LIKE '%$vf$1$%'")
    assert contents(filled(ENCRYPTED)) == plain
    assert raw("SELECT id, text, text_keys FROM migrated_note WHERE text IS NOT NULL ORDER BY id") == encrypted


def test_a_reversal_can_be_interrupted_too(filled, execute) -> None:
    plain = contents(filled(PLAIN))
    filled(ENCRYPTED)
    last, text = raw("SELECT id, text FROM migrated_note WHERE text IS NOT NULL ORDER BY id DESC")[0]
    execute("UPDATE migrated_note SET text = %s WHERE id = %s", text[:-8] + "AAAAAAA=", last)
    with pytest.raises(
        RowsLeftAlone,
        match=rf"^migrated\.Note\.text: 1 row cannot be decrypted \(pk={last}\)\. What was written stays, .* "
        rf"The last: migrated\.Note\.text \(pk={last}\): ",
    ):
        filled(MIXED)
    assert raw("SELECT COUNT(*) FROM migrated_note WHERE text NOT LIKE '$vf$1$%'") != [(0,)]
    execute("UPDATE migrated_note SET text = %s WHERE id = %s", text, last)
    assert contents(filled(PLAIN)) == plain


def test_old_code_goes_on_when_the_columns_have_changed(filled) -> None:
    """Its models are those of before, and plaintext is what it reads and writes."""
    old = filled(PLAIN)
    plain = contents(old)
    new = filled(MIXED)
    assert contents(old) == plain
    tenant = old.get_model("migrated", "Tenant").objects.first()
    note = old.get_model("migrated", "Note").objects.create(tenant=tenant, text="old", data={"old": [1]})
    old.get_model("migrated", "Letter").objects.update(body={"old": [2]})
    seen = new.get_model("migrated", "Note").objects.get(pk=note.pk)
    assert (seen.text, seen.data) == ("old", {"old": [1]})
    assert {letter.body["old"][0] for letter in new.get_model("migrated", "Letter").objects.all()} == {2}


def test_old_code_that_writes_plaintext_meanwhile_is_picked_up_later(filled) -> None:
    apps = filled(ENCRYPTED)
    plain = contents(apps)
    tenant = apps.get_model("migrated", "Tenant").objects.first()
    with connection.cursor() as cursor:
        # What a server that still runs the old code does: a new row, and a new value in a row with a companion.
        cursor.execute("INSERT INTO migrated_note (tenant_id, text) VALUES (%s, 'new')", [tenant.pk])
        cursor.execute(
            "UPDATE migrated_note SET text = 'changed' WHERE text LIKE '$vf$1$%%' AND tenant_id = %s", [tenant.pk]
        )
        cursor.execute("UPDATE migrated_letter SET body = '[1, 2]' WHERE subject IS NOT NULL")
    seen = contents(apps)
    assert seen != plain
    final = filled(FINAL)
    with pytest.raises(PlaintextFound, match=r"EncryptField"):
        contents(final)
    filled(ENCRYPTED)
    for model, field in (("note", "text"), ("letter", "body")):
        apply([EncryptField(model, field)], filled(ENCRYPTED))
    assert contents(filled(FINAL)) == seen


def apply(operations, apps, *, app_label="migrated", atomic=True, backwards=False):
    """Run operations on the state that these models were made of."""
    state = ProjectState.from_apps(apps)
    migration = type("Migration", (migrations.Migration,), {"operations": operations, "atomic": atomic})("m", app_label)
    with connection.schema_editor(atomic=atomic) as editor:
        return (migration.unapply if backwards else migration.apply)(state, editor)


def test_one_atomic_migration_does_it_all_and_takes_it_all_back(filled) -> None:
    apps = filled(PLAIN)
    plain = contents(apps)
    options = {"key_context": ["tenant_id"], "migrating": True}
    operations = [
        migrations.AddField("note", "text_keys", CompanionField()),
        migrations.AlterField("note", "text", EncryptedTextField(null=True, **options)),
        EncryptField("note", "text"),
    ]
    state = apply(operations, apps)
    assert raw("SELECT COUNT(*) FROM migrated_note WHERE text NOT LIKE '$vf$1$%'") == [(0,)]
    assert {key: row["text"] for key, row in contents(state.apps).items() if key[0] == "Note"} == {
        key: row["text"] for key, row in plain.items() if key[0] == "Note"
    }
    apply(operations, apps, backwards=True)
    assert contents(apps) == plain


def test_rows_that_were_written_under_a_later_name_are_decrypted_too(filled, monkeypatch) -> None:
    apps = filled(PLAIN)
    plain = contents(apps)
    options = {"key_context": ["tenant_id"], "migrating": True, "former_labels": ["legacy.Note.text"]}
    operations = [
        migrations.AddField("note", "text_keys", CompanionField()),
        migrations.AlterField("note", "text", EncryptedTextField(null=True, **options)),
        EncryptField("note", "text"),
    ]
    renames = [
        migrations.RenameField("note", "text", "words"),
        migrations.RenameField("note", "text_keys", "words_keys"),
        migrations.RenameModel("Note", "Remark"),
    ]
    encrypted = apply(operations, apps).apps
    written = apply(renames, encrypted).apps.get_model("migrated", "Remark").objects.exclude(words=None).earliest("pk")
    written.words = "written later"
    written.save()
    apply(renames, encrypted, backwards=True)
    # A label that no migration tells of, as of an app that was called otherwise.
    relabelled = encrypted.get_model("migrated", "Note").objects.exclude(text=None).latest("pk")
    with monkeypatch.context() as patch:
        patch.setattr(EncryptedTextField, "label", "legacy.Note.text")
        relabelled.text = "written before"
        relabelled.save()

    create = migrations.CreateModel("Note", [("text", models.TextField())])
    history = type("Migration", (migrations.Migration,), {"operations": [create, *operations, *renames]})
    monkeypatch.setattr("vault_fields.operations.base.all_migrations", lambda: [history("m", "migrated")])
    apply(operations, apps, backwards=True)

    found = contents(apps)
    assert found.pop(("Note", written.pk))["text"] == "written later"
    assert found.pop(("Note", relabelled.pk))["text"] == "written before"
    assert found == {
        key: row for key, row in plain.items() if key[0] != "Note" or key[1] not in {written.pk, relabelled.pk}
    }


@pytest.mark.skipif(
    "not connection.features.can_rollback_ddl", reason="this database commits with each change of schema"
)
def test_an_atomic_migration_that_fails_leaves_everything_as_it_was(filled) -> None:
    apps = filled(PLAIN)
    plain = contents(apps)
    operations = [
        migrations.AddField("note", "text_keys", CompanionField()),
        migrations.AlterField(
            "note", "text", EncryptedTextField(null=True, key_context=["tenant__missing"], migrating=True)
        ),
        EncryptField("note", "text", batch_size=2),
    ]
    with pytest.raises(
        RowsLeftAlone, match=r"14 rows cannot be encrypted .* none of it is kept\. The last: migrated\."
    ):
        apply(operations, apps)
    assert contents(apps) == plain


def test_sqlmigrate_says_what_it_cannot_write(filled) -> None:
    filled(MIXED)
    out = io.StringIO()
    call_command("sqlmigrate", "migrated", "0003", stdout=out)
    assert "-- Encrypt the rows of field text on note" in out.getvalue()
    assert "UPDATE" not in out.getvalue()


def test_a_router_decides_where_rows_are_encrypted(filled) -> None:
    apps = filled(MIXED)
    with override_settings(DATABASE_ROUTERS=[_Nowhere()]):
        apply([EncryptField("note", "text")], apps)
        apply([EncryptField("note", "text")], apps, backwards=True)
    assert raw("SELECT COUNT(*) FROM migrated_note WHERE text LIKE '$vf$1$%'") == [(0,)]


class _Nowhere:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return app_label != "migrated"


def test_a_field_that_is_not_encrypted_is_refused(filled) -> None:
    with pytest.raises(
        FieldError, match=r"^migrated\.Note\.text is not an encrypted field here: .* after the AlterField"
    ):
        apply([EncryptField("note", "text")], filled(PLAIN))


def test_a_field_that_is_not_migrating_is_refused(filled) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^migrated\.Note\.text is not declared with migrating=True"):
        apply([EncryptField("note", "text")], filled(FINAL))


def test_batches_have_at_least_one_row() -> None:
    with pytest.raises(ValueError, match=r"batch_size must be at least 1"):
        EncryptField("note", "text", batch_size=0)


def test_it_is_written_out_in_full_when_migrations_are_squashed() -> None:
    operation = EncryptField("note", "text", batch_size=50, elidable=True)
    text, imports = OperationWriter(operation, indentation=0).serialize()
    assert imports == {"import vault_fields.operations"}
    assert re.sub(r"\s+", "", text) == (
        "vault_fields.operations.EncryptField(model_name='note',name='text',batch_size=50,elidable=True,),"
    )
    assert operation.migration_name_fragment == "encrypt_note_text"
    assert operation.formatted_description() == "p Encrypt the rows of field text on note"


def test_squashing_moves_nothing_across_it_and_drops_it_only_if_elidable() -> None:
    def alter(field):
        return migrations.AlterField("note", "text", field)

    plain, other = alter(models.TextField()), alter(models.TextField(null=True))
    kept = [plain, EncryptField("note", "text"), other]
    assert MigrationOptimizer().optimize(kept, "migrated") == kept
    elided = [plain, EncryptField("note", "text", elidable=True), other]
    assert MigrationOptimizer().optimize(elided, "migrated") == [other]


def test_migrate_shows_a_bar_on_a_terminal(filled, monkeypatch) -> None:
    filled(MIXED)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        filled(ENCRYPTED)
    assert "Encrypting migrated.Note.text: 15 of 15" in terminal.getvalue()


def test_rows_that_cannot_be_encrypted_are_reported_together_and_the_others_encrypted(filled) -> None:
    apps = filled(MIXED)
    tenant = apps.get_model("migrated", "Tenant").objects.create(name="")
    note = apps.get_model("migrated", "Note")
    with connection.cursor() as cursor:
        for _ in range(25):
            cursor.execute("INSERT INTO migrated_note (tenant_id, text) VALUES (%s, 'x')", [tenant.pk])
    lost = list(note.objects.filter(tenant=tenant).order_by("pk").values_list("pk", flat=True))
    with pytest.raises(RowsLeftAlone) as caught:
        filled(ENCRYPTED)
    assert str(caught.value).startswith(
        f"migrated.Note.text: 25 rows cannot be encrypted (pk={', '.join(map(str, lost[:20]))} and 5 more). What was "
        f"written stays, and the migration can be run again. The last: migrated.Note.text (pk={lost[-1]}): "
    )
    assert raw("SELECT COUNT(*) FROM migrated_note WHERE text NOT LIKE '$vf$1$%'") == [(25,)]
    apps.get_model("migrated", "Tenant").objects.filter(pk=tenant.pk).update(name="c")
    filled(ENCRYPTED)
    assert raw("SELECT COUNT(*) FROM migrated_note WHERE text NOT LIKE '$vf$1$%'") == [(0,)]


def test_an_interruption_of_migrate_ends_in_words(filled, monkeypatch) -> None:
    filled(MIXED)

    def interrupt(self, size) -> Never:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vault_fields.rows.walk.StoredRows.batches", interrupt)
        with pytest.raises(
            CommandError, match=r"^migrated\.Note\.text: interrupted\. What was written stays, "
        ) as caught:
            filled(ENCRYPTED)
    assert caught.value.returncode == 130
