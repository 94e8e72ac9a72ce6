"""A column that a context is compared by: whoever changes it is told of the values that would not open afterwards."""

import uuid

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, models
from django.db.migrations.operations import (
    AddField,
    AlterField,
    CreateModel,
    RemoveField,
    RenameField,
    RenameModel,
    RunPython,
    RunSQL,
    SeparateDatabaseAndState,
)

from vault_fields.exceptions import DecryptionError, MigrationRefused
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField
from vault_fields.operations import DecryptField, EncryptField, RekeyField
from vault_fields.schemachange import guard

UUID = uuid.UUID("9f6b2c1e-0a4d-4c58-9d3e-7b1f2a6c8d90")


def text(context=("tenant",), **options):
    return EncryptedTextField(key_context=context if isinstance(context, dict) else list(context), null=True, **options)


def key():
    return models.BigAutoField(primary_key=True)


def note(tenant, **fields):
    fields = fields or {"a": text(), "a_keys": CompanionField()}
    return CreateModel("Note", [("id", key()), ("tenant", tenant), *fields.items()])


def alter(field, name="tenant"):
    return AlterField("note", name, field)


def char(length=40, **options):
    return models.CharField(max_length=length, **options)


def vendors(**found):
    return found[connection.vendor]


# What a column is, what a row has in it, what becomes of it, and whether the value opens then; by database if need be.
MATRIX = {
    "text to whole number, as it is spelled": (char(), "7", models.IntegerField(), True),
    "text to whole number, with zeros": (char(), "007", models.IntegerField(), False),
    "text to whole number, with a sign": (char(), "+7", models.IntegerField(), False),
    "whole number to text": (models.IntegerField(), 7, char(), True),
    "whole number to a short text": (
        models.IntegerField(),
        12345,
        char(3),
        {"sqlite": True, "postgresql": False, "mysql": False},
    ),
    "whole number to a greater one": (models.SmallIntegerField(), 7, models.BigIntegerField(), True),
    "whole number to UUID": (models.IntegerField(), 7, models.UUIDField(), False),
    "text to UUID, as it is spelled": (char(), str(UUID), models.UUIDField(), True),
    "text to UUID, without dashes": (char(), UUID.hex, models.UUIDField(), False),
    "text to UUID, in capitals": (char(), str(UUID).upper(), models.UUIDField(), False),
    "UUID to text": (models.UUIDField(), UUID, char(), {"sqlite": False, "postgresql": True, "mysql": True}),
    "text to decimal": (char(), "7", models.DecimalField(max_digits=5, decimal_places=2), False),
    "whole number to decimal": (models.IntegerField(), 7, models.DecimalField(max_digits=5, decimal_places=2), False),
    "whole number to boolean": (models.IntegerField(), 1, models.BooleanField(), False),
    "text to date": (char(), "2026-01-02", models.DateField(), False),
    "text to moment": (char(), "2026-01-02", models.DateTimeField(), False),
    "longer text": (char(), "acme", char(80), True),
    "text without a limit": (char(), "acme", models.TextField(), True),
    "shorter text that is long enough": (char(), "acme", char(4), True),
    "shorter text": (char(), "acme", char(3), {"sqlite": True, "postgresql": False, "mysql": False}),
    "text with a limit": (
        models.TextField(),
        "acme",
        char(3),
        {"sqlite": True, "postgresql": False, "mysql": False},
    ),
    "slug": (char(), "acme", models.SlugField(), True),
    "null": (char(), "acme", char(null=True), True),
    "options": (char(), "acme", char(verbose_name="t", default="x", db_index=True, help_text="t", blank=True), True),
    "choices": (char(), "acme", char(choices=[("acme", "Acme")]), True),
    "another column": (char(), "acme", char(db_column="odd column"), True),
    "a collation": (char(), "Acmé ", "collation", True),
}


def collated():
    return char(db_collation=vendors(sqlite="NOCASE", postgresql="C", mysql="utf8mb4_bin"))


def values(project, name="a", model="note"):
    return list(project.model(model).objects.order_by("id").values_list(name, flat=True))


def made(project, field, value) -> None:
    project.write("0001", note(field))
    project.migrate()
    model = project.model("note")
    model.objects.create(tenant=value, a="secret")
    model.objects.create(tenant=value)
    assert values(project) == ["secret", None]


@pytest.mark.parametrize("case", MATRIX.values(), ids=MATRIX)
@pytest.mark.parametrize("path", ["executor", "operation"])
def test_a_change_is_refused_if_values_would_not_open_afterwards(project, monkeypatch, case, path) -> None:
    before, value, after, opens = case
    opens = opens if isinstance(opens, bool) else vendors(**opens)
    made(project, before, value)
    tables = project.tables()
    project.write("0002", alter(collated() if after == "collation" else after))
    if path == "operation":
        monkeypatch.setattr(guard, "respelled_by_plan", lambda *arguments: [])
    if opens:
        project.migrate()
        assert values(project) == ["secret", None]
        project.migrate("0001")
        assert values(project) == ["secret", None]
        return
    begins = "Nothing was migrated.\n.*" if path == "executor" else ""
    with pytest.raises(MigrationRefused, match=rf"{begins}Note\.a has 1 row whose value would not open"):
        project.migrate()
    assert project.tables() == tables
    assert values(project) == ["secret", None]


@pytest.mark.parametrize("case", MATRIX.values(), ids=MATRIX)
def test_what_is_refused_would_keep_values_from_opening(project, monkeypatch, case) -> None:
    before, value, after, opens = case
    if opens if isinstance(opens, bool) else vendors(**opens):
        return  # See above.
    made(project, before, value)
    project.write("0002", alter(after))
    monkeypatch.setattr(guard, "respelled_by_plan", lambda *arguments: [])
    monkeypatch.setattr(guard, "respelled_by", lambda *arguments: [])
    try:
        project.migrate()
    except DatabaseError:
        return  # The database refuses it, in the middle of a migration.
    with pytest.raises(DecryptionError):
        values(project)
    with pytest.raises((DecryptionError, ValueError)):  # Django itself does not take every text for a UUID.
        assert project.model("note").objects.order_by("id")[0].a


@pytest.mark.parametrize("name", ["text to whole number, with zeros", "text to UUID, in capitals"])
@pytest.mark.parametrize("number", [1, 3], ids=["one migration", "several"])
def test_values_that_are_decrypted_before_and_encrypted_after_it_open(project, name, number) -> None:
    before, value, after, _ = MATRIX[name]
    made(project, before, value)
    operations = [
        DecryptField("note", "a"),
        alter(text(migrating=True), "a"),
        alter(after),
        EncryptField("note", "a"),
        alter(text(), "a"),
    ]
    if number == 1:
        project.write("0002", *operations)
    else:
        project.write("0002", *operations[:2])
        project.write("0003", operations[2])
        project.write("0004", *operations[3:])
    project.migrate()
    assert values(project) == ["secret", None]
    assert project.column("note", "a")[0].startswith("$vf$1$")


def test_decrypting_too_late_is_refused(project) -> None:
    made(project, char(), "007")
    tables = project.tables()
    project.write("0002", alter(models.IntegerField()), DecryptField("note", "a"))
    with pytest.raises(MigrationRefused, match="Nothing was migrated"):
        project.migrate()
    assert project.tables() == tables


def test_the_refusal_says_what_to_write(project) -> None:
    made(project, char(), "007")
    project.write("0002_number", alter(models.IntegerField()))
    with pytest.raises(MigrationRefused) as refusal:
        project.migrate()
    message = str(refusal.value)
    assert f"{project.label}.0002_number: {project.label}.Note.a has 1 row whose value would not open" in message
    assert '"Alter field tenant on note" was applied' in message
    assert "(tenant)" in message
    assert 'DecryptField("note", "a") and an AlterField of \'a\' with migrating=True before it' in message
    assert 'EncryptField("note", "a") and an AlterField without migrating=True after it' in message
    assert "007" not in message


# Other ways in which a row comes to be compared by something else, from a note of the tenant "acme".
OTHER = {"other": char(null=True)}
TO_OTHER = AddField("note", "other", char(null=True))
BOTH = alter(text(["tenant", "other"]), "a")
LOST = {
    "replaced by a new column": [TO_OTHER, alter(text(["other"]), "a"), RemoveField("note", "tenant")],
    "replaced under the same name": [TO_OTHER, alter(text({"tenant": "other"}), "a"), RemoveField("note", "tenant")],
    "removed and made anew": [RemoveField("note", "tenant"), AddField("note", "tenant", char(default="acme"))],
    "removed": [RemoveField("note", "tenant")],
    "renamed with its item": [RenameField("note", "tenant", "owner"), alter(text(["owner"]), "a")],
    "renamed with its item, model too": [
        RenameModel("Note", "Memo"),
        RenameField("memo", "tenant", "owner"),
        AlterField("memo", "a", text(["owner"])),
    ],
    "another item": [alter(text({"owner": "tenant"}), "a")],
    "tied to it": [alter(text(bind_to=["tenant"]), "a")],
    "rekeyed too late": [alter(text({"owner": "tenant"}), "a"), RekeyField("note", "a")],
    "rekeyed, and another item": [RekeyField("note", "a"), alter(text({"owner": "tenant"}), "a")],
    "renamed by the state alone": [
        SeparateDatabaseAndState(state_operations=[alter(text({"owner": "tenant"}), "a")]),
        TO_OTHER,
        RemoveField("note", "other"),
    ],
}
KEPT = {
    "renamed": [RenameField("note", "tenant", "owner"), alter(text({"tenant": "owner"}), "a")],
    "renamed, declaration first": [alter(text({"tenant": "owner"}), "a"), RenameField("note", "tenant", "owner")],
    "renamed, declaration later": [RenameField("note", "tenant", "owner"), AlterField("note", "owner", char(80))],
    "another item by way of both": [
        alter(text({"tenant": "tenant", "owner": "tenant"}), "a"),
        RekeyField("note", "a"),
        alter(text({"owner": "tenant"}), "a"),
    ],
    "an item more": [TO_OTHER, BOTH],
    "an item less": [TO_OTHER, BOTH, alter(text(), "a"), RemoveField("note", "other")],
    "replaced by way of both": [
        TO_OTHER,
        BOTH,
        RunPython(lambda: None, RunPython.noop),
        RekeyField("note", "a"),
        alter(text(["other"]), "a"),
        RemoveField("note", "tenant"),
    ],
    "decrypted, and another item": [
        DecryptField("note", "a"),
        alter(text(migrating=True), "a"),
        alter(text({"owner": "tenant"}, migrating=True), "a"),
        EncryptField("note", "a"),
    ],
    "field removed too": [RemoveField("note", "tenant"), RemoveField("note", "a"), RemoveField("note", "a_keys")],
    "model renamed": [RenameModel("Note", "Memo")],
}


def copy_tenant(apps, schema_editor) -> None:
    (label,) = [config.label for config in apps.get_app_configs() if config.label.startswith("changed")]
    model = apps.get_model(label, "note")
    model.objects.update(other=models.F("tenant"))


KEPT["replaced by way of both"][2] = RunPython(copy_tenant, RunPython.noop)
KEPT["replaced, and copied"] = [
    TO_OTHER,
    RunPython(copy_tenant, RunPython.noop),
    alter(text({"tenant": "other"}), "a"),
    RemoveField("note", "tenant"),
]
KEPT["replaced, and copied later"] = [TO_OTHER, alter(text({"tenant": "other"}), "a"), KEPT["replaced, and copied"][1]]


@pytest.mark.parametrize("operations", LOST.values(), ids=LOST)
@pytest.mark.parametrize("spread", [False, True], ids=["one migration", "several"])
def test_a_row_that_would_be_compared_by_something_else_is_refused(project, operations, spread) -> None:
    made(project, char(), "acme")
    tables = project.tables()
    if spread:
        for number, operation in enumerate(operations, start=2):
            project.write(f"{number:04}", operation)
    else:
        project.write("0002", *operations)
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated.\n.*Note\.a has 1 row"):
        project.migrate()
    assert project.tables() == tables
    assert values(project) == ["secret", None]


@pytest.mark.parametrize("operations", KEPT.values(), ids=KEPT)
def test_what_keeps_values_is_let_pass(project, operations) -> None:
    made(project, char(), "acme")
    project.write("0002", *operations)
    project.migrate()
    if "field removed" not in str(operations) and len(operations) > 1 and not isinstance(operations[-1], RemoveField):
        renamed = isinstance(operations[0], RenameField) and operations[-1].name == "owner"
        assert renamed or values(project) == ["secret", None]


@pytest.mark.parametrize("operations", [*LOST.values(), *KEPT.values()], ids=[*LOST, *KEPT])
def test_tables_without_values_are_changed_without_questions(project, operations) -> None:
    project.write("0001", note(char(null=True)))
    project.write("0002", *operations)
    project.migrate("0001")
    project.model("note").objects.create(tenant="acme")
    if "rekeyed too late" in str(operations):
        return
    project.migrate()


@pytest.mark.parametrize("operations", [*LOST.values(), *KEPT.values()], ids=[*LOST, *KEPT])
def test_a_new_database_is_made_without_questions(project, operations) -> None:
    project.write("0001", note(char(null=True)))
    project.write("0002", *operations)
    project.migrate()


def test_what_changes_no_column_is_not_asked(project, capsys) -> None:
    made(project, char(), "007")
    project.write("0002", alter(models.IntegerField()))
    call_command("sqlmigrate", project.label, "0002")
    project.migrate(fake=True)
    project.migrate("0001", fake=True)
    with pytest.raises(MigrationRefused):
        project.migrate()


def test_going_back_is_refused_too(project) -> None:
    made(project, models.IntegerField(), 7)
    project.write("0002", alter(char()))
    project.migrate()
    model = project.model("note")
    model.objects.create(tenant="007", a="another")
    tables = project.tables()
    with pytest.raises(MigrationRefused, match=r'Note\.a has 1 row .*"Alter field tenant on note" was undone'):
        project.migrate("0001")
    assert project.tables() == tables
    model.objects.filter(tenant="007").update(tenant="8")
    project.migrate("0001")
    assert values(project) == ["secret", None, "another"]


def test_what_is_changed_there_and_back_is_refused_when_it_runs(project) -> None:
    made(project, char(), "007")
    project.write("0002", alter(models.IntegerField()))
    project.write("0003", alter(char()))
    with pytest.raises(MigrationRefused, match=r"Note\.a has 1 row"):
        project.migrate()
    assert values(project) == ["secret", None]


def spell_plainly(apps, schema_editor) -> None:
    (label,) = [config.label for config in apps.get_app_configs() if config.label.startswith("changed")]
    apps.get_model(label, "note").objects.filter(tenant="007").update(tenant="7")


def test_rows_that_are_spelled_as_they_will_be_before_are_let_pass(project) -> None:
    made(project, char(), "007")
    project.write("0002", RunPython(spell_plainly, RunPython.noop), alter(models.IntegerField()))
    project.migrate()
    assert values(project) == ["secret", None]


def do_nothing(apps, schema_editor) -> None:
    pass


def test_operations_of_ones_own_that_leave_the_spelling_are_noticed_in_time(project) -> None:
    made(project, char(), "007")
    project.write("0002", RunPython(do_nothing, RunPython.noop), alter(models.IntegerField()))
    with pytest.raises(MigrationRefused) as refusal:
        project.migrate()
    assert "Nothing was migrated" not in str(refusal.value)
    assert values(project) == ["secret", None]


NOTHING = RunPython(do_nothing, do_nothing)
LATE = {
    "in the next migration": [[alter(models.IntegerField())], [NOTHING]],
    "in the same migration": [[alter(models.IntegerField()), NOTHING]],
    "in SQL": [[alter(models.IntegerField())], [RunSQL("SELECT 1", "SELECT 1")]],
    "before and behind": [[NOTHING, alter(models.IntegerField()), NOTHING]],
    "declared, and another migration": [[TO_OTHER, alter(text({"tenant": "other"}), "a")], [NOTHING]],
    "declared, and the column removed": [
        [TO_OTHER, alter(text({"tenant": "other"}), "a"), RemoveField("note", "tenant"), NOTHING]
    ],
}


@pytest.mark.parametrize("migrations", LATE.values(), ids=LATE)
def test_what_runs_behind_a_change_does_not_keep_it_from_being_judged(project, migrations) -> None:
    made(project, char(), "007")
    tables = project.tables()
    for number, operations in enumerate(migrations, start=2):
        project.write(f"{number:04}", *operations)
    with pytest.raises(MigrationRefused, match=r"Note\.a has 1 row "):
        project.migrate()
    if migrations[0][0] is not NOTHING:
        assert project.tables() == tables
    assert values(project) == ["secret", None]


def test_what_runs_behind_a_change_that_values_bear_is_let_pass(project) -> None:
    made(project, char(), "7")
    project.write("0002", alter(models.IntegerField()))
    project.write("0003", NOTHING)
    project.migrate()
    assert values(project) == ["secret", None]


def copy_back(apps, schema_editor) -> None:
    (label,) = [config.label for config in apps.get_app_configs() if config.label.startswith("changed")]
    apps.get_model(label, "note").objects.update(tenant=models.F("other"))


def test_a_column_that_is_replaced_and_filled_can_come_back(project) -> None:
    made(project, char(null=True), "acme")
    project.write(
        "0002",
        TO_OTHER,
        RunPython(copy_tenant, copy_back),
        alter(text({"tenant": "other"}), "a"),
        RemoveField("note", "tenant"),
    )
    project.migrate()
    assert values(project) == ["secret", None]
    project.migrate("0001")
    assert values(project) == ["secret", None]


def test_rows_that_do_not_open_now_are_not_counted(project) -> None:
    made(project, char(), "007")
    project.model("note").objects.bulk_create([project.model("note")(tenant="8", a="moved") for _ in range(2)])
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {project.label}_note SET tenant = '009' WHERE tenant = '8'")
        cursor.execute(f"UPDATE {project.label}_note SET tenant = '7', a_keys = '?' WHERE tenant = '007'")
    project.write("0002", alter(models.IntegerField()))
    project.migrate()


# Columns of other tables.


def organization(**fields):
    return CreateModel("Organization", [*fields.items()])


def of_organization(project, path=None, **options):
    context = {"organization_id": path} if path else ["organization_id"]
    link = models.ForeignKey(f"{project.label}.organization", models.CASCADE, db_constraint=False, **options)
    fields = [("id", key()), ("organization", link), ("a", text(context)), ("a_keys", CompanionField())]
    return CreateModel("Note", fields)


CODE = {"id": key(), "code": char(unique=True)}


@pytest.mark.parametrize("spread", [False, True], ids=["one app", "another app"])
def test_the_key_of_a_foreign_key_is_followed(project, spread) -> None:
    project.write("0001", organization(code=char(primary_key=True)), of_organization(project))
    project.migrate()
    project.model("organization").objects.create(code="007")
    project.model("note").objects.create(organization_id="007", a="secret")
    tables = project.tables()
    project.write("0002", AlterField("organization", "code", models.IntegerField(primary_key=True)))
    with pytest.raises(MigrationRefused, match=r"Note\.a has 1 row .*Alter field code on organization"):
        project.migrate()
    assert project.tables() == tables
    assert values(project) == ["secret"]


@pytest.mark.parametrize("path", [None, "organization__id", "organization__code"])
def test_a_greater_key_keeps_its_spelling(project, path) -> None:
    fields = {"id": models.AutoField(primary_key=True), "code": char()}
    project.write("0001", organization(**fields), of_organization(project, path))
    project.migrate()
    made = project.model("organization").objects.create(code="x")
    project.model("note").objects.create(organization_id=made.pk, a="secret")
    project.write("0002", AlterField("organization", "id", key()), AlterField("organization", "code", char(80)))
    project.migrate()
    assert values(project) == ["secret"]


def test_a_path_that_leads_where_it_did_may_start_from_another_text(project) -> None:
    fields = {"number": char(primary_key=True), "code": char()}
    project.write("0001", organization(**fields), of_organization(project, "organization__code"))
    project.migrate()
    project.model("organization").objects.create(number="007", code="x")
    project.model("note").objects.create(organization_id="007", a="secret")
    project.write("0002", AlterField("organization", "number", models.IntegerField(primary_key=True)))
    project.migrate()
    assert values(project) == ["secret"]


@pytest.mark.parametrize("path", ["organization__group__code", "organization__group_id", "organization__name"])
def test_a_path_that_starts_and_ends_elsewhere_is_refused(project, path) -> None:
    group = CreateModel("Group", [("id", key()), ("code", char())])
    link = models.ForeignKey(f"{project.label}.group", models.CASCADE, db_constraint=False)
    owner = organization(number=char(primary_key=True), name=char(), group=link)
    project.write("0001", group, owner, of_organization(project, path))
    project.migrate()
    made = project.model("group").objects.create(code="x")
    project.model("organization").objects.create(number="007", name="y", group_id=made.pk)
    project.model("note").objects.create(organization_id="007", a="secret")
    tables = project.tables()
    number = AlterField("organization", "number", models.IntegerField(primary_key=True))
    *_, end = path.split("__")
    model = "group" if end == "code" else "organization"
    project.write("0002", number, RenameField(model, end.removesuffix("_id"), "renamed"))
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated.\n.*Note\.a has 1 row"):
        project.migrate()
    assert project.tables() == tables


def test_a_column_that_the_database_does_not_have_is_not_asked_for(project) -> None:
    made(project, char(), "007")
    project.write("0002", TO_OTHER, BOTH)
    project.migrate(fake=True)
    project.write("0003", alter(models.IntegerField()))
    project.migrate()


def test_another_target_that_has_the_same_text_changes_nothing(project) -> None:
    project.write("0001", organization(**CODE), of_organization(project))
    project.migrate()
    made = project.model("organization").objects.create(code="1")
    project.model("note").objects.create(organization_id=made.pk, a="secret")
    project.model("organization").objects.update(code=str(made.pk))
    link = models.ForeignKey(f"{project.label}.organization", models.CASCADE, db_constraint=False, to_field="code")
    project.write("0002", alter(link, "organization"))
    project.migrate()
    assert values(project) == ["secret"]


def test_a_target_whose_text_cannot_be_the_same_is_refused(project) -> None:
    fields = {"id": key(), "code": models.UUIDField(unique=True)}
    project.write("0001", organization(**fields), of_organization(project))
    project.migrate()
    made = project.model("organization").objects.create(code=UUID)
    project.model("note").objects.create(organization_id=made.pk, a="secret")
    link = models.ForeignKey(f"{project.label}.organization", models.CASCADE, db_constraint=False, to_field="code")
    project.write("0002", alter(link, "organization"))
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated.\n.*Note\.a has 1 row"):
        project.migrate()
    assert values(project) == ["secret"]


def test_a_column_of_a_parent_is_followed(project) -> None:
    base = note(char(), n=models.IntegerField(null=True))
    child = CreateModel("Extra", [("a", text()), ("a_keys", CompanionField())], bases=(f"{project.label}.note",))
    pointer = models.OneToOneField(
        f"{project.label}.note", models.CASCADE, parent_link=True, primary_key=True, auto_created=True, serialize=False
    )
    child.fields.insert(0, ("note_ptr", pointer))
    project.write("0001", base, child)
    project.migrate()
    project.model("extra").objects.create(tenant="007", a="secret")
    project.write("0002", alter(models.IntegerField()))
    with pytest.raises(MigrationRefused, match=r"Extra\.a has 1 row .*Alter field tenant on note"):
        project.migrate()
    assert values(project, model="extra") == ["secret"]


def test_what_a_value_is_tied_to_is_followed(project) -> None:
    project.write("0001", note(char(), slug=char(editable=False), a=text(bind_to=["slug"]), a_keys=CompanionField()))
    project.migrate()
    project.model("note").objects.create(tenant="acme", slug="007", a="secret")
    project.write("0002", RenameField("note", "slug", "code"), alter(text(bind_to=["code"]), "a"))
    project.migrate()
    assert values(project) == ["secret"]
    project.write("0003", AlterField("note", "code", models.IntegerField(editable=False)))
    with pytest.raises(MigrationRefused, match=r"Note\.a has 1 row .*\(tenant, code\)"):
        project.migrate()
    assert values(project) == ["secret"]


def test_every_field_that_shares_the_column_is_named(project) -> None:
    fields = {"a": text(keys_field="k"), "k": CompanionField()}
    fields["b"] = EncryptedJSONField(key_context=["tenant"], null=True, keys_field="k")
    project.write("0001", note(char(), **fields))
    project.migrate()
    project.model("note").objects.create(tenant="007", a="secret", b=[1])
    project.write("0002", alter(models.IntegerField()))
    with pytest.raises(MigrationRefused, match=r"Note\.a has 1 row(.|\n)*Note\.b has 1 row"):
        project.migrate()


def test_squashed_migrations_are_judged_as_they_are(project) -> None:
    project.write("0001", note(char()))
    project.write("0002", alter(models.IntegerField()))
    replaces = [(project.label, "0001"), (project.label, "0002")]
    project.migrate("0001")
    project.model("note").objects.create(tenant="007", a="secret")
    project.write("0001_squashed", note(char()), alter(models.IntegerField()), dependencies=[], replaces=replaces)
    tables = project.tables()
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated.\n.*0002: .*Note\.a has 1 row"):
        project.migrate("0001_squashed")
    assert project.tables() == tables
