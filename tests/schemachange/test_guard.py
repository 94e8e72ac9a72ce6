"""No migration takes from encrypted values what opens them, on whatever way."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import (
    AddField,
    AlterField,
    AlterModelTable,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
    RunPython,
    RunSQL,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation
from django.test import override_settings

from vault_fields.exceptions import MigrationRefused
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField
from vault_fields.operations import DecryptField, EncryptField

ROOT = Path(__file__).parents[2]
TENANT = models.CharField(max_length=20)


def text(**options):
    return EncryptedTextField(key_context=["tenant"], null=True, **options)


def data(**options):
    return EncryptedJSONField(key_context=["tenant"], null=True, **options)


def key():
    return models.BigAutoField(primary_key=True)


def note(**fields):
    return CreateModel("Note", [("id", key()), ("tenant", TENANT), *fields.items()])


def encrypted_note(**options):
    return note(a=text(**options), a_keys=CompanionField(), b=data(**options), b_keys=CompanionField())


def shared_note():
    return note(a=text(keys_field="k"), b=data(keys_field="k"), k=CompanionField())


def fill(project, rows=3) -> None:
    model = project.model("note")
    for number in range(rows):
        model.objects.create(tenant=f"t{number}", a=f"text {number}", b=[number])


TO_PLAIN = [
    AlterField("note", "a", models.TextField(null=True)),
    AlterField("note", "b", models.JSONField(null=True)),
    RemoveField("note", "a_keys"),
    RemoveField("note", "b_keys"),
]
TO_SHARED = [
    AddField("note", "k", CompanionField()),
    AlterField("note", "a", text(keys_field="k")),
    AlterField("note", "b", data(keys_field="k")),
    RemoveField("note", "a_keys"),
    RemoveField("note", "b_keys"),
]

# From a note with two values that have a companion each, to where they could not be opened.
LOSSES = {
    "made plain": TO_PLAIN,
    "made plain, companions first": [*TO_PLAIN[2:], *TO_PLAIN[:2]],
    "one of them made plain": [TO_PLAIN[0]],
    "json made plain": [TO_PLAIN[1]],
    "companion removed": [TO_PLAIN[2]],
    "companion turned into a short column": [AlterField("note", "a_keys", models.CharField(max_length=50, null=True))],
    "another class": [AlterField("note", "a", models.BinaryField(null=True))],
    "a short column": [AlterField("note", "a", models.CharField(max_length=50, null=True))],
    "a shared companion": TO_SHARED,
    "another companion": [AddField("note", "k", CompanionField()), AlterField("note", "a", text(keys_field="k"))],
    "behind harmless operations": [AddField("note", "n", models.IntegerField(null=True)), *TO_PLAIN],
    "after a rename of the field": [
        RenameField("note", "a", "c"),
        RenameField("note", "a_keys", "c_keys"),
        AlterField("note", "c", models.TextField(null=True)),
    ],
    "after a rename of the model": [RenameModel("Note", "Memo"), AlterField("memo", "a", models.TextField(null=True))],
    "after a rename of the table": [AlterModelTable("note", "odd table"), TO_PLAIN[0]],
    "after a new field, and a rename of the table": [
        AddField("note", "n", models.IntegerField(null=True)),
        AlterModelTable("note", "odd table"),
        TO_PLAIN[0],
    ],
    "with another column": [AlterField("note", "a", text(db_column="odd column")), TO_PLAIN[0]],
    "in database operations": [SeparateDatabaseAndState(database_operations=TO_PLAIN, state_operations=[])],
}


@pytest.mark.parametrize("operations", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("spread", [False, True], ids=["one migration", "several"])
def test_what_would_lose_values_is_refused_before_anything_is_changed(project, operations, spread) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    before = project.tables()
    if spread:
        for number, operation in enumerate(operations, start=2):
            project.write(f"{number:04}", operation)
    else:
        project.write("0002", *operations)
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated.\n.*\.(Note|Memo)\.\w+ has 3 rows"):
        project.migrate()
    assert project.tables() == before
    model = project.model("note")
    assert list(model.objects.order_by("id").values_list("a", "b")) == [(f"text {n}", [n]) for n in range(3)]


@pytest.mark.parametrize("operations", LOSSES.values(), ids=LOSSES)
def test_a_table_without_values_is_changed_without_questions(project, operations) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    project.model("note").objects.create(tenant="t")
    project.write("0002", *operations)
    project.migrate()
    project.migrate("0001")


@pytest.mark.parametrize("operations", LOSSES.values(), ids=LOSSES)
def test_a_new_database_is_migrated_without_questions(project, operations) -> None:
    project.write("0001", encrypted_note())
    project.write("0002", *operations)
    project.migrate()


class Custom(Operation):
    reversible = True

    def state_forwards(self, app_label, state) -> None:
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state) -> None:
        pass

    database_backwards = database_forwards


def test_an_operation_of_ones_own_kind_may_have_decrypted(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", Custom(), *TO_PLAIN)
    with pytest.raises(MigrationRefused, match=r"Note\.a has 3 rows") as refusal:
        project.migrate()
    assert "Nothing was migrated" not in str(refusal.value)


def test_a_companion_that_is_renamed_among_others_stays_with_its_field(project) -> None:
    shared = {"a": text(keys_field="k"), "k": CompanionField(), "n": models.IntegerField(null=True)}
    project.write("0001", note(**shared, b=models.JSONField(null=True)))
    project.migrate()
    fill(project)
    project.write(
        "0002",
        AlterField("note", "a", text(keys_field="keys")),
        RenameField("note", "n", "m"),
        RenameField("note", "k", "keys"),
    )
    project.migrate()
    assert project.model("note").objects.order_by("id")[0].a == "text 0"
    project.migrate("0001")
    assert project.model("note").objects.order_by("id")[0].a == "text 0"


def test_decrypting_is_described() -> None:
    assert DecryptField("note", "a").describe() == "Decrypt the rows of field a on note"


def test_one_migration_may_rewrite_and_change_a_table_that_has_foreign_keys(project) -> None:
    owner = CreateModel("Owner", [("id", key())])
    fields = [*note(a=models.TextField(null=True)).fields]
    fields.append(("owner", models.ForeignKey(f"{project.label}.owner", models.CASCADE, null=True)))
    project.write("0001", owner, CreateModel("Note", fields))
    project.migrate()
    project.model("note").objects.create(tenant="t", a="text", owner_id=project.model("owner").objects.create().pk)
    project.write(
        "0002",
        AddField("note", "a_keys", CompanionField()),
        AlterField("note", "a", text(migrating=True)),
        EncryptField("note", "a"),
        AlterField("note", "a", text()),
    )
    project.write(
        "0003",
        DecryptField("note", "a"),
        AlterField("note", "a", models.TextField(null=True)),
        RemoveField("note", "a_keys"),
    )
    project.migrate("0002")
    assert project.model("note").objects.get().a == "text"
    project.migrate("0003")
    assert project.column("note", "a") == ["text"]
    project.migrate("0001")
    assert project.column("note", "a") == ["text"]


def test_the_refusal_says_what_to_write(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project, 2)
    project.write("0002_plain", *TO_PLAIN)
    with pytest.raises(CommandError) as refusal:
        project.migrate()
    message = str(refusal.value)
    assert f"{project.label}.0002_plain: {project.label}.Note.a has 2 rows with an encrypted value" in message
    assert 'vault_fields.operations.DecryptField("note", "a") before it' in message
    assert f"manage.py vault_decrypt {project.label}.Note a" in message
    assert f"{project.label}.Note.b has 2 rows" in message


def test_with_what_it_says_the_values_are_plain_and_encrypted_again(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", DecryptField("note", "a"), DecryptField("note", "b"), *TO_PLAIN)
    project.migrate()
    assert project.column("note", "a") == ["text 0", "text 1", "text 2"]
    model = project.model("note")
    assert list(model.objects.order_by("id").values_list("a", "b")) == [(f"text {n}", [n]) for n in range(3)]
    project.migrate("0001")
    assert all(value.startswith("$vf$1$") for value in project.column("note", "a") + project.column("note", "b"))
    model = project.model("note")
    assert list(model.objects.order_by("id").values_list("a", "b")) == [(f"text {n}", [n]) for n in range(3)]


def test_values_of_a_shared_companion_are_decrypted_one_by_one(project) -> None:
    project.write("0001", shared_note())
    project.migrate()
    fill(project)
    project.write("0002", DecryptField("note", "a"), AlterField("note", "a", models.TextField(null=True)))
    project.migrate()
    model = project.model("note")
    assert list(model.objects.order_by("id").values_list("a", "b")) == [(f"text {n}", [n]) for n in range(3)]
    project.write("0003", RemoveField("note", "k"))
    with pytest.raises(MigrationRefused, match=r"Note\.b has 3 rows"):
        project.migrate()
    assert project.model("note").objects.first().b == [0]


@pytest.mark.parametrize("encrypt", [None, "operation", "command"])
def test_going_back_needs_that_values_are_decrypted(project, encrypt) -> None:
    project.write("0001", note(a=models.TextField(null=True), b=models.JSONField(null=True)))
    project.migrate()
    fill(project)
    project.write(
        "0002",
        AddField("note", "a_keys", CompanionField()),
        AddField("note", "b_keys", CompanionField()),
        AlterField("note", "a", text(migrating=True)),
        AlterField("note", "b", data(migrating=True)),
    )
    if encrypt == "operation":
        project.write("0003", EncryptField("note", "a"), EncryptField("note", "b"))
    project.migrate()
    if encrypt is None:
        project.migrate("0001")  # Nothing is encrypted yet.
    elif encrypt == "operation":
        project.migrate("0001")
    else:
        for row in project.model("note").objects.all():
            row.save()
        before = project.tables()
        with pytest.raises(MigrationRefused, match=r"a has 3 rows .*was undone.*\n?.*vault_decrypt"):
            project.migrate("0001")
        assert project.tables() == before
        for number, field in enumerate(("a", "b")):
            project.write(f"000{3 + number}", DecryptField("note", field))
        project.migrate()
        project.migrate("0002")
        return  # Undone, DecryptField encrypts again.
    assert project.column("note", "a") == ["text 0", "text 1", "text 2"]


def test_removing_a_field_with_its_values_is_no_loss(project) -> None:
    project.write("0001", encrypted_note())
    project.write("0002", AddField("note", "c", text()), AddField("note", "c_keys", CompanionField()))
    project.migrate()
    fill(project)
    project.model("note").objects.update(a=None)
    for row in project.model("note").objects.all():
        row.c = "to be removed"
        row.save()
    project.migrate("0001")
    assert "c" not in dict(project.tables()[f"{project.label}_note"][0])
    project.write("0003", RemoveField("note", "b_keys"), RemoveField("note", "b"))
    project.migrate()
    project.write("0004", DeleteModel("Note"))
    project.migrate()


def test_a_field_that_is_made_plain_and_removed_is_no_loss(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", TO_PLAIN[0], RemoveField("note", "a_keys"), RemoveField("note", "a"))
    project.migrate()
    assert project.model("note").objects.first().b == [0]


def test_a_companion_that_outlives_its_field_for_long_is_kept(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", RemoveField("note", "a_keys"))
    project.write("0003", RemoveField("note", "a"))
    with pytest.raises(MigrationRefused, match="take its companion 'a_keys' away"):
        project.migrate()


def test_operations_of_ones_own_may_decrypt_first(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", RunPython(decrypt_by_hand, migrations.RunPython.noop), *TO_PLAIN)
    before = project.tables()
    with pytest.raises(RuntimeError, match="asked to fail"):
        project.migrate()
    assert project.tables() == before
    project.write("0003", RunSQL("SELECT 1", "SELECT 1"))
    decrypt_by_hand.fails = False
    project.migrate()
    assert project.column("note", "a") == ["by hand"] * 3


def decrypt_by_hand(apps, schema_editor) -> None:
    if decrypt_by_hand.fails:
        raise RuntimeError("asked to fail")
    with schema_editor.connection.cursor() as cursor:
        (label,) = [config.label for config in apps.get_app_configs() if config.label.startswith("changed")]
        cursor.execute(f"UPDATE {label}_note SET a = 'by hand', b = '[]', a_keys = NULL, b_keys = NULL")


decrypt_by_hand.fails = True


def do_nothing(apps, schema_editor) -> None:
    pass


def test_operations_of_ones_own_that_do_not_decrypt_are_noticed_in_time(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", RunPython(do_nothing, do_nothing), *TO_PLAIN)
    with pytest.raises(MigrationRefused, match=r"Note\.a has 3 rows"):
        project.migrate()
    assert project.model("note").objects.order_by("id")[0].a == "text 0"


@pytest.mark.parametrize("foreign", [
    RunPython(RunPython.noop, RunPython.noop),
    RunSQL("", ""),
    RunSQL([], []),
], ids=["noop", "no SQL", "no list of SQL"])  # fmt: skip
def test_what_does_nothing_does_not_keep_the_plan_from_being_judged(project, foreign) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    before = project.tables()
    project.write("0002", AddField("note", "n", models.IntegerField(null=True)), foreign)
    project.write("0003", *TO_PLAIN)
    with pytest.raises(MigrationRefused, match="Nothing was migrated"):
        project.migrate()
    assert project.tables() == before


EXCHANGED = [
    RenameField("note", "a", "c"),
    RenameField("note", "b", "d"),
    RenameField("note", "a_keys", "d_keys"),
    RenameField("note", "b_keys", "c_keys"),
]


def test_companions_that_are_taken_for_one_another_are_noticed(project) -> None:
    fields = {"a": EncryptedTextField(key_context=["tenant"], null=True), "a_keys": CompanionField()}
    other = EncryptedTextField(key_context={"kind": "tenant"}, null=True)
    project.write("0001", note(**fields, b=other, b_keys=CompanionField()))
    project.migrate()
    project.model("note").objects.create(tenant="t", a="a", b="b")
    before = project.tables()
    project.write("0002", *EXCHANGED)
    with pytest.raises(MigrationRefused, match=r"Note\.c: 1 row has its data keys in another column"):
        project.migrate()
    assert project.tables() == before


@pytest.mark.parametrize("foreign", [RunPython(do_nothing, do_nothing), RunSQL("SELECT 1", "SELECT 1")])
def test_companions_that_are_taken_for_one_another_are_noticed_whatever_follows(project, foreign) -> None:
    # Of one context, they would have the same data key.
    other = EncryptedTextField(key_context={"kind": "tenant"}, null=True)
    project.write("0001", note(a=text(), a_keys=CompanionField(), b=other, b_keys=CompanionField()))
    project.migrate()
    project.model("note").objects.create(tenant="t", a="a", b="b")
    before = project.tables()
    project.write("0002", *EXCHANGED)
    project.write("0003", foreign)
    with pytest.raises(MigrationRefused, match=r"Note\.c: 1 row has its data keys in another column"):
        project.migrate()
    assert project.tables() == before


def of_another_context(**options):
    return EncryptedTextField(key_context={"kind": "tenant"}, null=True, **options)


def test_an_operation_of_ones_own_may_stand_between_renames(project) -> None:
    project.write("0001", note(a=text(), a_keys=CompanionField(), b=of_another_context(), b_keys=CompanionField()))
    project.migrate()
    project.model("note").objects.create(tenant="t", a="a", b="b")
    renames = [RenameField("note", "a_keys", "x"), RenameField("note", "b_keys", "a_keys")]
    declared = [AlterField("note", "a", text(keys_field="x"))]
    declared.append(AlterField("note", "b", of_another_context(keys_field="a_keys")))
    project.write("0002", *renames, RunSQL("SELECT 1", "SELECT 1"), *declared)
    project.migrate()
    assert project.model("note").objects.values_list("a", "b").get() == ("a", "b")


@pytest.mark.parametrize("declared_last", [True, False])
def test_shared_companions_may_change_their_names(project, declared_last) -> None:
    fields = {"a": text(keys_field="k1"), "b": of_another_context(keys_field="k2")}
    project.write("0001", note(**fields, k1=CompanionField(), k2=CompanionField()))
    project.migrate()
    project.model("note").objects.create(tenant="t", a="a", b="b")
    renames = [RenameField("note", old, new) for old, new in [("k1", "kx"), ("k2", "k1"), ("kx", "k2")]]
    declared = [AlterField("note", "a", text(keys_field="k2"))]
    declared.append(AlterField("note", "b", of_another_context(keys_field="k1")))
    project.write("0002", *(renames + declared if declared_last else declared + renames))
    project.migrate()
    assert project.model("note").objects.values_list("a", "b").get() == ("a", "b")
    project.migrate("0001")
    assert project.model("note").objects.values_list("a", "b").get() == ("a", "b")


def of_another_kind(*others):
    boolean = {"a": models.BooleanField(null=True), "b": models.BooleanField(null=True)}
    return [*others, AddField("note", "a_keys", CompanionField()), AlterField("note", "a", text())], boolean


OTHER_KINDS = {
    "boolean": of_another_kind(),
    "renamed": ([*of_another_kind()[0], RenameField("note", "a", "c")], of_another_kind()[1]),
    "in database operations": ([SeparateDatabaseAndState(of_another_kind()[0])], of_another_kind()[1]),
    "foreign key": (
        of_another_kind()[0],
        {"a": models.ForeignKey("contenttypes.contenttype", models.CASCADE, null=True), "b": models.IntegerField()},
    ),
}


@pytest.mark.parametrize(("operations", "fields"), OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_a_column_that_is_no_text_is_refused_before_its_companion_is_added(project, operations, fields) -> None:
    project.write("0001", note(**fields), dependencies=[("contenttypes", "__latest__")])
    project.migrate()
    attname = "a_id" if isinstance(fields["a"], models.ForeignKey) else "a"
    project.model("note").objects.create(tenant="t", b=1, **{attname: 1})
    before = project.tables()
    project.write("0002", *operations)
    with pytest.raises(MigrationRefused, match=r"Note\.a is a (BooleanField|ForeignKey).*nothing was changed"):
        project.migrate()
    assert project.tables() == before


def test_a_column_that_an_operation_of_ones_own_may_have_emptied_is_judged_when_it_is_altered(project) -> None:
    operations, fields = of_another_kind(RunSQL("SELECT 1", "SELECT 1"))
    project.write("0001", note(**fields))
    project.migrate()
    project.model("note").objects.create(tenant="t", a=True)
    project.write("0002", *operations)
    with pytest.raises(MigrationRefused, match=r"Note\.a is a BooleanField"):
        project.migrate()


@pytest.mark.parametrize("operations", [
    of_another_kind()[0],
    [RemoveField("note", "a"), AddField("note", "a", models.BooleanField(null=True)), *of_another_kind()[0]],
    [DeleteModel("Note"), note(a=models.BooleanField(null=True)), *of_another_kind()[0]],
], ids=["without values", "column made anew", "table made anew"])  # fmt: skip
def test_a_column_without_values_becomes_an_encrypted_one(project, operations) -> None:
    project.write("0001", note(**of_another_kind()[1]))
    project.migrate()
    project.model("note").objects.create(tenant="t", a=None if len(operations) == 2 else True)
    project.write("0002", *operations)
    project.migrate()
    project.model("note").objects.create(tenant="t", a="text")


def test_a_column_of_a_table_that_is_not_there_has_no_values(project) -> None:
    operations, fields = of_another_kind(
        SeparateDatabaseAndState([AddField("note", "n", models.IntegerField(null=True))])
    )
    project.write("0001", note(**fields))
    project.write("0002", *operations)
    project.migrate("0001", fake=True)
    with pytest.raises(DatabaseError):
        project.migrate()


def test_a_table_that_django_does_not_manage_keeps_a_column_of_any_kind(project) -> None:
    project.write("0001", CreateModel("Note", note(**of_another_kind()[1]).fields, options={"managed": False}))
    project.write("0002", *of_another_kind()[0])
    project.migrate("0001")
    project.migrate()


WITHOUT_COMPANION = {
    "removed": [
        RenameField("note", "a", "c"),
        RemoveField("note", "a_keys"),
        AddField("note", "c_keys", CompanionField()),
    ],
    "removed, behind the new one": [
        RenameField("note", "a", "c"),
        AddField("note", "c_keys", CompanionField()),
        RemoveField("note", "a_keys"),
    ],
    "removed, behind one that was there": [
        AddField("note", "c_keys", CompanionField()),
        RenameField("note", "a", "c"),
        RemoveField("note", "a_keys"),
    ],
    "made a column of text": [
        RenameField("note", "a", "c"),
        AlterField("note", "a_keys", models.CharField(max_length=50, null=True)),
    ],
    "left behind": [AddField("note", "c_keys", CompanionField()), RenameField("note", "a", "c")],
    "of a renamed model": [
        RenameModel("Note", "Memo"),
        RenameField("memo", "a", "c"),
        AlterModelTable("memo", "odd table"),
        RemoveField("memo", "a_keys"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("operations", WITHOUT_COMPANION.values(), ids=WITHOUT_COMPANION)
def test_a_field_that_is_renamed_without_its_companion_is_noticed(project, operations) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    before = project.tables()
    project.write("0002", *operations)
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated.\n.*(Note|Memo)\.[ac](:| has) 3 rows"):
        project.migrate()
    assert project.tables() == before


def test_a_companion_that_renamed_fields_left_behind_is_kept_whoever_removes_it(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    moves = [RenameField("note", "a", "c"), AddField("note", "c_keys", CompanionField())]
    project.write("0002", RunPython(do_nothing, do_nothing), *moves, RemoveField("note", "a_keys"))
    with pytest.raises(
        MigrationRefused, match=r'Note\.c has 3 rows.*migrations.RenameField\("note", "a_keys", "c_keys"\)'
    ):
        project.migrate()


def test_companions_with_other_values_are_no_loss_to_a_field(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", RemoveField("note", "b"), RemoveField("note", "b_keys"))
    project.migrate()
    assert project.model("note").objects.order_by("id")[0].a == "text 0"


def test_companions_that_are_renamed_with_their_fields_are_no_loss(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write(
        "0002", *EXCHANGED[:2], RenameField("note", "a_keys", "c_keys"), RenameField("note", "b_keys", "d_keys")
    )
    project.write("0003", migrations.RunSQL(migrations.RunSQL.noop, migrations.RunSQL.noop))
    project.migrate()
    project.migrate("0001")
    assert project.model("note").objects.first().a == "text 0"


def test_a_project_that_took_the_application_out_is_guarded_by_its_migrations(tmp_path) -> None:
    code = (
        "from django.conf import settings; settings.configure(INSTALLED_APPS=[]); import django; django.setup();"
        "from django.db.migrations.executor import MigrationExecutor as executor;"
        "from vault_fields.fields import EncryptedTextField;"
        "assert not hasattr(executor.migrate, '_vault_fields_guard');"
        "EncryptedTextField(key_context=['tenant']);"
        "assert hasattr(executor.migrate, '_vault_fields_guard')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_faked_migrations_and_shown_sql_are_not_asked(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", *TO_PLAIN)
    with connection.cursor():
        call_command("sqlmigrate", project.label, "0002", verbosity=0, no_color=True)
    project.migrate(fake=True)
    project.migrate("0001", fake=True)
    assert project.model("note").objects.first().a == "text 0"


def test_options_are_changed_without_questions(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write(
        "0002",
        AlterField("note", "a", text(blank=True, migrating=True)),
        AlterField("note", "b", data(former_labels=[f"{project.label}.Note.old"])),
        AlterField("note", "a_keys", CompanionField(verbose_name="keys")),
    )
    project.migrate()
    assert project.model("note").objects.first().a == "text 0"
    project.migrate("0001")


def test_a_model_that_moves_to_another_table_in_the_state_alone_is_no_loss(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    table = f"{project.label}_note"
    moved = CreateModel("Memo", encrypted_note().fields, options={"db_table": table})
    project.write("0002", SeparateDatabaseAndState(state_operations=[DeleteModel("Note"), moved]))
    project.migrate()
    project.write("0003", AlterField("memo", "a", models.TextField(null=True)))
    with pytest.raises(MigrationRefused, match=r"Memo\.a has 3 rows"):
        project.migrate()


@pytest.mark.parametrize("options", [{"managed": False}, {"proxy": True}])
def test_tables_that_are_not_changed_are_not_asked(project, options) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    if "proxy" in options:
        project.write("0002", CreateModel("Proxy", [], options=options, bases=(f"{project.label}.note",)))
    else:
        fields = encrypted_note().fields
        project.write("0002", CreateModel("Other", fields, options={**options, "db_table": f"{project.label}_note"}))
        project.write("0003", AlterField("other", "a", models.TextField(null=True)), RemoveField("other", "a_keys"))
    project.migrate()
    assert project.model("note").objects.first().a == "text 0"


def test_a_model_that_another_one_takes_the_place_of_is_not_asked(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    options = {"swappable": "OTHER_NOTE", "db_table": f"{project.label}_note"}
    with override_settings(OTHER_NOTE="testapp.Patient"):
        project.write("0002", CreateModel("Other", encrypted_note().fields, options=options))
        project.write("0003", AlterField("other", "a", models.TextField(null=True)))
        project.migrate()
    assert project.model("note").objects.first().a == "text 0"


def test_an_executor_that_is_given_no_plan_is_judged_too(project) -> None:
    project.write("0001", encrypted_note())
    MigrationExecutor(connection).migrate([(project.label, "0001")])
    fill(project)
    project.write("0002", *TO_PLAIN)
    with pytest.raises(MigrationRefused, match="Nothing was migrated"):
        MigrationExecutor(connection).migrate([(project.label, "0002")])
    MigrationExecutor(connection).migrate([(project.label, "0001")])


class Nowhere:
    def allow_migrate(self, db, app_label, **hints) -> bool:
        return not app_label.startswith("changed")


def test_a_router_that_keeps_the_app_out_of_a_database_is_heard(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    project.write("0002", *TO_PLAIN)
    with override_settings(DATABASE_ROUTERS=[Nowhere()]):
        project.migrate()
        project.migrate("0001")
    assert project.model("note").objects.first().a == "text 0"


def test_a_narrower_column_than_values_need_is_refused(project) -> None:
    project.write("0001", note(a=models.CharField(max_length=50, null=True), b=models.JSONField(null=True)))
    project.migrate()
    project.write("0002", AddField("note", "a_keys", CompanionField()), AlterField("note", "a", text(migrating=True)))
    project.write("0003", EncryptField("note", "a"))
    project.migrate()
    project.model("note").objects.create(tenant="t", a="x" * 51)
    project.model("note").objects.create(tenant="t", a="ü" * 50)
    with pytest.raises(MigrationRefused, match=r"Note\.a: 1 row holds more than the 50 characters"):
        project.migrate("0001")
    # On MariaDB the rows are plain by now, and the column holds them all the same.
    assert {row.a for row in project.model("note").objects.all()} == {"x" * 51, "ü" * 50}
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {project.label}_note SET a = 'short' WHERE a LIKE 'xx%' OR a LIKE '$vf%'")
    project.migrate("0001")
    assert project.column("note", "a") == ["short", "ü" * 50]


def test_inherited_tables_are_judged_each(project) -> None:
    child = CreateModel(
        "Child",
        [
            (
                "note_ptr",
                models.OneToOneField(f"{project.label}.note", models.CASCADE, parent_link=True, primary_key=True),
            ),
            ("c", text()),
            ("c_keys", CompanionField()),
        ],
        bases=(f"{project.label}.note",),
    )
    project.write("0001", encrypted_note(), child)
    project.migrate()
    project.model("child").objects.create(tenant="t", a="a", b=[1], c="c")
    project.write("0002", AlterField("child", "c", models.TextField(null=True)), RemoveField("child", "c_keys"))
    with pytest.raises(MigrationRefused, match=r"Child\.c has 1 row"):
        project.migrate()
    assert project.model("child").objects.get().c == "c"


TYPED = ["$vf is not $ one", "$vf$x$y", "$VF$1$a", "$vf$1$typed$by a user", '"$vf$1$typed$by a user"']


def test_what_a_user_typed_is_counted_for_none(project) -> None:
    project.write("0001", encrypted_note(migrating=True))
    project.migrate()
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {project.label}_note (tenant, a) VALUES ('t', %s)", [[typed] for typed in TYPED]
        )
    project.write("0002", *TO_PLAIN)
    project.migrate()
    assert project.column("note", "a") == TYPED


def test_a_companion_in_a_column_of_another_name_is_found(project) -> None:
    companion = CompanionField(db_column="odd keys")
    project.write("0001", note(a=text(), a_keys=companion, b=models.JSONField(null=True)))
    project.migrate()
    fill(project)
    project.write("0002", RenameModel("Note", "Memo"), AlterField("memo", "a", models.TextField(null=True)))
    with pytest.raises(MigrationRefused, match=r"Memo\.a has 3 rows"):
        project.migrate()


def test_an_operation_that_is_called_by_hand_is_judged_too(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    state = MigrationExecutor(connection).loader.project_state((project.label, "0001"))
    after = state.clone()
    operation = RemoveField("note", "a_keys")
    operation.state_forwards(project.label, after)
    with pytest.raises(MigrationRefused), connection.schema_editor(atomic=False) as editor:
        operation.database_forwards(project.label, editor, state, after)
    assert project.model("note").objects.first().a == "text 0"


def test_a_table_that_is_not_there_holds_nothing(project) -> None:
    project.write("0001", encrypted_note())
    project.migrate()
    project.write("0002", *TO_PLAIN)
    with connection.schema_editor() as editor:
        editor.delete_model(project.model("note"))
    with pytest.raises(DatabaseError):
        project.migrate()  # In the database's words, not in the guard's.


@pytest.mark.parametrize("field", [text, data], ids=["text", "json"])
def test_what_values_are_tied_to_can_be_changed_by_decrypting_in_between(project, field) -> None:
    room = ("room", models.CharField(max_length=10, default="r"))
    fields = [*note(a=field(keys_field="k"), b=data(keys_field="k"), k=CompanionField()).fields, room]
    project.write("0001", CreateModel("Note", fields))
    project.migrate()
    fill(project)
    values = list(project.model("note").objects.order_by("id").values_list("a", "b"))
    project.write(
        "0002",
        DecryptField("note", "a"),
        AlterField("note", "a", field(keys_field="k", bind_to=["room"], migrating=True)),
        EncryptField("note", "a"),
        AlterField("note", "a", field(keys_field="k", bind_to=["room"])),
    )
    for name in ("0002", "0001", "0002"):
        project.migrate(name)
        assert list(project.model("note").objects.order_by("id").values_list("a", "b")) == values
        assert all(stored.startswith("$vf$1$") for stored in project.column("note", "a"))
