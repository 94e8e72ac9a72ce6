"""
The phases of a migration in use: old code, ``migrating="read"``, ``migrating=True``, and neither.

One table, and a model of each phase for it. Every order in which two of them that run at the same time write and read.
"""

import copy

import pytest
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import connection, models
from django.test.utils import isolate_apps

from vault_fields.exceptions import KeyContextError, PlaintextFound, ValueRefused
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField
from vault_fields.fields.groups import group_of
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.rows.rekey import reencrypt_group
from vault_fields.testing import assert_vault_calls

VALUES = [{"a": ["é", None, 1.5]}, "text", "", [], 0, False, None]
TABLE = "phases_note"


def _model(name, text, data, shared):
    meta = type("Meta", (), {"app_label": "testapp", "db_table": TABLE, "managed": False})
    fields = {"tenant": models.CharField(max_length=10, null=True), "text": text, "data": data}
    fields |= shared
    return type(name, (models.Model,), {"__module__": __name__, "Meta": meta, "__qualname__": "Note", **fields})


def _encrypted(name, migrating, former):
    def labels(column):
        return [f"testapp.{other}.{column}" for other in former]

    def options(column, **more):
        return {
            "key_context": ["tenant"],
            "null": True,
            "migrating": migrating,
            "former_labels": labels(column),
            **more,
        }

    return _model(
        name,
        EncryptedTextField(**options("text")),
        EncryptedJSONField(**options("data")),
        {
            "first": EncryptedTextField(**options("first", keys_field="shared")),
            "second": EncryptedJSONField(**options("second", keys_field="shared")),
            "shared": CompanionField(),
        },
    )


with isolate_apps("tests.testapp"):
    Old = _model(
        "Old",
        models.TextField(null=True),
        models.JSONField(null=True),
        {"first": models.TextField(null=True), "second": models.JSONField(null=True)},
    )
    Reading = _encrypted("Reading", "read", ["Writing", "Final"])
    Writing = _encrypted("Writing", True, ["Reading", "Final"])
    Final = _encrypted("Final", False, ["Reading", "Writing"])

NAMES = ("text", "data", "first", "second")


@pytest.fixture
def table(transactional_db):
    with connection.schema_editor() as editor:
        editor.create_model(Final)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(Final)


def columns(pk, *names):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(names)} FROM {TABLE} WHERE id = %s", [pk])
        return cursor.fetchone()


def is_encrypted(pk):
    return [value.startswith("$vf$1$") for value in columns(pk, *NAMES)]


def content(row):
    return [getattr(row, name) for name in NAMES]


def given(value):
    return {"tenant": "t", "text": "text", "data": value, "first": "1st", "second": [value]}


def write(model, value, pk=None, way="save"):
    """Insert a row, or change all values of one."""
    if pk is None:
        if way == "bulk":
            (row,) = model.objects.bulk_create([model(**given(value))])
            return row.pk or model.objects.latest("pk").pk
        return model.objects.create(**given(value)).pk
    row = model.objects.get(pk=pk)
    for name, new in given(value).items():
        setattr(row, name, new)
    if way == "bulk":
        model.objects.bulk_update([row], NAMES)
    else:
        row.save(update_fields=NAMES if way == "update_fields" else None)
    return pk


WAYS = ["save", "update_fields", "bulk"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", VALUES[:-1], ids=repr)
def test_old_code_and_the_first_phase_read_what_the_other_writes(table, way, value) -> None:
    with assert_vault_calls():
        for writer, reader in [(Old, Reading), (Reading, Old)]:
            pk = write(writer, "", way=way)
            for first, second in [(reader, writer), (writer, reader)]:
                write(first, value, pk, way)
                assert content(second.objects.get(pk=pk)) == ["text", value, "1st", [value]]
                assert second.objects.values_list(*NAMES).get(pk=pk) == ("text", value, "1st", [value])
            assert not any(is_encrypted(pk))
            assert reader.objects.get(pk=pk) is not None
    assert columns(pk, "text_keys", "data_keys", "shared") == (None, None, None)


def test_old_code_queries_what_the_first_phase_writes(table) -> None:
    pk = write(Reading, {"a": 1})
    Old.objects.filter(pk=pk).update(data=None)
    Reading.objects.filter(pk=pk, data=None).get()


@pytest.mark.parametrize("way", WAYS)
def test_the_first_phase_keeps_encrypted_what_the_second_one_wrote(table, way) -> None:
    pk = write(Writing, {"a": 1})
    keys = columns(pk, "text_keys", "data_keys", "shared")
    with assert_vault_calls():
        write(Reading, {"b": 2}, pk, way)
    assert is_encrypted(pk) == [True] * 4
    assert columns(pk, "text_keys", "data_keys", "shared") == keys
    for model in (Reading, Writing, Final):
        assert content(model.objects.get(pk=pk)) == ["text", {"b": 2}, "1st", [{"b": 2}]]


@pytest.mark.parametrize("way", WAYS)
def test_the_second_phase_encrypts_what_the_first_one_wrote(table, way) -> None:
    pk = write(Reading, 1)
    assert is_encrypted(pk) == [False] * 4
    write(Writing, 2, pk, way)
    assert is_encrypted(pk) == [True] * 4
    assert content(Reading.objects.get(pk=pk)) == content(Final.objects.get(pk=pk)) == ["text", 2, "1st", [2]]


def test_a_value_assigned_unread_stays_encrypted_where_the_stored_one_is(table) -> None:
    pk = write(Writing, 1)
    row = Reading.objects.only("pk").get(pk=pk)
    row.text, row.second = "new", [3]
    row.save()
    assert is_encrypted(pk) == [True] * 4
    assert content(Final.objects.get(pk=pk)) == ["new", 1, "1st", [3]]


def test_what_was_encrypted_since_it_was_read_stays_encrypted(table) -> None:
    pk = write(Reading, 1)
    row = Reading.objects.get(pk=pk)
    write(Writing, 2, pk)
    row.first = row.text = "late"
    row.save(update_fields=["first", "text"])
    assert is_encrypted(pk) == [True] * 4
    assert content(Final.objects.get(pk=pk)) == ["late", 2, "late", [2]]


def test_beside_an_encrypted_value_a_new_one_is_not_encrypted_and_both_stay_readable(table) -> None:
    pk = Writing.objects.create(tenant="t", first="secret").pk
    keys = columns(pk, "shared")
    for value in ([1], [2]):
        row = Reading.objects.get(pk=pk)
        row.second = value
        row.save(update_fields=["second"])
        assert columns(pk, "shared", "second") == (*keys, f"[{value[0]}]")
        assert [Reading.objects.get(pk=pk).first, Old.objects.get(pk=pk).second] == ["secret", value]
    row.tenant = "other"
    row.save()
    assert columns(pk, "second") == ("[2]",)
    assert (Writing.objects.get(pk=pk).first, Writing.objects.get(pk=pk).second) == ("secret", [2])
    row.first = None
    row.save()
    assert columns(pk, "shared", "first", "second") == (None, None, "[2]")


def test_a_plain_value_that_is_changed_in_place_stays_plain(table) -> None:
    pk = write(Reading, {"a": []})
    row = Reading.objects.get(pk=pk)
    row.data["a"].append(1)
    row.save()
    row.data["a"].append(2)
    row.save(update_fields=["data"])
    assert (columns(pk, "data"), row.data) == (('{"a":[1,2]}',), {"a": [1, 2]})
    assert row.data == Old.objects.get(pk=pk).data == {"a": [1, 2]}
    row.refresh_from_db()
    assert row.data == {"a": [1, 2]}


def test_a_row_without_a_tenant_is_written_as_long_as_nothing_of_it_is_encrypted(table) -> None:
    pk = Reading.objects.create(text="x", data=[1]).pk
    assert Reading.objects.get(pk=pk).text == "x"
    with pytest.raises(KeyContextError):
        Writing.objects.get(pk=pk).save()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("text", "$vf$1$x", "begins like an encrypted value"),
        ("data", "$vf$1$x", "begins like an encrypted value"),
        ("data", "\ud800", "lone surrogate"),
        ("data", object(), "cannot be encoded"),
    ],
)
def test_what_could_not_be_read_or_encrypted_later_is_refused(table, name, value, reason) -> None:
    row = Reading(tenant="t", **{name: value})
    with pytest.raises(ValueRefused, match=reason):
        row.save()
    assert Reading.objects.count() == 0
    with pytest.raises(FieldError):
        Reading(tenant="t", text=models.F("tenant")).save()


def test_plaintext_passes_in_the_first_phase_only(table) -> None:
    held = copy.copy(Reading.objects.get(pk=write(Reading, 1)).__dict__["text"])
    assert Reading._meta.get_field("text").get_db_prep_save(held, connection) == "text"
    for model in (Writing, Final):
        with pytest.raises(FieldError, match="nothing was written"):
            model._meta.get_field("text").get_db_prep_save(held, connection)
    with pytest.raises(FieldError, match="nothing was written"):
        Reading._meta.get_field("text").get_db_prep_save("text", connection)


def test_rows_are_encrypted_when_nobody_writes_plaintext_any_more(table) -> None:
    pk = write(Reading, 1)
    with pytest.raises(ImproperlyConfigured, match='declared with migrating="read", so that every process goes on'):
        encrypt_column(Reading._meta.get_field("text"))
    with pytest.raises(PlaintextFound):
        content(Final.objects.get(pk=pk))
    for name in NAMES:
        encrypt_column(Writing._meta.get_field(name))
    assert is_encrypted(pk) == [True] * 4
    assert content(Final.objects.get(pk=pk)) == ["text", 1, "1st", [1]]


def test_new_data_keys_leave_encrypted_what_is_encrypted_and_plain_what_is_plain(table) -> None:
    pk = Writing.objects.create(tenant="t", first="secret").pk
    Old.objects.filter(pk=pk).update(second=[1])
    report = reencrypt_group(group_of(Reading._meta.get_field("first")), on_problem=print)
    assert (report.reencrypted, report.failed) == (1, 0)
    assert [value.startswith("$vf$") for value in columns(pk, "first", "second")] == [True, False]
    assert (Reading.objects.get(pk=pk).first, Reading.objects.get(pk=pk).second) == ("secret", [1])
    decrypt_column(Reading._meta.get_field("first"))
    assert columns(pk, "first", "shared") == ("secret", None)


def test_old_code_that_still_runs_in_the_second_phase_loses_nothing(table) -> None:
    """It should not, but somebody forgets a worker: it shows ciphertext, and writes it back as it knows how."""
    pk = write(Writing, {"a": 1})
    old = Old.objects.get(pk=pk)
    old.tenant = "t"
    old.save()
    for model in (Reading, Writing, Final):
        assert content(model.objects.get(pk=pk)) == ["text", {"a": 1}, "1st", [{"a": 1}]]
    old.data = {"b": 2}
    old.save()
    assert Reading.objects.get(pk=pk).data == Writing.objects.get(pk=pk).data == {"b": 2}
    encrypt_column(Writing._meta.get_field("data"))
    assert Final.objects.get(pk=pk).data == {"b": 2}


def test_the_phase_stands_in_migrations() -> None:
    field = Reading._meta.get_field("data").clone()
    assert field.migrating == field.deconstruct()[3]["migrating"] == "read"
