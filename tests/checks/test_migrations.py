"""former_labels, against the migrations of a project on disk."""

from textwrap import dedent

import pytest
from django.core.checks import run_checks
from django.db import models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState
from django.test.utils import isolate_apps

from tests.checks.conftest import HEADER
from vault_fields.checks.migrations import check_former_labels
from vault_fields.fields import CompanionField, EncryptedTextField

CREATE = """
migrations.CreateModel("Patient", [
    ("id", models.BigAutoField(primary_key=True)),
    ("organization_id", models.IntegerField()),
    ("number", EncryptedTextField(key_context=["organization_id"])),
    ("number_keys", CompanionField()),
])
"""
RENAME = """
migrations.RenameField("patient", "number", "ssn"),
migrations.RenameField("patient", "number_keys", "ssn_keys"),
"""


def check(lab):
    return check_former_labels(lab.apps.get_app_configs())


def renamed(lab, former_labels):
    lab.patient(ssn=EncryptedTextField(key_context=["organization_id"], former_labels=former_labels))
    return check(lab)


def test_e021_renamed_field(project, lab) -> None:
    project.migration("0001_initial", CREATE)
    project.migration("0002_rename", RENAME, after=["0001_initial"])
    (message,) = renamed(lab, [])
    assert message.id == "vault_fields.E021"
    assert message.hint.startswith("Write former_labels=['testapp.Patient.number'] on the field")
    assert message.obj.name == "ssn"


def test_e021_hint_keeps_the_labels_that_are_there(project, lab) -> None:
    project.migration("0001_initial", CREATE)
    project.migration("0002_rename", RENAME, after=["0001_initial"])
    (message,) = renamed(lab, ["old.Person.ssn"])
    assert "former_labels=['old.Person.ssn', 'testapp.Patient.number']" in message.hint


def test_e021_model_whose_class_is_spelled_differently(project, lab) -> None:
    """Makemigrations does not see this, but the label is another."""
    project.migration("0001_initial", CREATE.replace("Patient", "PAtient").replace("number", "ssn"))
    (message,) = renamed(lab, [])
    assert "former_labels=['testapp.PAtient.ssn']" in message.hint


def test_former_labels_that_name_every_label_are_passed_over(project, lab) -> None:
    project.migration("0001_initial", CREATE)
    project.migration("0002_rename", RENAME, after=["0001_initial"])
    assert renamed(lab, ["testapp.Patient.number"]) == []


def test_a_project_without_renames_or_without_migrations_is_passed_over(project, lab, settings) -> None:
    project.migration("0001_initial", CREATE.replace("number", "ssn"))
    assert renamed(lab, []) == []
    settings.MIGRATION_MODULES = {"testapp": None}
    assert check(lab) == []


def test_a_project_that_encrypts_nothing_does_not_read_its_migrations(project, lab) -> None:
    project.migration("0001_initial", "1/0")
    assert check(lab) == []


def test_e021_rename_that_was_squashed_away(project, lab) -> None:
    project.migration("0001_initial", CREATE)
    project.migration("0002_rename", RENAME, after=["0001_initial"])
    project.migration("0001_squashed", CREATE.replace("number", "ssn"), replaces=["0001_initial", "0002_rename"])
    project.migration("0003_next", after=["0001_squashed"])
    assert [message.id for message in renamed(lab, [])] == ["vault_fields.E021"]


def test_a_squashed_migration_counts_once_what_it_replaced_is_removed(project, lab) -> None:
    project.migration("0001_squashed", CREATE.replace("number", "ssn"), replaces=["0001_initial", "0002_rename"])
    assert renamed(lab, []) == []


def test_e022_former_labels_before_the_rename(project, lab) -> None:
    """With them makemigrations would not ask, but remove the old field and add a new one."""
    project.migration("0001_initial", CREATE)
    (message,) = renamed(lab, ["testapp.Patient.number"])
    assert message.id == "vault_fields.E022"
    assert "from testapp.Patient.number." in message.msg
    assert message.hint.startswith("Take former_labels away")


def test_e022_former_labels_before_the_rename_of_a_model(project, lab) -> None:
    project.migration("0001_initial", CREATE.replace("Patient", "Person").replace("number", "ssn"))
    assert [message.id for message in renamed(lab, ["testapp.Person.ssn"])] == ["vault_fields.E022"]


@pytest.mark.parametrize("labels", [[], ["testapp.Patient.forgotten"], ["gone.Patient.number"]])
def test_a_new_field_may_have_other_former_labels(project, lab, labels) -> None:
    project.migration("0001_initial", CREATE)
    assert renamed(lab, labels) == []


def test_a_new_field_may_name_one_that_stays(project, lab) -> None:
    """Its values may be about to be copied there."""
    project.migration("0001_initial", CREATE.replace("number", "notes"))  # As tests.testapp.models.Patient has.
    assert renamed(lab, ["testapp.Patient.notes"]) == []


@pytest.mark.parametrize(
    "problem",
    [
        "import no_such_module",
        "class NoMigration: pass",
        HEADER + "    dependencies = [('testapp', '0000_missing')]",
        HEADER + "    dependencies = [('no_such_app', '__first__')]",
        HEADER + "    dependencies = [('testapp', '0001_initial')]",
    ],
)
def test_w005_migrations_that_cannot_be_read(project, lab, problem) -> None:
    (project.path / "0001_initial.py").write_text(dedent(problem))
    lab.patient()
    (message,) = check(lab)
    assert message.id == "vault_fields.W005"
    assert "makemigrations --check" in message.hint


def test_a_whole_project_is_checked_without_its_database(project) -> None:
    project.migration("0001_initial", CREATE)
    project.migration("0002_rename", RENAME, after=["0001_initial"])
    # The database is not to be touched: this test has no access to it.
    found = [message for message in run_checks(tags=["vault_fields"]) if message.id == "vault_fields.E021"]
    assert [message.obj.label for message in found] == ["testapp.Patient.ssn"]


def test_models_of_other_apps_are_not_asked_about(project) -> None:
    project.migration("0001_initial", CREATE)
    project.migration("0002_rename", RENAME, after=["0001_initial"])
    with isolate_apps("django.contrib.auth") as apps:
        assert check_former_labels(apps.get_app_configs()) == []


@pytest.mark.parametrize(
    ("former_labels", "expected"), [([], ["RenameField"]), (["testapp.Patient.number"], ["RemoveField", "AddField"])]
)
def test_makemigrations_recognises_a_rename_only_without_former_labels(former_labels, expected) -> None:
    """Why E022 is an error."""

    def state(name, labels):
        field = EncryptedTextField(key_context=["organization_id"], keys_field="keys", former_labels=labels)
        fields = [("id", models.BigAutoField(primary_key=True)), (name, field), ("keys", CompanionField())]
        state = ProjectState()
        state.add_model(ModelState("testapp", "Patient", fields))
        return state

    yes = MigrationQuestioner({"ask_rename": True}, dry_run=True)
    detector = MigrationAutodetector(state("number", []), state("ssn", former_labels), yes)
    ((migration,),) = detector._detect_changes().values()
    assert [type(operation).__name__ for operation in migration.operations] == expected


@pytest.mark.parametrize("in_each", [False, True])
def test_e021_labels_of_an_abstract_base_count_for_all_its_models_unless_they_stand_in_each(
    project, lab, in_each
) -> None:
    project.migration("0001_initial", f"{CREATE.rstrip()},{CREATE.replace('Patient', 'Doctor')}")
    project.migration("0002_rename", RENAME + RENAME.replace("patient", "doctor"), after=["0001_initial"])
    labels = {"Patient": ["testapp.Patient.number"], "Doctor": ["testapp.Doctor.number"]}
    every = [label for each in labels.values() for label in each]

    def encrypted(former_labels):
        return EncryptedTextField(key_context=["organization_id"], former_labels=former_labels)

    class Person(models.Model):
        organization_id = models.IntegerField()
        ssn = encrypted([] if in_each else every)

        class Meta:
            abstract = True

    made = [lab.model(name, (Person,), **({"ssn": encrypted(labels[name])} if in_each else {})) for name in labels]
    assert check(lab) == []
    assert [list(model._meta.get_field("ssn").former_labels) for model in made] == (
        [*labels.values()] if in_each else [every, every]
    )
