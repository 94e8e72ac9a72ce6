"""How names are followed through operations."""

import pytest
from django.db import migrations, models
from django.db.migrations import Migration

from vault_fields.fields import CompanionField, EncryptedTextField
from vault_fields.rows.labels import LabelHistory


class Stretched(migrations.RenameField):
    """As packages derive their own operations."""


def encrypted():
    return EncryptedTextField(key_context=["organization_id"])


def create(name="Patient", **columns):
    return migrations.CreateModel(name, [("id", models.BigAutoField(primary_key=True)), *columns.items()])


def labels(*operations, model="patient", column="ssn", app="clinic"):
    migration = Migration("0001_initial", "clinic")
    migration.operations = list(operations)
    return LabelHistory.of([migration]).labels((app, model), column)


def test_a_field_has_one_label_until_it_is_renamed() -> None:
    assert labels(create(ssn=encrypted())) == ["clinic.Patient.ssn"]
    assert labels(create(), migrations.AddField("patient", "ssn", encrypted())) == ["clinic.Patient.ssn"]


def test_a_plain_field_has_none() -> None:
    assert labels(create(ssn=models.TextField())) == []
    assert labels(create()) == []
    assert labels() == []


@pytest.mark.parametrize("operation", [migrations.RenameField, Stretched])
def test_a_renamed_field_has_both_labels(operation) -> None:
    operations = [create(number=encrypted()), operation("Patient", "number", "ssn")]
    assert labels(*operations) == ["clinic.Patient.number", "clinic.Patient.ssn"]
    assert labels(*operations, column="number") == []


def test_a_renamed_model_renames_its_fields() -> None:
    operations = [
        create("Person", number=encrypted(), born=models.DateField()),
        migrations.RenameField("person", "number", "ssn"),
        migrations.RenameModel("Person", "Patient"),
    ]
    assert labels(*operations) == ["clinic.Person.number", "clinic.Person.ssn", "clinic.Patient.ssn"]


def test_several_renames_and_back_again() -> None:
    operations = [
        create(ssn=encrypted()),
        migrations.RenameField("patient", "ssn", "number"),
        migrations.RenameModel("Patient", "Person"),
        migrations.RenameField("person", "number", "ssn"),
        migrations.RenameModel("Person", "Patient"),
    ]
    assert labels(*operations) == [
        "clinic.Patient.ssn",
        "clinic.Patient.number",
        "clinic.Person.number",
        "clinic.Person.ssn",
    ]


def test_a_rename_before_encryption_does_not_count() -> None:
    operations = [
        create(number=models.TextField()),
        migrations.RenameField("patient", "number", "ssn"),
        migrations.AlterField("patient", "ssn", encrypted()),
    ]
    assert labels(*operations) == ["clinic.Patient.ssn"]


def test_decrypting_ends_a_history() -> None:
    operations = [
        create(number=encrypted()),
        migrations.RenameField("patient", "number", "ssn"),
        migrations.AlterField("patient", "ssn", models.TextField()),
        migrations.AlterField("patient", "ssn", encrypted()),
    ]
    assert labels(*operations) == ["clinic.Patient.ssn"]


def test_altering_keeps_a_history() -> None:
    operations = [
        create(number=encrypted()),
        migrations.RenameField("patient", "number", "ssn"),
        migrations.AlterField("patient", "ssn", EncryptedTextField(key_context=["organization_id"], null=True)),
    ]
    assert labels(*operations) == ["clinic.Patient.number", "clinic.Patient.ssn"]


def test_a_removed_field_leaves_nothing_to_the_next_of_its_name() -> None:
    operations = [
        create(number=encrypted()),
        migrations.RenameField("patient", "number", "ssn"),
        migrations.RemoveField("patient", "ssn"),
        migrations.AddField("patient", "ssn", encrypted()),
    ]
    assert labels(*operations) == ["clinic.Patient.ssn"]
    assert labels(*operations[:3]) == []


def test_the_database_half_of_an_operation_does_not_count() -> None:
    operations = [
        create(number=encrypted()),
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RenameField("patient", "number", "ssn")],
            database_operations=[migrations.RenameField("patient", "number", "wrong")],
        ),
        migrations.RunPython(migrations.RunPython.noop),
    ]
    assert labels(*operations) == ["clinic.Patient.number", "clinic.Patient.ssn"]


def test_a_model_that_was_moved_to_another_app_keeps_its_labels() -> None:
    old = Migration("0001_initial", "people")
    old.operations = [create("patient", number=encrypted()), migrations.RenameField("patient", "number", "ssn")]
    new = Migration("0001_initial", "clinic")
    new.operations = [migrations.SeparateDatabaseAndState(state_operations=[create(ssn=encrypted())])]
    gone = Migration("0002_gone", "people")
    gone.operations = [migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("Patient")])]
    expected = ["people.patient.number", "people.patient.ssn", "clinic.Patient.ssn"]
    for order in ([old, new, gone], [old, gone, new]):
        assert LabelHistory.of(order).labels(("clinic", "patient"), "ssn") == expected


def test_a_model_of_the_same_name_that_was_deleted_with_its_table_is_no_move() -> None:
    old = Migration("0001_initial", "people")
    old.operations = [create(ssn=encrypted()), migrations.DeleteModel("Patient"), migrations.DeleteModel("Patient")]
    new = Migration("0001_initial", "clinic")
    new.operations = [migrations.SeparateDatabaseAndState(state_operations=[create(ssn=encrypted())])]
    assert LabelHistory.of([old, new]).labels(("clinic", "patient"), "ssn") == ["clinic.Patient.ssn"]


def test_operations_on_what_is_not_there_are_left_to_django() -> None:
    operations = [
        migrations.RenameModel("Nobody", "Patient"),
        migrations.AddField("nobody", "ssn", encrypted()),
        create(ssn=encrypted(), ssn_keys=CompanionField()),
        migrations.RenameField("patient", "nothing", "something"),
        migrations.RemoveField("patient", "nothing"),
    ]
    assert labels(*operations) == ["clinic.Patient.ssn"]


@pytest.mark.parametrize(
    "ending",
    [
        migrations.RemoveField("patient", "number"),
        migrations.AlterField("patient", "number", models.TextField()),
        migrations.DeleteModel("Patient"),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_kin_of_a_field_are_known_after_its_end(ending) -> None:
    migration = Migration("0001_initial", "clinic")
    migration.operations = [
        create(ssn=encrypted(), other=encrypted()),
        migrations.RenameField("patient", "ssn", "number"),
        ending,
    ]
    history = LabelHistory.of([migration])
    assert history.kin("clinic.Patient.ssn") == ["clinic.Patient.ssn", "clinic.Patient.number"]
    assert history.kin("clinic.Patient.nothing") == []


def test_end_of_what_is_not_known_is_no_end() -> None:
    assert labels(migrations.DeleteModel("Nobody"), create(ssn=encrypted())) == ["clinic.Patient.ssn"]
