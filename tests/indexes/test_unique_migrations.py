"""Constraints over hashes come and go by migrations, like those of plain columns."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, migrations, models, transaction
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import OperationWriter
from django.test.utils import isolate_apps

from vault_fields.fields import EncryptedTextField, EncryptedUniqueConstraint, UniqueInContext

CONTEXT: Any = ["club_id"]


class AlwaysYes(MigrationQuestioner):
    def ask_rename(self, *args: Any) -> bool:
        return True

    def ask_rename_model(self, *args: Any) -> bool:
        return True


def state(
    model_name: str = "Player", *, constraints: Any = (), context: Any = "club_id", **fields: Any
) -> ProjectState:
    body = {
        context: models.IntegerField(),
        **fields,
        "Meta": type("Meta", (), {"app_label": "testapp", "constraints": list(constraints)}),
        "__module__": __name__,
    }
    with isolate_apps("tests.testapp"):
        model = type(model_name, (models.Model,), body)
    found = ProjectState()
    found.add_model(ModelState.from_model(model))
    return found


def detect(before: ProjectState, after: ProjectState) -> list[Any]:
    changes = MigrationAutodetector(before.clone(), after.clone(), AlwaysYes())._detect_changes()
    return [operation for migration in changes.get("testapp", []) for operation in migration.operations]


def after(before: ProjectState, operations: list[Any]) -> ProjectState:
    found = before.clone()
    for operation in operations:
        operation.state_forwards("testapp", found)
    return found


def run(before: ProjectState, operations: list[Any]) -> ProjectState:
    done = migrations.Migration("unique", "testapp")
    done.operations = operations
    with connection.schema_editor(atomic=True) as editor:
        return done.apply(before.clone(), editor)


def unrun(before: ProjectState, operations: list[Any]) -> None:
    done = migrations.Migration("unique", "testapp")
    done.operations = operations
    with connection.schema_editor(atomic=True) as editor:
        done.unapply(before.clone(), editor)


def unique_columns(model: Any) -> list[list[str]]:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table).values()
    return sorted(each["columns"] for each in found if each["unique"] and not each["primary_key"])


def names(operations: list[Any]) -> list[str]:
    return [type(each).__name__ for each in operations]


def number(**options: Any) -> EncryptedTextField[Any, Any]:
    return EncryptedTextField(key_context=["club_id"], null=True, **options)


def test_a_unique_field_brings_one_constraint_and_no_endless_migrations() -> None:
    declared = state(number=number(unique=True))
    operations = detect(ProjectState(), declared)
    made = after(ProjectState(), operations)
    (constraint,) = made.models["testapp", "player"].options["constraints"]
    assert isinstance(constraint, UniqueInContext)
    assert constraint.fields == ("number", "club_id")
    assert constraint.name == "testapp_player_number_73022251_uniq"
    assert detect(made, declared) == []
    written = "".join(OperationWriter(operation).serialize()[0] for operation in operations)
    assert "vault_fields.fields.UniqueInContext(fields=('number', 'club_id')" in written


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["field", "constraint"])
def test_the_database_has_it_over_hashes_and_loses_it_again(kind) -> None:
    if kind == "field":
        plain, unique = state(number=number()), state(number=number(unique=True))
        columns = ["number_index"]
    else:
        constraint = EncryptedUniqueConstraint(fields=["club_id", "number"], name="one_number")
        plain, unique = state(number=number()), state(number=number(index=True), constraints=[constraint])
        columns = ["club_id", "number_index"]
    start = run(ProjectState(), detect(ProjectState(), plain))
    model = start.apps.get_model("testapp", "Player")
    try:
        assert unique_columns(model) == []
        operations = detect(start, unique)
        assert names(operations) == ["AddField", "AddConstraint"]
        done = run(start, operations)
        assert unique_columns(model) == [columns]
        player = done.apps.get_model("testapp", "Player")
        player.objects.create(club_id=1, number="1")
        player.objects.create(club_id=2, number="1")
        with pytest.raises(IntegrityError), transaction.atomic():
            player.objects.create(club_id=1, number="1")
        unrun(start, operations)
        assert unique_columns(model) == []
        run(start, operations)
        back = detect(done, plain)
        assert names(back) == ["RemoveConstraint", "RemoveField"]
        player.objects.all().delete()
        run(done, back)
        assert unique_columns(model) == []
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(model)
