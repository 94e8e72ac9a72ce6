"""Constraints over hashes come and go by migrations, like those of plain columns."""

import copy
from datetime import date
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import IntegrityError, connection, migrations, models, transaction
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import OperationWriter
from django.db.models.functions import Lower
from django.test.utils import isolate_apps

from vault_fields.fields import (
    BlindIndex,
    EncryptedDateField,
    EncryptedIntegerField,
    EncryptedJSONField,
    EncryptedTextField,
    EncryptedUniqueConstraint,
    UniqueInContext,
)
from vault_fields.operations import EncryptField

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


def test_a_renamed_field_takes_its_constraint_along() -> None:
    former = EncryptedTextField(key_context=["club_id"], unique=True, former_labels=["testapp.Player.number"])
    before, declared = state(number=number(unique=True)), state(shirt=former)
    operations = detect(before, declared)
    kinds = names(operations)
    assert kinds.index("RemoveConstraint") < kinds.index("RenameField") < kinds.index("AddConstraint")
    assert detect(after(before, operations), declared) == []


def test_a_renamed_column_of_the_context_is_renamed_in_the_constraint() -> None:
    moved = EncryptedTextField(key_context={"club_id": "league_id"}, unique=True)
    before, declared = state(number=number(unique=True)), state(number=moved, context="league_id")
    operations = detect(before, declared)
    made = after(before, operations)
    assert detect(made, declared) == []
    (constraint,) = made.models["testapp", "player"].options["constraints"]
    assert constraint.fields == ("number", "league_id")


def test_a_renamed_model_gets_a_constraint_of_another_name() -> None:
    before, declared = state(number=number(unique=True)), state("Athlet", number=number(unique=True))
    operations = detect(before, declared)
    assert "RenameModel" in names(operations)
    assert detect(after(before, operations), declared) == []


def test_a_plain_constraint_of_the_same_name_is_replaced() -> None:
    plain = models.UniqueConstraint(fields=["club_id", "number"], name="one_number")
    ours = EncryptedUniqueConstraint(fields=["club_id", "number"], name="one_number")
    assert plain != ours
    assert ours == ours.clone()
    before = state(number=models.TextField(null=True), constraints=[plain])
    declared = state(number=number(index=True), constraints=[ours])
    operations = detect(before, declared)
    assert [each for each in names(operations) if each.endswith("Constraint")] == ["RemoveConstraint", "AddConstraint"]
    assert detect(after(before, operations), declared) == []


@pytest.mark.django_db(transaction=True)
def test_a_column_that_was_unique_in_the_clear_is_unique_when_it_is_encrypted() -> None:
    plain = state(number=models.CharField(max_length=20, null=True, unique=True))
    declared = state(number=number(unique=True))
    start = run(ProjectState(), detect(ProjectState(), plain))
    model = start.apps.get_model("testapp", "Player")
    try:
        model.objects.create(club_id=1, number="1")
        operations = detect(start, state(number=number(unique=True, migrating=True)))
        place = names(operations).index("AddConstraint")
        operations.insert(place, EncryptField("player", "number"))
        done = run(start, operations)
        player = done.apps.get_model("testapp", "Player")
        player.objects.create(club_id=2, number="1")
        with pytest.raises(IntegrityError), transaction.atomic():
            player.objects.create(club_id=1, number="1")
        finish = detect(done, declared)
        assert names(finish) == ["AlterField"]
        player.objects.filter(club_id=2).delete()
        unrun(start, operations)
        assert unique_columns(model) == [["number"]]
        assert model.objects.get(club_id=1).number == "1"
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(model)


@pytest.mark.django_db(transaction=True)
def test_a_table_with_duplicates_refuses_the_constraint() -> None:
    plain, unique = state(number=number(index=True)), state(number=number(unique=True))
    start = run(ProjectState(), detect(ProjectState(), plain))
    player = start.apps.get_model("testapp", "Player")
    try:
        for _ in range(2):
            player.objects.create(club_id=1, number="481516")
        operations = detect(start, unique)
        assert names(operations) == ["AddConstraint"]
        with pytest.raises(IntegrityError) as caught:
            run(start, operations)
        assert "481516" not in str(caught.value)
        assert player.objects.filter(club_id=1, number="481516").count() == 2
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(player)


# Which classes get a constraint.


def made(**body: Any) -> Any:
    bases = body.pop("bases", (models.Model,))
    if "meta" in body:
        body["Meta"] = type("Meta", (), body.pop("meta"))
    return type(body.pop("name", "Player"), bases, {"__module__": "tests.testapp.models", **body})


def automatic(model: Any) -> list[tuple[str, ...]]:
    return [each.fields for each in model._meta.constraints if isinstance(each, UniqueInContext)]


@isolate_apps("tests.testapp")
def test_each_model_below_an_abstract_one_has_its_own_constraint() -> None:
    plain = models.UniqueConstraint(fields=["club_id"], name="%(class)s_club")
    base = made(
        name="Base",
        club_id=models.IntegerField(),
        number=number(unique=True),
        meta={"abstract": True, "constraints": [plain]},
    )
    first, second = made(name="First", bases=(base,)), made(name="Second", bases=(base,))
    assert automatic(base) == []
    assert automatic(first) == automatic(second) == [("number", "club_id")]
    labels = [each.name for model in (first, second) for each in model._meta.constraints]
    assert len(set(labels)) == 4
    child = made(name="Child", bases=(first,))
    proxy = made(name="Proxy", bases=(first,), meta={"proxy": True})
    assert automatic(child) == automatic(proxy) == []
    # A row of the child is validated by the constraints of its parents too.
    assert [model for model, _ in child(club_id=1).get_constraints() if automatic(model)] == [first]


@isolate_apps("tests.testapp")
def test_a_context_in_the_table_of_a_parent_is_named_by_the_link_to_it() -> None:
    parent = made(name="Parent", club_id=models.IntegerField())
    child = made(name="Child", bases=(parent,), number=number(unique=True))
    assert automatic(child) == [("number", "parent_ptr")]
    assert not [each for each in child.check() if each.id.startswith("models.")]


@isolate_apps("tests.testapp")
def test_a_context_that_starts_from_nothing_is_left_to_its_check() -> None:
    assert automatic(made(number=number(unique=True))) == [("number",)]


@isolate_apps("tests.testapp")
def test_a_model_may_declare_the_constraint_itself() -> None:
    own = UniqueInContext(fields=["number", "club_id"], name="own", violation_error_message="Taken.")
    declared = made(club_id=models.IntegerField(), number=number(unique=True), meta={"constraints": [own]})
    assert [each.name for each in declared._meta.constraints] == ["own"]
    partial = UniqueInContext(fields=["number", "club_id"], name="own", condition=models.Q(club_id=1))
    both = made(name="Both", club_id=models.IntegerField(), number=number(unique=True), meta={"constraints": [partial]})
    assert automatic(both) == [("number", "club_id")] * 2


@isolate_apps("tests.testapp")
def test_a_constraint_has_the_message_of_its_field() -> None:
    """Serializers ask the constraint for it."""
    condition = models.Q(club_id=1)
    constraints = [
        UniqueInContext(fields=["number", "club_id"], name="partial", condition=condition),
        UniqueInContext(fields=["number", "club_id"], name="own", condition=condition, violation_error_message="Own."),
    ]
    model = made(club_id=models.IntegerField(), number=number(unique=True), meta={"constraints": constraints})
    found = [str(each.get_violation_error_message()) for each in model._meta.constraints]
    message = "Player with this Number already exists."
    assert found == [message, "Own.", message]
    assert str(constraints[0].get_violation_error_message()) == "Constraint “partial” is violated."
    assert "own" in repr(model._meta.constraints[1])


@isolate_apps("tests.testapp")
def test_a_copy_in_a_table_of_history_is_not_unique() -> None:
    player = made(club_id=models.IntegerField(), number=number(unique=True))
    copied = {each.name: copy.copy(each) for each in player._meta.local_fields if each.name != "id"}
    history = made(name="History", **copied)
    assert automatic(history) == []
    assert history._meta.get_field("number_index")


@isolate_apps("tests.testapp")
def test_a_unique_field_has_a_primary_index() -> None:
    model = made(club_id=models.IntegerField(), number=number(unique=True, index=BlindIndex(name="last4")))
    assert {each.name for each in model._meta.local_fields} >= {"number_index", "number_last4_index"}
    assert not model._meta.get_field("number").unique
    whole = made(name="Whole", club_id=models.IntegerField(), number=number(unique=True, index="global"))
    assert automatic(whole) == [("number",)]
    with pytest.raises(ValueError, match="different values have one hash"):
        number(unique=True, index=BlindIndex(bits=16))
    with pytest.raises(TypeError, match="has no index"):
        EncryptedJSONField(key_context=["club_id"], unique=True)


def test_a_constraint_has_fields_and_no_expressions() -> None:
    with pytest.raises(TypeError, match="positional"):
        EncryptedUniqueConstraint(Lower("number"), name="one")  # type: ignore[call-arg, misc]


@isolate_apps("tests.testapp")
def test_without_an_index_there_is_no_sql() -> None:
    constraint = EncryptedUniqueConstraint(fields=["number"], name="one")
    model = made(club_id=models.IntegerField(), number=number())
    with pytest.raises(ImproperlyConfigured, match="no index: declare it with index=True"):
        constraint.stored_fields(model)
    model = made(name="Other", club_id=models.IntegerField(), number=number(index=BlindIndex(bits=16)))
    with pytest.raises(ImproperlyConfigured, match="are truncated"):
        constraint.stored_fields(model)


@pytest.mark.django_db(transaction=True)
@isolate_apps("tests.testapp")
def test_values_of_other_types_are_unique_by_their_canonical_text() -> None:
    player = made(
        name="UniqueTyped",
        club_id=models.IntegerField(),
        number=EncryptedIntegerField(key_context=["club_id"], unique=True, null=True, blank=True),
        born=EncryptedDateField(key_context=["club_id"], unique=True, null=True, blank=True),
    )
    with connection.schema_editor() as editor:
        editor.create_model(player)
    try:
        player.objects.create(club_id=1, number=481516, born=date(2000, 1, 2))
        player(club_id=2, number=481516, born=date(2000, 1, 2)).full_clean()
        with pytest.raises(ValidationError) as caught:
            player(club_id=1, number="0481516", born="2000-01-02").full_clean()
        assert set(caught.value.message_dict) == {"number", "born"}
        with pytest.raises(IntegrityError), transaction.atomic():
            player.objects.create(club_id=1, number=481516)
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(player)
