"""Migrations of indexed fields: a rename keeps the hashes, and the table of index keys is there before it is needed."""

from collections.abc import Sequence
from typing import Any

from django.db import migrations, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState

from tests.schemachange.conftest import project
from vault_fields.fields import CompanionField, EncryptedTextField, IndexField
from vault_fields.models import IndexKey
from vault_fields.normalize import last_four

__all__ = ["project"]

Fields = list[tuple[str, Any]]


def indexed(name: str = "ssn", **options: Any) -> Fields:
    """An encrypted field with two indexes, as migrations have it."""
    return [
        (name, EncryptedTextField(key_context=["tenant"], null=True, **options)),
        (f"{name}_keys", CompanionField()),
        (f"{name}_index", IndexField()),
        (f"{name}_end_index", IndexField(index_name="end", normalize=last_four)),
    ]


def state(*fields: tuple[str, Any], model: str = "Note") -> ProjectState:
    made = ProjectState()
    key = ("id", models.BigAutoField(primary_key=True))
    made.add_model(ModelState("clinic", model, [key, ("tenant", models.CharField(max_length=10)), *fields]))
    return made


class Yes(MigrationQuestioner):
    """Answers that everything that can be a rename is one."""

    def ask_rename(self, *args: Any) -> bool:
        return True

    def ask_rename_model(self, *args: Any) -> bool:
        return True


def changes(before: ProjectState, after: ProjectState) -> Sequence[Any]:
    detector = MigrationAutodetector(before, after, Yes(specified_apps={"clinic"}))
    return [
        operation for migration in detector.changes(MigrationGraph())["clinic"] for operation in migration.operations
    ]


def test_index_columns_are_renamed_with_their_field() -> None:
    found = changes(state(*indexed()), state(*indexed("social")))
    assert {type(each) for each in found} == {migrations.RenameField}
    assert {(each.old_name, each.new_name) for each in found} == {
        ("ssn", "social"),
        ("ssn_keys", "social_keys"),
        ("ssn_index", "social_index"),
        ("ssn_end_index", "social_end_index"),
    }


def test_former_labels_and_the_rename_of_a_model_do_not_change_an_index() -> None:
    labelled = indexed(former_labels=["clinic.Old.ssn"])
    (found,) = changes(state(*indexed()), state(*labelled))
    assert isinstance(found, migrations.AlterField)
    assert found.name == "ssn"
    (found,) = changes(state(*indexed()), state(*indexed(), model="Paper"))
    assert isinstance(found, migrations.RenameModel)


def make(project: Any) -> Any:
    key = ("id", models.BigAutoField(primary_key=True))
    tenant = ("tenant", models.CharField(max_length=10))
    project.write("0001", migrations.CreateModel("Note", [key, tenant, *indexed()]))
    project.migrate()
    return project.model("note").objects.create(tenant="a", ssn="078-05-1120").pk


def label(project: Any, name: str) -> list[str]:
    return [f"{project.label}.Note.{name}"]


def test_a_renamed_field_is_found_by_the_hashes_that_it_had(project) -> None:
    pk = make(project)
    before = project.column("note", "ssn_index")
    renames = [
        migrations.RenameField("note", old, f"social{old.removeprefix('ssn')}")
        for old in ("ssn_index", "ssn", "ssn_keys", "ssn_end_index")
    ]
    field = EncryptedTextField(key_context=["tenant"], null=True, former_labels=label(project, "ssn"))
    project.write("0002", *renames, migrations.AlterField("note", "social", field))
    project.migrate()

    assert project.column("note", "social_index") == before
    notes = project.model("note").objects
    assert notes.get(tenant="a", social="078-05-1120").pk == pk
    assert notes.get(tenant="a", social__end="1120").pk == pk

    project.migrate("0001")
    assert project.model("note", "0001").objects.get(tenant="a", ssn="078-05-1120").pk == pk
    project.migrate("zero")
    assert IndexKey.objects.count() == 1
