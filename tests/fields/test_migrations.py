"""Declarations in migrations: stable, complete, and working on historical models."""

import pytest
from django.apps import apps
from django.core.exceptions import FieldError, ValidationError
from django.db import IntegrityError, connection, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.operations import AddField, AlterField, CreateModel, RemoveField, RenameField, RenameModel
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter, OperationWriter
from django.db.models import Value
from django.db.models.functions import Lower
from django.test.utils import isolate_apps

from tests.testapp.models import Organization, Patient, setting_context
from vault_fields.exceptions import EnvelopeError, MigrationRefused
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField
from vault_fields.testing import assert_vault_calls

DECLARATIONS = [
    EncryptedTextField(key_context=["organization_id"]),
    EncryptedTextField(key_context={"organization_id": "organization__workos_id", "purpose": Value("care")}),
    EncryptedJSONField(
        key_context=setting_context,
        keys_field="vault_keys",
        migrating=True,
        former_labels=["testapp.Old.name"],
        bind_to=["id"],
        vault="other",
        null=True,
        default=dict,
    ),
]


class AlwaysYes(MigrationQuestioner):
    def ask_rename(self, *args) -> bool:
        return True

    def ask_rename_model(self, *args) -> bool:
        return True


def detect(before, after):
    changes = MigrationAutodetector(before, after, AlwaysYes())._detect_changes()
    return [operation for migration in changes.get("testapp", []) for operation in migration.operations]


@pytest.mark.parametrize("field", DECLARATIONS, ids=repr)
def test_a_declaration_survives_deconstruction_and_the_migration_writer(field) -> None:
    _, path, args, kwargs = field.deconstruct()
    assert path == f"vault_fields.fields.{type(field).__name__}"
    again = type(field)(*args, **kwargs)
    assert again.deconstruct()[1:] == field.deconstruct()[1:]
    written, imports = MigrationWriter.serialize(field)
    namespace = {}
    exec("\n".join(imports), namespace)
    assert eval(written, namespace).deconstruct()[1:] == field.deconstruct()[1:]


def test_a_migration_holds_nothing_of_rows_and_vaults(patient, settings) -> None:
    """``makemigrations`` reads declarations: neither what was saved, nor with which keys."""
    settings.VAULTS = {
        "default": {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": {"api_key": "sk_canary"}}
    }
    operations = detect(ProjectState(), ProjectState.from_apps(apps))
    written = "".join(line for operation in operations for line in OperationWriter(operation).serialize()[0])
    assert "EncryptedTextField" in written
    assert not any(secret in written for secret in ("sk_canary", "123-45-6789"))


def test_the_companion_field_deconstructs_to_its_public_path() -> None:
    assert CompanionField().deconstruct()[1:] == ("vault_fields.fields.CompanionField", [], {})
    assert CompanionField(automatic=True, verbose_name="keys", editable=True).deconstruct()[3] == {
        "verbose_name": "keys",
        "editable": True,
    }


@pytest.mark.parametrize("option", ["null", "blank", "editable", "verbose_name"])
def test_projects_may_keep_options_out_of_their_migrations(monkeypatch, option) -> None:
    deconstruct = models.Field.deconstruct

    def without(field):
        name, path, args, kwargs = deconstruct(field)
        return name, path, args, {key: value for key, value in kwargs.items() if key != option}

    monkeypatch.setattr(models.Field, "deconstruct", without)
    assert CompanionField().deconstruct()[1:] == ("vault_fields.fields.CompanionField", [], {})
    for field in DECLARATIONS:
        assert option not in field.deconstruct()[3]
        assert field.clone().deconstruct()[1:] == field.deconstruct()[1:]


def test_the_models_of_this_suite_need_no_second_migration() -> None:
    state = ProjectState.from_apps(apps)
    assert detect(state, ProjectState.from_apps(state.apps)) == []
    assert detect(ProjectState.from_apps(state.apps), state) == []


def state_of(*classes):
    state = ProjectState()
    state.add_model(ModelState.from_model(Organization))
    for model in classes:
        state.add_model(ModelState.from_model(model))
    return state


def model(name="Row", meta=None, **fields):
    fields = {"organization": models.ForeignKey("testapp.Organization", models.CASCADE), **fields}
    with isolate_apps("tests.testapp"):
        return type(name, (models.Model,), {"__module__": __name__, "Meta": type("Meta", (), {"app_label": "testapp"}),
                                            **fields})  # fmt: skip


def encrypted(**options):
    return EncryptedTextField(key_context=["organization_id"], **options)


def test_encrypting_a_column_adds_the_companion_first() -> None:
    operations = detect(state_of(model(ssn=models.TextField())), state_of(model(ssn=encrypted())))
    assert [(type(operation), operation.name) for operation in operations] == [
        (AddField, "ssn_keys"),
        (AlterField, "ssn"),
    ]


def test_renaming_a_field_renames_its_companion() -> None:
    operations = detect(state_of(model(ssn=encrypted())), state_of(model(number=encrypted())))
    assert {(type(operation), operation.old_name, operation.new_name) for operation in operations} == {
        (RenameField, "ssn", "number"),
        (RenameField, "ssn_keys", "number_keys"),
    }


def test_removing_a_field_removes_its_companion() -> None:
    operations = detect(state_of(model(ssn=encrypted())), state_of(model()))
    assert {(type(operation), operation.name) for operation in operations} == {
        (RemoveField, "ssn"),
        (RemoveField, "ssn_keys"),
    }


def test_a_new_model_lists_its_companions() -> None:
    (operation,) = detect(state_of(), state_of(model(ssn=encrypted(), notes=encrypted())))
    assert isinstance(operation, CreateModel)
    assert {"ssn_keys", "notes_keys"} < {name for name, _ in operation.fields}
    assert "CompanionField()" in OperationWriter(operation).serialize()[0]


def test_a_declared_companion_takes_the_place_of_the_automatic_one_in_either_order() -> None:
    for fields in (
        {"ssn": encrypted(), "ssn_keys": CompanionField(verbose_name="mine")},
        {"ssn_keys": CompanionField(verbose_name="mine"), "ssn": encrypted()},
    ):
        row = model(**fields)
        names = [field.name for field in row._meta.local_fields]
        assert sorted(names) == ["id", "organization", "ssn", "ssn_keys"]
        assert row._meta.get_field("ssn_keys").verbose_name == "mine"


def run(state, operation, backwards=False):
    after = state.clone()
    operation.state_forwards("testapp", after)
    with connection.schema_editor() as editor:
        if backwards:
            operation.database_backwards("testapp", editor, after, state)
        else:
            operation.database_forwards("testapp", editor, state, after)
    return after


@pytest.mark.django_db(transaction=True)
def test_historical_models_read_and_write_and_renames_open_by_their_former_label() -> None:
    organization = Organization.objects.create(workos_id="org_1")
    state = state_of()
    create = CreateModel(
        "Row",
        [
            ("id", models.BigAutoField(primary_key=True)),
            ("organization", models.ForeignKey("testapp.Organization", models.CASCADE)),
            ("ssn", EncryptedTextField(key_context={"organization_id": "organization__workos_id"})),
            ("ssn_keys", CompanionField()),
        ],
    )
    state = run(state, create)
    try:
        Row = state.apps.get_model("testapp", "Row")
        historical = state.apps.get_model("testapp", "Organization").objects.get(pk=organization.pk)
        with assert_vault_calls(create=1):
            row = Row.objects.create(organization=historical, ssn="123")
        Row.objects.bulk_create([Row(organization=historical, ssn="456")])
        rows = list(Row.objects.order_by("pk"))
        assert [row.ssn for row in rows] == ["123", "456"]
        for row in rows:
            row.ssn += "!"
        Row.objects.bulk_update(rows, ["ssn"])

        state = run(state, RenameField("Row", "ssn", "number"))
        state = run(state, RenameField("Row", "ssn_keys", "number_keys"))
        state = run(state, RenameModel("Row", "Line"))
        Line = state.apps.get_model("testapp", "Line")
        with pytest.raises(Exception, match="testapp.Line.number .*does not open"):
            Line.objects.first().number  # noqa: B018
        labelled = EncryptedTextField(
            key_context={"organization_id": "organization__workos_id"}, former_labels=["testapp.Row.ssn"]
        )
        state = run(state, AlterField("Line", "number", labelled))
        Line = state.apps.get_model("testapp", "Line")
        assert [line.number for line in Line.objects.order_by("pk")] == ["123!", "456!"]
        assert list(Line.objects.order_by("pk").values_list("number", flat=True)) == ["123!", "456!"]
        line = Line.objects.first()
        line.number = "new"
        line.save()
        assert Line.objects.get(pk=line.pk).number == "new"
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(next(model for model in state.apps.get_models() if model.__name__ in ("Row", "Line")))


@pytest.mark.django_db(transaction=True)
def test_a_column_with_a_default_is_added_without_it_and_made_not_null_later() -> None:
    organization = Organization.objects.create(workos_id="org_1")
    state = run(
        state_of(),
        CreateModel(
            "Row",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("organization", models.ForeignKey("testapp.Organization", models.CASCADE)),
            ],
        ),
    )
    try:
        # An empty table takes any column.
        empty = run(state, AddField("Row", "ssn", encrypted(keys_field="ssn_keys")))
        run(empty, RemoveField("Row", "ssn"))
        run(empty, RemoveField("Row", "ssn"), backwards=True)
        state = run(empty, RemoveField("Row", "ssn"))
        state.apps.get_model("testapp", "Row").objects.create(organization_id=organization.pk)
        state = run(state, AddField("Row", "data_keys", CompanionField()))
        options = {"key_context": ["organization_id"], "default": dict}
        state = run(state, AddField("Row", "data", EncryptedJSONField(null=True, **options)))
        Row = state.apps.get_model("testapp", "Row")
        row = Row.objects.get()
        assert row.data is None
        assert Row(organization_id=organization.pk).data == {}
        row.data = {"a": 1}
        row.save()
        state = run(state, AlterField("Row", "data", EncryptedJSONField(**options)))
        assert state.apps.get_model("testapp", "Row").objects.get().data == {"a": 1}
        for change in (
            lambda: run(state, AddField("Row", "ssn", encrypted(blank=True))),
            lambda: run(empty, RemoveField("Row", "ssn"), backwards=True),
        ):
            with pytest.raises(MigrationRefused, match="the table has rows: nothing was changed"):
                change()
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(state.apps.get_model("testapp", "Row"))


@pytest.fixture
def rows():
    """A state with a table of rows that may lack a value, and the organization that they belong to."""
    organization = Organization.objects.create(workos_id="org_1")
    fields = [
        ("id", models.BigAutoField(primary_key=True)),
        ("organization", models.ForeignKey("testapp.Organization", models.CASCADE)),
        ("ssn", encrypted(null=True, blank=True)),
        ("ssn_keys", CompanionField()),
        ("notes", models.TextField(null=True, blank=True)),
        ("notes_keys", CompanionField()),
    ]
    state = run(state_of(), CreateModel("Row", fields))
    yield state, organization.pk
    with connection.schema_editor() as editor:
        editor.delete_model(state.apps.get_model("testapp", "Row"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("name", "options"), [("ssn", {}), ("notes", {"migrating": True})])
def test_a_column_is_made_not_null_once_every_row_has_a_value(rows, name, options) -> None:
    """Where a field may be blank Django would write an empty string, which is not encrypted."""
    state, organization = rows
    not_null = AlterField("Row", name, encrypted(blank=True, **options))
    # An empty table, as that of a new database, is asked for nothing.
    run(state, not_null)
    run(state, not_null, backwards=True)
    Row = state.apps.get_model("testapp", "Row")
    Row.objects.create(organization_id=organization, **{name: "123"})
    row = Row.objects.create(organization_id=organization)
    with pytest.raises(MigrationRefused, match=rf"^testapp\.Row\.{name} cannot be made NOT NULL: 1 row has no value"):
        run(state, not_null)
    after = state.clone()
    not_null.state_forwards("testapp", after)
    with connection.schema_editor(collect_sql=True) as editor:
        not_null.database_forwards("testapp", editor, state, after)
    assert Row.objects.get(**{name: None}) == row
    setattr(row, name, "")
    row.save()
    later = run(state, not_null).apps.get_model("testapp", "Row")
    assert getattr(later(), name) == ""
    assert [getattr(row, name) for row in later.objects.order_by("pk")] == ["123", ""]
    with pytest.raises(IntegrityError):
        later.objects.create(organization_id=organization, **{name: None})
    run(state, not_null, backwards=True)
    Row.objects.create(organization_id=organization, **{name: None})
    assert [getattr(row, name) for row in Row.objects.order_by("pk")] == ["123", "", None]


@pytest.mark.django_db(transaction=True)
def test_a_removed_column_is_put_back_as_the_refusal_says(rows) -> None:
    nullable, organization = rows
    state = run(nullable, AlterField("Row", "ssn", encrypted(blank=True)))
    Row = state.apps.get_model("testapp", "Row")
    row = Row.objects.create(organization_id=organization, ssn="123")
    remove = RemoveField("Row", "ssn")
    run(state, remove)
    with pytest.raises(MigrationRefused, match="between the two RunPython whose reverse gives the rows new values"):
        run(state, remove, backwards=True)
    run(nullable, remove, backwards=True)
    with pytest.raises(MigrationRefused, match="1 row has no value"):
        run(state, AlterField("Row", "ssn", encrypted(null=True, blank=True)), backwards=True)
    Row = nullable.apps.get_model("testapp", "Row")
    Row.objects.update(ssn="new")
    run(state, AlterField("Row", "ssn", encrypted(null=True, blank=True)), backwards=True)
    assert state.apps.get_model("testapp", "Row").objects.get(pk=row.pk).ssn == "new"


@pytest.mark.django_db(transaction=True)
@isolate_apps("tests.testapp")
def test_a_check_constraint_may_ask_for_null() -> None:
    class Row(models.Model):
        organization = models.ForeignKey(Organization, models.CASCADE)
        ssn = encrypted(null=True)
        notes = encrypted(null=True, blank=True)

        class Meta:
            app_label = "testapp"
            constraints = [
                models.CheckConstraint(
                    condition=models.Q(ssn__isnull=False) | models.Q(notes__isnull=False), name="one_of_them"
                )
            ]

    organization = Organization.objects.create(workos_id="org_1")
    with connection.schema_editor() as editor:
        editor.create_model(Row)
    try:
        row = Row(organization=organization, ssn="x")
        row.full_clean()
        row.save()
        assert Row.objects.get().ssn == "x"
        with pytest.raises(ValidationError, match="one_of_them"):
            Row(organization=organization).validate_constraints()
        with pytest.raises(IntegrityError):
            Row.objects.create(organization=organization)
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Row)


@pytest.mark.django_db(transaction=True)
@isolate_apps("tests.testapp")
def test_a_generated_column_is_not_made_from_ciphertext() -> None:
    class Row(models.Model):
        organization = models.ForeignKey(Organization, models.CASCADE)
        ssn = encrypted()
        lower = models.GeneratedField(expression=Lower("ssn"), output_field=models.TextField(), db_persist=True)

        class Meta:
            app_label = "testapp"

    with (
        pytest.raises(FieldError, match="use in constraints, indexes and generated columns"),
        connection.schema_editor() as editor,
    ):
        editor.create_model(Row)


def test_a_column_that_does_not_hold_text_yet_asks_for_the_migrations(patient) -> None:
    rows = Patient.objects.raw("SELECT id, organization_id, 7 AS ssn FROM testapp_patient")
    with pytest.raises(EnvelopeError, match=r"testapp.Patient.ssn \(pk=\d+\): the column does not hold text"):
        rows[0].ssn  # noqa: B018
