"""Migrations of indexed fields: a rename keeps the hashes, and the table of index keys is there before it is needed."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.db import migrations, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState

from tests.schemachange.conftest import project
from vault_fields.fields import CompanionField, EncryptedTextField, IndexField
from vault_fields.models import IndexKey
from vault_fields.normalize import casefold, last_four

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


# A change of the index.


def alter(project: Any, name: str, field: Any) -> None:
    project.write("0002", migrations.AlterField("note", name, field))
    project.migrate()


@pytest.mark.parametrize(
    "field",
    [IndexField(normalize=casefold), IndexField(scope="global"), IndexField(bits=16), IndexField(label="x")],
    ids=str,
)
def test_hashes_of_a_changed_index_are_forgotten_in_both_directions(project, field) -> None:
    make(project)
    end = project.column("note", "ssn_end_index")
    alter(project, "ssn_index", field)
    assert project.column("note", "ssn_index") == [None]
    notes = project.model("note").objects
    row = notes.create(tenant="a", ssn="219-09-9999")
    assert notes.get(tenant="a", ssn="219-09-9999").pk == row.pk

    project.migrate("0001")
    assert project.column("note", "ssn_index") == [None, None]
    assert project.column("note", "ssn_end_index")[:1] == end, "the other index was not changed"


def test_an_index_that_says_what_it_did_before_keeps_its_hashes(project) -> None:
    make(project)
    before = project.column("note", "ssn_index")
    alter(project, "ssn_index", IndexField("ssn", label=label(project, "ssn")[0], db_column="ssn_index"))
    assert project.column("note", "ssn_index") == before


@pytest.mark.parametrize(("labels", "kept"), [(["a.B.c", "a.B.d"], True), (["a.B.d", "a.B.c"], False), ([], False)])
def test_the_first_of_the_former_labels_stands_in_the_index(project, labels: list[str], kept: bool) -> None:
    key = ("id", models.BigAutoField(primary_key=True))
    tenant = ("tenant", models.CharField(max_length=10))
    project.write("0001", migrations.CreateModel("Note", [key, tenant, *indexed(former_labels=["a.B.c"])]))
    project.migrate()
    project.model("note").objects.create(tenant="a", ssn="078-05-1120")
    alter(project, "ssn", EncryptedTextField(key_context=["tenant"], null=True, former_labels=labels))
    assert (project.column("note", "ssn_index") != [None]) is kept
    assert project.model("note").objects.filter(tenant="a", ssn="078-05-1120").exists() is kept


def test_a_database_without_the_model_is_left_alone(project, settings) -> None:
    class Nowhere:
        def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
            return model_name != "note"

    settings.DATABASE_ROUTERS = [Nowhere()]
    project.write("0001", migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True)), *indexed()]))
    alter(project, "ssn_index", IndexField(scope="global"))


# The table of index keys.


def test_makemigrations_depends_on_the_table_of_index_keys(settings) -> None:
    def dependencies(before: ProjectState, after: ProjectState) -> list[Any]:
        detector = MigrationAutodetector(before, after, Yes(specified_apps={"clinic"}))
        return [each for migration in detector.changes(MigrationGraph())["clinic"] for each in migration.dependencies]

    plain = ("name", models.CharField(max_length=10))
    for before, after in ((ProjectState(), state(*indexed())), (state(), state(*indexed()))):
        assert dependencies(before, after) == [("vault_fields", "__first__")]
    assert dependencies(state(), state(plain)) == []
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "vault_fields"]
    assert dependencies(state(), state(*indexed())) == [], "a check says that the application is missing"


# Moves.


def test_a_model_that_moves_to_another_name_with_its_table_keeps_its_hashes(project) -> None:
    pk = make(project)
    before = project.column("note", "ssn_index")
    table = f"{project.label}_note"
    key = ("id", models.BigAutoField(primary_key=True))
    fields = [key, ("tenant", models.CharField(max_length=10)), *indexed(former_labels=label(project, "ssn"))]
    moved = migrations.SeparateDatabaseAndState(
        state_operations=[
            migrations.CreateModel("Paper", fields, options={"db_table": table}),
            migrations.DeleteModel("Note"),
        ]
    )
    project.write("0002", moved)
    project.migrate()
    assert project.column("note", "ssn_index") == before
    papers = project.model("paper").objects
    assert papers.get(tenant="a", ssn="078-05-1120").pk == pk
    assert papers.create(tenant="b", ssn="078-05-1120").pk == papers.get(tenant="b", ssn="078-05-1120").pk

    project.migrate("0001")
    assert project.model("note", "0001").objects.get(tenant="a", ssn="078-05-1120").pk == pk


def test_a_field_that_is_removed_takes_its_hashes_along(project) -> None:
    make(project)
    names = ("ssn_index", "ssn_end_index", "ssn", "ssn_keys")
    project.write("0002", *(migrations.RemoveField("note", name) for name in names))
    project.migrate()
    assert {name for name, _ in project.tables()[f"{project.label}_note"][0]} == {"id", "tenant"}

    project.migrate("0001")
    assert project.column("note", "ssn_index") == [None]
    assert project.model("note", "0001").objects.get().ssn is None


def test_an_index_that_is_taken_away_and_put_back_finds_nothing_before_the_hashes_are_made(project) -> None:
    make(project)
    project.write("0002", migrations.RemoveField("note", "ssn_index"))
    project.migrate()
    project.migrate("0001")
    notes = project.model("note", "0001").objects
    assert not notes.filter(tenant="a", ssn="078-05-1120").exists()
    assert notes.get(tenant="a", ssn__end="1120").ssn == "078-05-1120"
