"""What a migration may do to companions once the values were moved, or where they come along."""

import pytest
from django.db import connection
from django.db.migrations.operations import AddField, AlterField, RemoveField, RenameField

from tests.schemachange.test_guard import TO_PLAIN, TO_SHARED, data, encrypted_note, fill, note, text
from vault_fields.exceptions import MigrationRefused
from vault_fields.fields import CompanionField
from vault_fields.fields.groups import group_of
from vault_fields.operations import MoveToCompanion, RekeyField, TextToJSON
from vault_fields.rows.rekey import reencrypt_group

MOVE = MoveToCompanion("note", ["a", "b"], "k")
MOVED = [TO_SHARED[0], MOVE, *TO_SHARED[1:]]


@pytest.fixture
def filled(project):
    project.write("0001", encrypted_note())
    project.migrate()
    fill(project)
    return project


def values(project):
    return list(project.model("note").objects.order_by("id").values_list("a", "b"))


@pytest.mark.parametrize("spread", [False, True], ids=["one migration", "several"])
def test_moved_values_let_their_companions_go_there_and_back(filled, spread) -> None:
    before = values(filled)
    if spread:
        for number, operation in enumerate(MOVED, start=2):
            filled.write(f"{number:04}", operation)
    else:
        filled.write("0002", *MOVED)
    filled.migrate()
    assert values(filled) == before
    filled.migrate("0001")
    assert values(filled) == before


def test_a_declaration_alone_is_not_taken_back_where_the_values_would_stay_behind(filled) -> None:
    filled.write("0002", *MOVED[:2])
    filled.write("0003", *MOVED[2:])
    filled.migrate()
    before = values(filled)
    with pytest.raises(MigrationRefused, match=r"has 3 rows"):
        filled.migrate("0002")
    assert values(filled) == before


def test_the_refusal_names_the_operation_that_moves(filled) -> None:
    filled.write("0002", *TO_SHARED)
    with pytest.raises(MigrationRefused, match=r'write vault_fields\S+MoveToCompanion\("note", \["a"\], "k"\)'):
        filled.migrate()


def test_only_one_of_two_fields_moved_is_refused(filled) -> None:
    filled.write("0002", TO_SHARED[0], MoveToCompanion("note", ["a"], "k"), *TO_SHARED[1:])
    with pytest.raises(MigrationRefused, match=r"note.b|Note.b has 3 rows"):
        filled.migrate()


def test_a_row_that_was_written_between_the_move_and_the_change_is_found(filled) -> None:
    filled.write("0002", TO_SHARED[0], MOVE)
    filled.migrate()
    model = filled.model("note")
    model.objects.create(tenant="late", a="late")
    filled.write("0003", *TO_SHARED[1:])
    with pytest.raises(MigrationRefused, match=r"\.Note\.a has 1 row"):
        filled.migrate()
    assert model.objects.get(tenant="late").a == "late"


def test_a_companion_that_is_renamed_takes_the_keys_along(filled) -> None:
    before = values(filled)
    filled.write("0002", RenameField("note", "a_keys", "k"), AlterField("note", "a", text(keys_field="k")))
    filled.migrate()
    assert values(filled) == before
    filled.migrate("0001")
    assert values(filled) == before


def test_one_renamed_and_the_other_moved_to_it(filled) -> None:
    before = values(filled)
    filled.write(
        "0002",
        RenameField("note", "a_keys", "k"),
        AlterField("note", "a", text(keys_field="k")),
        MoveToCompanion("note", ["b"], "k"),
        AlterField("note", "b", data(keys_field="k")),
        RemoveField("note", "b_keys"),
    )
    filled.migrate()
    assert values(filled) == before
    filled.migrate("0001")
    assert values(filled) == before


@pytest.mark.parametrize("operation", [RekeyField("note", "a"), TextToJSON("note", "a")], ids=["rekey", "convert"])
def test_what_writes_values_again_settles_no_loss(filled, operation) -> None:
    before = filled.tables()
    filled.write("0002", AddField("note", "k", CompanionField()), operation, *TO_PLAIN)
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated"):
        filled.migrate()
    assert filled.tables() == before


def test_a_model_that_the_migration_does_not_know_any_more_moves_nothing(filled) -> None:
    filled.write("0002", TO_SHARED[0], MoveToCompanion("gone", ["a"], "k"), *TO_SHARED[1:])
    with pytest.raises(MigrationRefused, match=r"Nothing was migrated"):
        filled.migrate()


def test_plaintext_beside_values_of_several_data_keys_stays(project) -> None:
    fields = {
        "a": text(migrating=True),
        "a_keys": CompanionField(),
        "b": data(migrating=True),
        "b_keys": CompanionField(),
    }
    project.write("0001", note(**fields, c=text(migrating=True), c_keys=CompanionField()))
    project.migrate()
    fill(project, 2)
    model = project.model("note")
    reencrypt_group(group_of(model._meta.get_field("b")), on_problem=pytest.fail)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {project.label}_note SET c = 'plain'")
    project.write("0002", AddField("note", "k", CompanionField()), MoveToCompanion("note", ["a", "b", "c"], "k"))
    project.migrate()
    model = project.model("note")
    found = model.objects.order_by("id").values_list("a", "b", "c")
    assert list(found) == [("text 0", [0], "plain"), ("text 1", [1], "plain")]
    assert project.column("note", "c") == ["plain", "plain"]
    assert project.column("note", "a_keys") == project.column("note", "b_keys") == project.column("note", "k")
