"""An encrypted column does not become a plain one in the models alone while a row holds a value that needs its keys."""

import pytest
from django.core.management import call_command
from django.db import models
from django.db.migrations.operations import (
    AddField,
    AlterField,
    AlterModelOptions,
    AlterModelTable,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RunPython,
    SeparateDatabaseAndState,
)

from tests.schemachange.test_guard import TO_PLAIN, do_nothing, encrypted_note, fill, key, note, text
from vault_fields.exceptions import MigrationRefused
from vault_fields.fields import CompanionField
from vault_fields.operations import DecryptField, EncryptField

PLAIN = AlterField("note", "a", models.TextField(null=True))
WITHOUT_KEYS = RemoveField("note", "a_keys")
UNMANAGED, MANAGED = (AlterModelOptions("note", {"managed": managed}) for managed in (False, True))
IN_STATE = SeparateDatabaseAndState(state_operations=[WITHOUT_KEYS, PLAIN])
NOTHING = RunPython(do_nothing, do_nothing)

AS_STORED = {
    "in the state": [IN_STATE],
    "in the state, keys kept": [SeparateDatabaseAndState(state_operations=[PLAIN])],
    "within another": [SeparateDatabaseAndState(state_operations=[IN_STATE])],
    "renamed first": [
        RenameField("note", "a", "c"),
        RenameField("note", "a_keys", "c_keys"),
        SeparateDatabaseAndState(state_operations=[AlterField("note", "c", models.TextField(null=True))]),
    ],
    "in another table": [AlterModelTable("note", "odd table"), IN_STATE],
    "not managed meanwhile": [UNMANAGED, WITHOUT_KEYS, PLAIN, MANAGED],
    "not managed any more": [UNMANAGED, PLAIN],
    "another model": [
        SeparateDatabaseAndState(state_operations=[DeleteModel("Note"), note(a=models.TextField(null=True))])
    ],
    "behind something": [NOTHING, IN_STATE],
    "before something": [IN_STATE, NOTHING],
    "not managed, behind something": [NOTHING, UNMANAGED, PLAIN],
}


@pytest.mark.parametrize("operations", AS_STORED.values(), ids=AS_STORED)
def test_a_column_that_would_be_read_as_it_is_stored_is_refused(project, operations) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", *operations)
    before = project.tables()
    with pytest.raises(MigrationRefused, match=r"(Note|Memo)\.\w+: 3 rows hold an encrypted value"):
        project.migrate()
    assert project.tables() == before
    assert project.model("note").objects.order_by("id")[0].a == "text 0"


@pytest.mark.parametrize("operations", AS_STORED.values(), ids=AS_STORED)
def test_tables_without_values_and_new_ones_are_not_asked(project, operations) -> None:
    project.write("0001", encrypted_note())
    project.write("0002", *operations)
    project.migrate("0001")
    project.model("note").objects.create(tenant="t")
    project.migrate("0002")
    project.migrate("0001")
    project.migrate("zero")
    project.migrate()


KEPT = {
    "decrypted": [DecryptField("note", "a"), IN_STATE],
    "decrypted by it": [SeparateDatabaseAndState([DecryptField("note", "a")], [WITHOUT_KEYS, PLAIN])],
    "removed": [SeparateDatabaseAndState(state_operations=[PLAIN, WITHOUT_KEYS, RemoveField("note", "a")])],
    "removed, not managed": [UNMANAGED, PLAIN, WITHOUT_KEYS, RemoveField("note", "a")],
    "moved": [SeparateDatabaseAndState(state_operations=[DeleteModel("Note")])],
}


@pytest.mark.parametrize("operations", KEPT.values(), ids=KEPT)
def test_what_is_decrypted_or_gone_is_let_pass(project, operations) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", *operations)
    project.migrate()


def test_what_is_undone_in_the_state_alone_is_refused(project) -> None:
    project.write("0001", note(a=models.TextField(null=True), b=models.TextField(null=True)))
    added = [AddField("note", "a_keys", CompanionField()), AlterField("note", "a", text(migrating=True))]
    project.write("0002", SeparateDatabaseAndState(added[:1], added))
    project.migrate()
    fill(project)
    with pytest.raises(MigrationRefused, match=r"Note\.a"):
        project.migrate("0001")
    project.write("0003", EncryptField("note", "a"))
    project.migrate()
    project.migrate("0001")
    assert project.column("note", "a") == ["text 0", "text 1", "text 2"]


def test_another_model_of_the_same_table_may_read_it_as_it_is_stored(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    fields = [("id", key()), ("a", models.TextField(null=True))]
    table = f"{project.label}_note"
    project.write("0002", CreateModel("Raw", fields, options={"managed": False, "db_table": table}))
    project.migrate()


def test_faked_and_shown_it_is_not_asked(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", IN_STATE)
    call_command("sqlmigrate", project.label, "0002")
    project.migrate(fake=True)


def test_another_model_of_the_same_table_does_not_hide_what_becomes_of_the_first(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    options = {"managed": False, "db_table": f"{project.label}_note"}
    project.write("0002", CreateModel("Raw", [("id", key())], options=options), *TO_PLAIN)
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated.\n.*Note\.a has 3 rows"):
        project.migrate()
