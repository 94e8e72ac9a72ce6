"""Encrypted fields whose declaration changes, against the migrations of a project on disk."""

import pytest
from django.db import models

from vault_fields.checks.changes import check_changes
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField

CREATE = """
migrations.CreateModel("Patient", [
    ("id", models.BigAutoField(primary_key=True)),
    ("organization_id", models.IntegerField()),
    ("slug", models.SlugField(editable=False)),
    ("note", models.TextField(default="")),
    ("ssn", EncryptedTextField(key_context=["organization_id"])),
    ("ssn_keys", CompanionField()),
    ("k", CompanionField()),
])
"""


def alter(options="", context='["organization_id"]', kind="Text") -> str:
    return f'migrations.AlterField("patient", "ssn", Encrypted{kind}Field(key_context={context}{options}))'


SHARED = alter(', keys_field="k"')
BOUND = alter(', bind_to=["slug"]')
OTHER = alter(context='{"tenant": "organization_id"}')
BOTH = alter(context='{"organization_id": "organization_id", "tenant": "organization_id"}')
JSON = alter(kind="JSON")
DECRYPT, ENCRYPT = 'DecryptField("patient", "ssn")', 'EncryptField("patient", "ssn")'
MOVE = 'MoveToCompanion("patient", ["ssn"], "k")'
RENAME = 'migrations.RenameField("patient", "k", "k2")'
RENAME_FIELD = 'migrations.RenameField("patient", "ssn", "number")'
RENAME_MODEL = 'migrations.RenameModel("Patient", "Person")'
RENAME_COMPANION = 'migrations.RenameField("patient", "ssn_keys", "number_keys")'
ADD_COMPANION = 'migrations.AddField("patient", "number_keys", CompanionField())'
OWN = "migrations.RunPython(print)"


def separately(database="", state="") -> str:
    return f"migrations.SeparateDatabaseAndState([{database}], [{state}])"


def check(project, lab, *operations):
    project.migration("0001_initial", CREATE)
    for number, operation in enumerate(operations, start=2):
        project.migration(f"{number:04}", operation, after=[f"{number - 1:04}" if number > 2 else "0001_initial"])
    return check_changes(lab.apps.get_app_configs())


def only(messages):
    (message,) = messages
    assert message.obj == "testapp.patient"
    assert "testapp.patient.ssn" in message.msg
    return message


def test_e029_another_companion(project, lab) -> None:
    message = only(check(project, lab, SHARED))
    assert message.id == "vault_fields.E029"
    assert message.hint.startswith('Write MoveToCompanion("patient", ["ssn"], "k") before it')
    assert "0002" in message.msg


def test_e029_move_to_another_companion_than_that(project, lab) -> None:
    assert (
        only(check(project, lab, 'MoveToCompanion("patient", ["ssn"], "ssn_keys")', SHARED)).id == "vault_fields.E029"
    )


@pytest.mark.parametrize("companion", ["k", "ssn_keys"])
def test_e029_values_that_are_moved_too_late(project, lab, companion) -> None:
    move = f'MoveToCompanion("patient", ["ssn"], "{companion}")'
    assert only(check(project, lab, SHARED, move)).id == "vault_fields.E029"


def test_e029_another_companion_is_renamed(project, lab) -> None:
    assert only(check(project, lab, SHARED, RENAME)).id == "vault_fields.E029"


@pytest.mark.parametrize("operations", [
    [RENAME_FIELD],
    [f'{RENAME_FIELD}, migrations.RemoveField("patient", "ssn_keys")', ADD_COMPANION],
    [ADD_COMPANION, f'{RENAME_FIELD}, migrations.RemoveField("patient", "ssn_keys")'],
    [RENAME_FIELD, 'migrations.RenameField("patient", "k", "number_keys")'],
], ids=["alone", "companion made anew", "companion made before", "another companion renamed"])  # fmt: skip
def test_e029_field_that_is_renamed_without_its_companion(project, lab, operations) -> None:
    (message,) = check(project, lab, *operations)
    assert message.id == "vault_fields.E029"
    assert "testapp.patient.number is renamed, and its companion is not" in message.msg
    assert message.hint == (
        'Write migrations.RenameField("patient", "ssn_keys", "number_keys") beside it, in place of a new companion.'
    )


def test_e030_other_columns_are_tied(project, lab) -> None:
    message = only(check(project, lab, BOUND))
    assert message.id == "vault_fields.E030"
    assert message.hint.startswith('Write DecryptField("patient", "ssn") before it')


@pytest.mark.parametrize("gone", [
    'migrations.RemoveField("patient", "ssn")',
    f'migrations.DeleteModel("Patient"), {CREATE.strip()}, migrations.RemoveField("patient", "ssn")',
], ids=["field", "model"])  # fmt: skip
def test_e030_what_was_decrypted_is_another_field(project, lab, gone) -> None:
    again = alter().replace("AlterField", "AddField")
    assert only(check(project, lab, DECRYPT, f"{gone}, {again}", BOUND)).id == "vault_fields.E030"


def test_e030_encrypted_again_too_soon(project, lab) -> None:
    assert only(check(project, lab, DECRYPT, ENCRYPT, BOUND)).id == "vault_fields.E030"


def test_e031_nothing_in_common(project, lab) -> None:
    message = only(check(project, lab, OTHER))
    assert message.id == "vault_fields.E031"
    assert 'RekeyField("patient", "ssn")' in message.hint


def test_e031_renamed_column_can_keep_the_name_of_its_item(project, lab) -> None:
    rename = 'migrations.RenameField("patient", "organization_id", "t_id")'
    message = only(check(project, lab, rename, alter(context='["t_id"]')))
    assert message.id == "vault_fields.E031"
    assert "the item's former name in the mapping key_context={former: renamed}" in message.hint


def test_e031_item_of_the_same_name_from_another_column(project, lab) -> None:
    message = only(check(project, lab, alter(context='{"organization_id": "slug"}')))
    assert message.id == "vault_fields.E031"


def test_e031_what_cannot_be_compared_cannot_be_rekeyed(project, lab) -> None:
    assert only(check(project, lab, OTHER, 'RekeyField("patient", "ssn")')).id == "vault_fields.E031"


def test_e031_constants_alone_have_no_columns(project, lab) -> None:
    nothing = alter(context='{"p": models.Value("d")}')
    assert only(check(project, lab, nothing, nothing)).id == "vault_fields.E031"


def test_w015_text_to_json(project, lab) -> None:
    message = only(check(project, lab, JSON))
    assert message.id == "vault_fields.W015"
    assert 'TextToJSON("patient", "ssn") beside it' in message.hint


def test_w015_back_to_text(project, lab) -> None:
    message = only(check(project, lab, 'TextToJSON("patient", "ssn")', JSON, alter()))
    assert 'JSONToText("patient", "ssn") beside it' in message.hint


def retyped(name: str, options: str = "") -> str:
    return f'migrations.AlterField("patient", "ssn", fields.{name}(key_context=["organization_id"]{options}))'


def test_w032_another_type(project, lab) -> None:
    message = only(check(project, lab, retyped("EncryptedIntegerField")))
    assert message.id == "vault_fields.W032"
    assert "has values of another type" in message.msg
    assert message.hint.startswith('Write DecryptField("patient", "ssn") before it, with migrating=True')


def test_w032_document_that_becomes_a_date(project, lab) -> None:
    messages = check(project, lab, JSON, retyped("EncryptedDateField"))
    assert sorted(message.id for message in messages) == ["vault_fields.W015", "vault_fields.W032"]


@pytest.mark.parametrize("operations", [
    [retyped("EncryptedCharField"), retyped("EncryptedEmailField")],
    [DECRYPT, retyped("EncryptedIntegerField", ", migrating=True"), ENCRYPT, retyped("EncryptedBigIntegerField")],
])  # fmt: skip
def test_w032_types_that_share_their_texts(project, lab, operations) -> None:
    assert check(project, lab, *operations) == []


def column(field, name="organization_id", model="patient") -> str:
    return f'migrations.AlterField("{model}", "{name}", models.{field})'


TO_TEXT = column("CharField(max_length=9)")
TO_UUID = column("UUIDField()")
ORGANIZATION = """
migrations.CreateModel("Organization", [("code", models.CharField(max_length=20, primary_key=True))]),
migrations.CreateModel("Base", [
    ("base", models.BigAutoField(primary_key=True)), ("tenant", models.CharField(max_length=9)),
]),
migrations.CreateModel("Visit", [
    ("base_ptr", models.OneToOneField(
        "testapp.base", models.CASCADE, parent_link=True, primary_key=True, auto_created=True, serialize=False
    )),
    ("organization", models.ForeignKey("testapp.organization", models.CASCADE)),
    ("user", models.ForeignKey("auth.user", models.CASCADE)),
    ("thing", models.ForeignKey("nowhere.thing", models.CASCADE)),
    ("code", models.ForeignKey("nowhere.thing", models.CASCADE, to_field="code")),
    ("reason", EncryptedTextField(
        key_context=["organization_id", "tenant", "user_id", "thing_id", "code", "missing"]
    )),
    ("reason_keys", CompanionField()),
], bases=("testapp.base",))
"""


@pytest.mark.parametrize("operation", [
    TO_UUID, TO_TEXT, column("CharField(max_length=19)"), column("DateField()"),
    column("DecimalField(max_digits=9, decimal_places=2)"),
])  # fmt: skip
def test_w020_column_of_another_type(project, lab, operation) -> None:
    message = only(check(project, lab, operation))
    assert message.id == "vault_fields.W020"
    assert "0002" in message.msg
    assert "may not open afterwards" in message.msg
    assert message.hint.startswith('Write DecryptField("patient", "ssn") before it, with migrating=True')
    assert message.level == 30


def test_w020_shorter_column(project, lab) -> None:
    to_text = column("CharField(max_length=40)")
    (message,) = check(project, lab, to_text, column("TextField()"), column("CharField(max_length=40)"))
    assert message.id == "vault_fields.W020"
    assert "0004" in message.msg


def test_w020_column_that_a_value_is_tied_to(project, lab) -> None:
    messages = check(project, lab, DECRYPT, BOUND, ENCRYPT, column("IntegerField(editable=False)", "slug"))
    assert only(messages).id == "vault_fields.W020"


def test_w020_encrypted_again_too_soon(project, lab) -> None:
    assert only(check(project, lab, DECRYPT, ENCRYPT, TO_UUID)).id == "vault_fields.W020"


@pytest.mark.parametrize("operation", [
    column("IntegerField(primary_key=True)", "code", "organization"), column("IntegerField()", "tenant", "base"),
], ids=["target of a foreign key", "column of a parent"])  # fmt: skip
def test_w020_column_of_another_model(project, lab, operation) -> None:
    (message,) = check(project, lab, ORGANIZATION, operation)
    assert message.id == "vault_fields.W020"
    assert "testapp.visit.reason" in message.msg


@pytest.mark.parametrize("operations", [
    [TO_UUID, OWN], [f"{TO_UUID}, {OWN}"], [OWN, TO_UUID], [separately(TO_UUID, TO_UUID)], [TO_UUID, separately()],
], ids=["later", "in the same migration", "in one before", "separately", "separately later"])  # fmt: skip
def test_w020_what_comes_too_late_does_not_silence_it(project, lab, operations) -> None:
    assert only(check(project, lab, *operations)).id == "vault_fields.W020"


@pytest.mark.parametrize("later", [OWN, separately(OWN), separately(), separately(state=RENAME)])
@pytest.mark.parametrize(("change", "code"), [(SHARED, "E029"), (BOUND, "E030"), (OTHER, "E031")])
def test_what_runs_in_a_later_migration_makes_no_change_good(project, lab, change, code, later) -> None:
    assert only(check(project, lab, change, later)).id == f"vault_fields.{code}"


def test_e029_is_told_of_a_change_in_the_state_alone(project, lab) -> None:
    assert only(check(project, lab, separately(state=SHARED))).id == "vault_fields.E029"


TWO = """
migrations.CreateModel("Two", [
    ("id", models.BigAutoField(primary_key=True)),
    ("tenant", models.IntegerField()),
    ("a", EncryptedTextField(key_context=["tenant"], keys_field="k1")),
    ("b", EncryptedTextField(key_context=["tenant"], keys_field="k2")),
    ("k1", CompanionField()),
    ("k2", CompanionField()),
])
"""


def keys(field, companion) -> str:
    declared = f'EncryptedTextField(key_context=["tenant"], keys_field="{companion}")'
    return f'migrations.AlterField("two", "{field}", {declared})'


def renames(*pairs):
    return [f'migrations.RenameField("two", "{old}", "{new}")' for old, new in pairs]


EXCHANGED = renames(("k1", "kx"), ("k2", "k1"), ("kx", "k2"))


@pytest.mark.parametrize("operations", [
    [*EXCHANGED, keys("a", "k2"), keys("b", "k1")],
    [keys("a", "k2"), keys("b", "k1"), *EXCHANGED],
    [EXCHANGED[0], keys("a", "kx"), EXCHANGED[1], keys("b", "k1"), EXCHANGED[2], keys("a", "k2")],
    [*EXCHANGED, *renames(("a", "c")), keys("c", "k2"), keys("b", "k1")],
], ids=["before", "after", "between", "with a field"])  # fmt: skip
def test_companions_that_change_their_names_keep_their_keys(project, lab, operations) -> None:
    assert check(project, lab, TWO, *operations) == []


def test_companions_may_change_their_names_in_one_migration(project, lab) -> None:
    assert check(project, lab, TWO, ", ".join([*EXCHANGED, keys("a", "k2"), keys("b", "k1")])) == []


@pytest.mark.parametrize("operations", [
    [keys("a", "k2"), keys("b", "k1")],
    [*EXCHANGED[:2], keys("a", "k2"), keys("b", "k1")],
    [*EXCHANGED, *EXCHANGED, keys("a", "k2"), keys("b", "k1")],
    [*EXCHANGED[:2], 'migrations.RemoveField("two", "kx")', *renames(("k1", "kx"), ("kx", "k2")), keys("a", "k2")],
], ids=["not renamed", "not to the end", "twice", "taken away"])  # fmt: skip
def test_e029_companions_that_change_places_without_their_names(project, lab, operations) -> None:
    found = check(project, lab, TWO, *operations)
    assert {message.id for message in found} == {"vault_fields.E029"}
    assert "testapp.two.a" in found[0].msg


@pytest.mark.parametrize("operations", [
    [DECRYPT, TO_UUID, ENCRYPT],
    [f"{OWN}, {TO_UUID}"],
    [column("BigIntegerField(null=True, verbose_name='o', default=3)")],
    [column("CharField(max_length=20)")],
    [column("TextField()"), column("TextField(db_collation='C')")],
    [column("SlugField(max_length=80)", "slug")],
    [column("IntegerField()", "note")],
    [ORGANIZATION, column("CharField(max_length=21, primary_key=True)", "code", "organization")],
], ids=range(8))  # fmt: skip
def test_columns_that_keep_their_spelling_are_no_mistake(project, lab, operations) -> None:
    assert check(project, lab, *operations) == []


def test_a_column_that_a_value_is_tied_to_may_be_renamed(project, lab) -> None:
    rename = 'migrations.RenameField("patient", "slug", "code")'
    assert check(project, lab, DECRYPT, BOUND, ENCRYPT, rename, alter(', bind_to=["code"]')) == []


def test_w016_column_of_another_type_that_the_migrations_do_not_know(project, lab) -> None:
    lab.patient(organization=None, organization_id=models.UUIDField())
    (message,) = check(project, lab)
    assert message.id == "vault_fields.W016"
    assert message.obj.name == "ssn"
    assert "a column of another type" in message.msg
    assert 'DecryptField("patient", "ssn")' in message.hint


@pytest.mark.parametrize("fields", [
    {"organization": models.ForeignKey("nowhere.Organization", models.CASCADE)}, {"organization": None},
], ids=["leads nowhere", "gone"])  # fmt: skip
def test_a_column_that_is_not_there_is_another_checks_affair(project, lab, fields) -> None:
    lab.patient(**fields)
    assert check(project, lab) == []


@pytest.mark.parametrize("operations", [
    ['MoveToCompanion("patient", ["ssn"], "k")', SHARED],
    [DECRYPT, BOUND, ENCRYPT],
    [DECRYPT, SHARED],
    [BOTH, 'RekeyField("patient", "ssn")', OTHER],
    [JSON, 'TextToJSON("patient", "ssn")'],
    ['TextToJSON("patient", "ssn")', JSON],
    [f"{BOUND}, {OWN}"],
    [f"{SHARED}, {OWN}"],
    [f"{OTHER}, {separately(OWN)}"],
    [f"{SHARED}, {RENAME_FIELD}, {OWN}", RENAME, SHARED.replace('"ssn"', '"number"').replace('"k"', '"k2"')],
    [JSON, OWN],
    [separately(DECRYPT), separately(state=BOUND), ENCRYPT],
    [separately(MOVE), separately(state=SHARED)],
    [f"{OWN}, {BOUND}"],
    [MOVE, SHARED, RENAME, alter(', keys_field="k2"')],
    [MOVE, SHARED, alter(', keys_field="k2"'), RENAME],
    [MOVE, RENAME_FIELD, SHARED.replace("ssn", "number")],
    [MOVE, RENAME_MODEL, SHARED.replace("patient", "person")],
    [DECRYPT, RENAME_MODEL, BOUND.replace("patient", "person")],
    [RENAME_FIELD, RENAME_COMPANION],
    [RENAME_COMPANION, RENAME_FIELD],
    [MOVE, SHARED, RENAME_FIELD],
    [alter(context='{"organization_id": "organization__code"}')],
    ['migrations.RenameField("patient", "organization_id", "t_id")', alter(context='{"organization_id": "t_id"}')],
    [alter(", null=True, migrating=True")],
    ['migrations.AlterField("patient", "note", models.TextField())'],
    ['migrations.AlterField("patient", "ssn", models.TextField())'],
])  # fmt: skip
def test_what_keeps_values_readable_is_no_mistake(project, lab, operations) -> None:
    assert check(project, lab, *operations) == []


@pytest.mark.parametrize(("field", "says"), [
    (EncryptedTextField(key_context=["organization_id"], keys_field="k"), "MoveToCompanion"),
    (EncryptedTextField(key_context=["organization_id"], bind_to=["slug"]), "DecryptField"),
    (EncryptedTextField(key_context=["slug"]), "RekeyField"),
    (EncryptedJSONField(key_context=["organization_id"]), "TextToJSON"),
], ids=["companion", "bind_to", "context", "JSON"])  # fmt: skip
def test_w016_change_that_the_migrations_do_not_know(project, lab, field, says) -> None:
    lab.patient(ssn=field, slug=models.SlugField(editable=False), k=CompanionField())
    lab.model("Unknown", note=models.TextField())
    (message,) = check(project, lab)
    assert message.id == "vault_fields.W016"
    assert message.obj.name == "ssn"
    assert "makemigrations" in message.hint
    assert says in message.hint


def test_migrations_that_cannot_be_read_are_another_checks_affair(project, lab) -> None:
    project.migration("0001_initial", CREATE, after=["0000_missing"])
    assert check_changes(lab.apps.get_app_configs()) == []


def test_a_whole_project_is_checked() -> None:
    assert check_changes(None) == []
