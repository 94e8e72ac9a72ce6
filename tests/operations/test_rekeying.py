"""Operations on fields that stay encrypted, in migrations of tables that have rows, there and back."""

import re
from dataclasses import replace
from unittest import mock

import pytest
from django.core.exceptions import FieldError
from django.db import connection, migrations, models
from django.db.migrations.writer import OperationWriter
from django.db.models import Value
from django.test import override_settings

from tests.changed import Table, data, keys, text
from vault_fields.exceptions import (
    KeyContextMismatch,
    VaultFieldsError,
    VaultUnavailable,
)
from vault_fields.operations import JSONToText, MoveToCompanion, RekeyField, TextToJSON
from vault_fields.stored import companion as companion_format
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


@pytest.fixture
def table(transactional_db):
    made = []

    def make(**fields):
        made.append(Table(tenant_id=models.IntegerField(), **fields))
        return made[-1]

    yield make
    for each in made:
        each.drop()


@pytest.fixture
def separate(table):
    """Two fields with a companion each, in rows of every kind."""
    made = table(a=text(), a_keys=keys(), b=data(), b_keys=keys())
    objects = made.objects()
    objects.create(tenant_id=1, a="both", b=[1])
    objects.create(tenant_id=2, a="first")
    objects.create(tenant_id=2, b={"only": "b"})
    objects.create(tenant_id=3)
    objects.bulk_create(made.model()(tenant_id=4, a=f"a{number}", b=number) for number in range(3))
    for number in range(3):
        # Two values of a row under keys of their own.
        row = objects.create(tenant_id=5, a=f"apart {number}")
        row = objects.get(pk=row.pk)
        with mock.patch("vault_fields.fields.keychoice.Work._sibling", return_value=None):
            row.b = {"apart": number}
            row.save()
    return made


def add(name):
    return migrations.AddField("record", name, keys())


def alter(name, field):
    return migrations.AlterField("record", name, field)


def remove(name):
    return migrations.RemoveField("record", name)


TO_SHARED = [add("k"), MoveToCompanion("record", ["a", "b"], "k", batch_size=2)]
SHARED = [alter("a", text(keys_field="k")), alter("b", data(keys_field="k"))]
WITHOUT_OLD = [remove("a_keys"), remove("b_keys")]


def raw(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_separate_companions_become_a_shared_one_and_are_separate_again(separate) -> None:
    before = separate.values("a", "b")
    separate.migrate(*TO_SHARED)
    assert separate.values("a", "b") == before
    separate.migrate(*SHARED)
    assert separate.values("a", "b") == before
    separate.migrate(*WITHOUT_OLD)
    assert separate.values("a", "b") == before
    row = separate.objects().get(tenant_id=1)
    row.b = [2]
    row.save()
    before[row.pk]["b"] = [2]
    separate.undo(3)
    assert separate.values("a", "b") == before
    columns = {column.name for column in connection.introspection.get_table_description(connection.cursor(), TABLE)}
    assert columns == {"id", "tenant_id", "a", "a_keys", "b", "b_keys"}


TABLE = "changed_record"


@pytest.mark.parametrize("atomic", [True, False])
def test_one_migration_does_it_all_there_and_back(separate, atomic) -> None:
    before = separate.values("a", "b")
    separate.migrate(*TO_SHARED, *SHARED, *WITHOUT_OLD, atomic=atomic)
    assert separate.values("a", "b") == before
    separate.undo()
    assert separate.values("a", "b") == before


def test_a_shared_companion_becomes_two(table) -> None:
    made = table(a=text(keys_field="k"), b=data(keys_field="k"), k=keys())
    for number in range(5):
        made.objects().create(tenant_id=1, a=f"a{number}" if number else None, b=[number] if number % 2 else None)
    before = made.values("a", "b")
    moves = [MoveToCompanion("record", [name], f"{name}_keys") for name in "ab"]
    with assert_vault_calls():
        made.migrate(add("a_keys"), add("b_keys"), *moves)
    assert made.values("a", "b") == before
    made.migrate(alter("a", text()), alter("b", data()), remove("k"))
    assert made.values("a", "b") == before
    assert raw(f"SELECT COUNT(*) FROM {TABLE} WHERE a IS NULL AND a_keys IS NOT NULL") == [(0,)]
    made.undo(2)
    assert made.values("a", "b") == before


def test_to_another_column_that_is_there_and_has_a_value_already(table) -> None:
    made = table(a=text(keys_field="k"), k=keys(), c=text(keys_field="m"), m=keys(), d=text(keys_field="k"))
    first = made.objects().create(tenant_id=1, a="a", c="c", d="d")
    made.objects().filter(pk=first.pk).get()
    with mock.patch("vault_fields.fields.keychoice.Work._sibling", return_value=None):
        row = made.objects().get(pk=first.pk)
        row.c = "other key"
        row.tenant_id = 1
        row.save()
        made.objects().create(tenant_id=2, a="a", c="c", d="d")
    before = made.values("a", "c", "d")
    made.migrate(MoveToCompanion("record", ["a"], "m"))
    assert made.values("a", "c", "d") == before
    made.migrate(alter("a", text(keys_field="m")))
    assert made.values("a", "c", "d") == before
    made.undo(2)
    assert made.values("a", "c", "d") == before


def test_operations_for_one_field_each_make_one_companion(separate) -> None:
    before = separate.values("a", "b")
    moves = [MoveToCompanion("record", [name], "k") for name in "ab"]
    separate.migrate(add("k"), *moves, *SHARED, *WITHOUT_OLD)
    assert separate.values("a", "b") == before
    separate.undo()
    assert separate.values("a", "b") == before


def test_a_field_in_the_table_of_a_child(table) -> None:
    made = table(name=models.CharField(max_length=10))
    made.create("Child", ("changed.record",), a=text(), a_keys=keys(), b=data(), b_keys=keys())
    for number in range(3):
        made.objects("Child").create(tenant_id=number + 1, name="n", a=f"a{number}", b=number)
    before = made.values("a", "b", model="Child")
    made.migrate(
        migrations.AddField("child", "k", keys()),
        MoveToCompanion("child", ["a", "b"], "k"),
        migrations.AlterField("child", "a", text(keys_field="k")),
        migrations.AlterField("child", "b", data(keys_field="k")),
        migrations.RemoveField("child", "a_keys"),
        migrations.RemoveField("child", "b_keys"),
    )
    assert made.values("a", "b", model="Child") == before
    made.undo()
    assert made.values("a", "b", model="Child") == before


def test_what_is_copied_costs_nothing_and_only_rows_with_several_keys_are_encrypted_again(separate) -> None:
    texts = raw(f"SELECT id, a, b FROM {TABLE} ORDER BY id")
    with assert_vault_calls(decrypt=6, cold=True):
        separate.migrate(add("k"), MoveToCompanion("record", ["a", "b"], "k"))
    after = raw(f"SELECT id, a, b FROM {TABLE} ORDER BY id")
    changed = [row[0] for row, later in zip(texts, after, strict=True) if row != later]
    assert len(changed) == 3
    assert raw(f"SELECT COUNT(*) FROM {TABLE} WHERE a IS NULL AND b IS NULL AND k IS NULL") == [(1,)]


def test_plaintext_that_is_allowed_stays_what_it_is(table, execute) -> None:
    made = table(a=text(migrating=True), a_keys=keys(), b=text(migrating=True), b_keys=keys())
    made.objects().create(tenant_id=1, a="a", b="b")
    execute(f"UPDATE {TABLE} SET b = 'plain'")
    execute(f"INSERT INTO {TABLE} (tenant_id, a) VALUES (1, 'plain too')")
    made.migrate(add("k"), MoveToCompanion("record", ["a", "b"], "k"))
    assert raw(f"SELECT b FROM {TABLE} ORDER BY id") == [("plain",), (None,)]
    assert [row["a"] for row in made.values("a").values()] == ["a", "plain too"]


def test_interrupted_it_leaves_every_row_readable_and_goes_on(separate) -> None:
    before = separate.values("a", "b")
    separate.migrate(add("k"))
    real, calls = vaults["default"].decrypt_data_keys, []

    def twice(wanted):
        calls.append(wanted)
        if len(calls) > 1:
            raise VaultUnavailable("Away.")
        return real(wanted)

    vaults["default"].purge()
    move = MoveToCompanion("record", ["a", "b"], "k", batch_size=1)
    with mock.patch.object(vaults["default"], "decrypt_data_keys", twice), pytest.raises(VaultUnavailable):
        separate.migrate(move, atomic=False)
    assert len(calls) > 1
    assert separate.values("a", "b") == before
    separate.migrate(move, atomic=False)
    separate.migrate(*SHARED, *WITHOUT_OLD)
    assert separate.values("a", "b") == before


def test_run_again_it_picks_up_what_was_written_by_the_declaration_before(separate) -> None:
    separate.migrate(*TO_SHARED)
    row = separate.objects().get(a=None, b__isnull=True)
    row.a = "written meanwhile"
    row.save()
    moved = separate.objects().get(tenant_id=1)
    moved.tenant_id = 9
    moved.save()
    before = separate.values("a", "b")
    separate.migrate(MoveToCompanion("record", ["a", "b"], "k"))
    separate.migrate(*SHARED, MoveToCompanion("record", ["a", "b"], "k"), *WITHOUT_OLD)
    assert separate.values("a", "b") == before


def test_a_row_that_is_written_to_meanwhile_is_dealt_with_anew(separate) -> None:
    separate.migrate(add("k"))
    first = separate.objects().get(tenant_id=1)
    real, done = vaults["default"].decrypt_data_keys, []

    def meanwhile(wanted):
        if not done:
            done.append(True)
            first.a = "meanwhile"
            first.save()
        return real(wanted)

    vaults["default"].purge()
    with mock.patch.object(vaults["default"], "decrypt_data_keys", meanwhile):
        separate.migrate(MoveToCompanion("record", ["a", "b"], "k"), atomic=False)
    assert done
    separate.migrate(*SHARED, *WITHOUT_OLD)
    assert separate.objects().get(tenant_id=1).a == "meanwhile"


def test_rows_that_cannot_be_moved_are_named_and_the_others_are_moved(separate, execute) -> None:
    separate.migrate(add("k"))
    first = separate.objects().get(tenant_id=1)
    # Of this one the other companion has the same keys.
    execute(f"UPDATE {TABLE} SET a_keys = NULL WHERE id = %s", first.pk)
    lost = separate.objects().filter(tenant_id=4).earliest("pk").pk
    execute(f"UPDATE {TABLE} SET a_keys = NULL, b_keys = NULL WHERE id = %s", lost)
    apart = list(separate.objects().filter(tenant_id=5).order_by("pk"))
    damaged, _ = raw(f"SELECT a, id FROM {TABLE} WHERE id = {apart[0].pk}")[0]
    execute(f"UPDATE {TABLE} SET a = %s WHERE id = %s", damaged[:-8] + "AAAAAAA=", apart[0].pk)
    execute(f"UPDATE {TABLE} SET a = '$vf$9$x' WHERE tenant_id = 2 AND a IS NOT NULL")
    with pytest.raises(VaultFieldsError) as caught:
        separate.migrate(MoveToCompanion("record", ["a", "b"], "k"), atomic=False)
    message = str(caught.value)
    assert message.startswith("3 rows could not be moved to 'k'; the others were")
    assert f"changed.Record.a (pk={lost}): the value is encrypted, but no companion in its row" in message
    assert f"changed.Record.a (pk={apart[0].pk}): the value does not open" in message
    assert raw(f"SELECT COUNT(*) FROM {TABLE} WHERE k IS NOT NULL") == [(6,)]


def test_two_companions_that_name_one_id_are_told_apart_by_what_opens_the_value(table, execute) -> None:
    made = table(a=text(), a_keys=keys(), k=keys())
    row = made.objects().create(tenant_id=1, a="right")
    right = row.a_keys
    other = made.objects().create(tenant_id=1, a="other")
    wrong = companion_format.decode(other.a_keys)
    vault = vaults["default"]
    key = vault.decrypt_data_key(wrong.encrypted_keys, wrong.context)
    right_id = companion_format.decode(right).key_id
    forged = companion_format.encode(companion_format.proven(replace(wrong, key_id=right_id), key))
    execute(f"UPDATE {TABLE} SET a_keys = %s, k = %s WHERE id = %s", forged, right, row.pk)
    made.migrate(MoveToCompanion("record", ["a"], "k"))
    assert made.objects().get(pk=row.pk).a == "right"
    execute(f"UPDATE {TABLE} SET a_keys = %s, k = %s WHERE id = %s", right, forged, row.pk)
    made.migrate(MoveToCompanion("record", ["a"], "k"))
    assert raw(f"SELECT a_keys, k FROM {TABLE} WHERE id = {row.pk}") == [(right, right)]


def test_rows_that_some_keys_refuse_do_not_keep_the_others_from_being_sealed(separate) -> None:
    separate.migrate(add("k"))
    before = separate.values("a", "b")
    from vault_fields.exceptions import ValueRefused
    from vault_fields.rows.rewriting import seal

    def refuse_first(rows, *args, **options):
        rows = list(rows)
        if any(instance.__dict__["tenant_id"] == 5 and len(rows) > 1 for instance, _ in rows):
            raise ValueRefused("One of them.")
        if rows and rows[0][0].pk == min(separate.objects().filter(tenant_id=5).values_list("pk", flat=True)):
            raise ValueRefused("This one.")
        return seal(rows, *args, **options)

    with (
        mock.patch("vault_fields.rows.rewriting.seal", refuse_first),
        pytest.raises(VaultFieldsError, match=r"^1 row could not be moved to 'k'.*\nThis one\.$"),
    ):
        separate.migrate(MoveToCompanion("record", ["a", "b"], "k"), atomic=False)
    assert separate.values("a", "b") == before


def test_what_cannot_be_is_refused_before_anything_is_written(separate) -> None:
    with pytest.raises(
        FieldError, match=r"changed.Record has no companion 'k' here: MoveToCompanion goes after the AddF"
    ):
        separate.migrate(MoveToCompanion("record", ["a"], "k"), atomic=False)
    with pytest.raises(
        FieldError, match=r"changed.Record.tenant_id is not an encrypted field in the model's own table"
    ):
        separate.migrate(MoveToCompanion("record", ["tenant_id"], "a_keys"), atomic=False)
    with pytest.raises(FieldError, match=r"changed.Record.a has its keys in 'a_keys', .*before a RemoveField"):
        separate.migrate(migrations.RenameField("record", "a_keys", "k"), MoveToCompanion("record", ["a"], "k"))


def test_fields_of_different_contexts_cannot_share(table) -> None:
    made = table(
        a=text(), a_keys=keys(), b=text(key_context={"tenant_id": "tenant_id", "p": Value("b")}), b_keys=keys()
    )
    with pytest.raises(FieldError, match=r"changed.Record.a and b cannot share 'b_keys': .*RekeyField"):
        made.migrate(MoveToCompanion("record", ["a"], "b_keys"))
    assert made.values("a", "b") == {}


def test_arguments_are_checked_and_written_out_in_full() -> None:
    with pytest.raises(TypeError, match=r"names is a list of the names of fields, not 'a'"):
        MoveToCompanion("record", "a", "k")
    with pytest.raises(ValueError, match=r"batch_size must be at least 1"):
        RekeyField("record", "a", batch_size=0)
    for operation, line, fragment, description in [
        (
            MoveToCompanion("record", ["a"], "k", 5, elidable=True),
            "MoveToCompanion(model_name='record',names=['a'],companion='k',batch_size=5,elidable=True,)",
            "move_record_to_k",
            "p Move the values of a on record to the companion k",
        ),
        (RekeyField("record", "a"), "RekeyField(model_name='record',name='a',)", "rekeyfield_record_a", "p Rekey the"),
        (TextToJSON("record", "a"), "TextToJSON(model_name='record',name='a',)", "texttojson_record_a", "p Make JSON"),
        (JSONToText("record", "a"), "JSONToText(model_name='record',name='a',)", "jsontotext_record_a", "p Make text"),
    ]:
        written, imports = OperationWriter(operation, indentation=0).serialize()
        assert re.sub(r"\s+", "", written) == f"vault_fields.operations.{line},"
        assert imports == {"import vault_fields.operations"}
        assert operation.migration_name_fragment == fragment
        assert operation.formatted_description().startswith(description)


class _Nowhere:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return app_label != "changed"


def test_a_router_decides_where_rows_are_written(separate) -> None:
    before = raw(f"SELECT a, b, a_keys, b_keys FROM {TABLE}")
    separate.migrate(add("k"))
    with override_settings(DATABASE_ROUTERS=[_Nowhere()]):
        for operation in (MoveToCompanion("record", ["a"], "k"), RekeyField("record", "a"), TextToJSON("record", "a")):
            separate.migrate(operation)
            separate.undo()
    assert raw(f"SELECT a, b, a_keys, b_keys FROM {TABLE}") == before


# RekeyField.


def test_a_context_is_replaced_in_two_steps_there_and_back(table) -> None:
    other = {"key_context": ["owner"]}
    both = {"key_context": ["tenant_id", "owner"]}
    made = table(owner=models.CharField(max_length=10), a=text(), a_keys=keys())
    for number in range(3):
        made.objects().create(tenant_id=number + 1, owner=f"o{number}", a=f"a{number}")
    before = made.values("a")
    made.migrate(
        alter("a", text(**both)), RekeyField("record", "a"), alter("a", text(**other)), RekeyField("record", "a")
    )
    assert made.values("a") == before
    assert {tuple(companion_format.decode(row["a_keys"]).context) for row in made.values("a_keys").values()} == {
        ("owner",)
    }
    made.undo()
    assert made.values("a") == before


def test_rows_that_cannot_be_brought_up_to_date_are_named(table, execute) -> None:
    made = table(owner=models.CharField(max_length=10), a=text(), a_keys=keys())
    for number in range(25):
        made.objects().create(tenant_id=number + 1, owner="o", a="a")
    execute(f"UPDATE {TABLE} SET tenant_id = tenant_id + 100")
    with pytest.raises(VaultFieldsError, match=r"(?s)^25 rows could not be brought up to date.*… and 5 more\.$"):
        made.migrate(RekeyField("record", "a"), atomic=False)


# TextToJSON and JSONToText.

TEXTS = [
    "",
    "x",
    "12",
    "1e5",
    "true",
    "null",
    "NaN",
    '{"a": [1]}',
    '"quoted"',
    '"12"',
    "[",
    " 7 ",
    "É",
    "🩺",
    '"\\ud800"',
]
TEXTS += ['"$vf$1$x"', "[" * 5000]


@pytest.fixture
def texts(table):
    made = table(a=text(), a_keys=keys(), b=text(), b_keys=keys())
    for value in [*TEXTS, None]:
        made.objects().create(tenant_id=1, a=value, b="beside")
    return made


@pytest.mark.parametrize("after", [False, True])
def test_texts_become_json_and_are_the_same_texts_again(texts, after) -> None:
    before = texts.values("a", "b")
    steps = [TextToJSON("record", "a", batch_size=3), alter("a", data())]
    texts.migrate(*(reversed(steps) if after else steps))
    found = [row["a"] for row in texts.values("a").values()]
    expected = ["", "x", 12, 1e5, True, None, "NaN", {"a": [1]}, "quoted", "12", "[", 7, "É", "🩺", "\ud800"]
    assert found == [*expected, "$vf$1$x", "[" * 5000, None]
    texts.migrate(TextToJSON("record", "a"))
    assert [row["a"] for row in texts.values("a").values()] == found
    texts.undo()
    texts.migrate(alter("a", data()), TextToJSON("record", "a"))
    texts.undo()
    texts.undo()
    # Both a text and the same in quotes became the JSON string.
    next(row for row in before.values() if row["a"] == '"quoted"')["a"] = "quoted"
    assert list(texts.values("a", "b").values()) == list(before.values())


def test_json_becomes_text_and_is_the_same_json_again(table) -> None:
    made = table(a=data(encoder=None), a_keys=keys())
    for value in ["x", "12", "", 12, [1, {"a": None}], True, {"é": 1}, "$vf$1$x"[1:], None]:
        made.objects().create(tenant_id=1, a=value)
    before = made.values("a")
    made.migrate(JSONToText("record", "a"), alter("a", text()))
    found = [row["a"] for row in made.values("a").values()]
    assert found == ["x", '"12"', "", "12", '[1,{"a":null}]', "true", '{"é":1}', "vf$1$x", None]
    made.undo()
    assert made.values("a") == before


def test_data_keys_stay_and_plaintext_is_encrypted(table, execute) -> None:
    made = table(a=text(migrating=True), a_keys=keys())
    made.objects().create(tenant_id=1, a="x")
    made.objects().create(tenant_id=1, a="[1]")
    execute(f"INSERT INTO {TABLE} (tenant_id, a) VALUES (1, 'plain')")
    before = raw(f"SELECT a, a_keys FROM {TABLE} ORDER BY id")
    with assert_vault_calls(decrypt=2, create=1, cold=True):
        made.migrate(TextToJSON("record", "a"), alter("a", data(migrating=True)))
    after = raw(f"SELECT a, a_keys FROM {TABLE} ORDER BY id")
    assert [keys for _, keys in before[:2]] == [keys for _, keys in after[:2]]
    assert before[1] == after[1]
    assert [row["a"] for row in made.values("a").values()] == ["x", [1], "plain"]
    assert after[2][0].startswith("$vf$1$")


def test_values_that_do_not_open_are_named_and_the_others_converted(texts, execute) -> None:
    pk = texts.objects().order_by("pk").first().pk
    execute(f"UPDATE {TABLE} SET tenant_id = 7 WHERE id = %s", pk)
    with pytest.raises(VaultFieldsError, match=rf"^1 row could not be converted.*\n.*a \(pk={pk}\): the value was enc"):
        texts.migrate(TextToJSON("record", "a"), atomic=False)
    texts.migrate(alter("a", data()))
    with pytest.raises(KeyContextMismatch):
        str(texts.objects().get(pk=pk).a)
    assert texts.objects().get(pk=pk + 1).a == "x"
