"""Whatever stands in whatever column: a value opens, or the error is one of this package and names the value."""

import pickle
import random
from contextlib import suppress
from typing import Never

import pytest
from django.core import serializers
from django.db import connection, transaction
from django.db.models import F, OuterRef, Subquery

from tests.testapp.models import Document, Organization, Patient
from vault_fields.exceptions import DecryptionError, EnvelopeError, KeyContextMismatch, VaultFieldsError
from vault_fields.fields.groups import group_of
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.rows.rekey import reencrypt_group, rekey_group

FIELD = Patient._meta.get_field("ssn")

READS = {
    "instance": lambda rows: [row.ssn for row in rows],
    "get": lambda rows: [rows.get(pk=pk).ssn for pk in rows.values_list("pk", flat=True)],
    "values": lambda rows: [row["ssn"] for row in rows.values("ssn")],
    "values_list": lambda rows: list(rows.values_list("ssn", flat=True)),
    "only": lambda rows: [row.ssn for row in rows.only("ssn")],
    "deferred": lambda rows: [row.ssn for row in rows.only("name")],
    "companion deferred": lambda rows: [row.ssn for row in rows.defer("ssn_keys")],
    "context deferred": lambda rows: [row.ssn for row in rows.defer("organization")],
    "F": lambda rows: [row.x for row in rows.annotate(x=F("ssn"))],
    "subquery": lambda rows: [
        row.x for row in rows.annotate(x=Subquery(Patient.objects.filter(pk=OuterRef("pk")).values("ssn")))
    ],
    "iterator": lambda rows: [row.ssn for row in rows.iterator(chunk_size=1)],
    "raw": lambda rows: [row.ssn for row in Patient.objects.raw("SELECT * FROM testapp_patient ORDER BY id")],
    "raw without companion": lambda rows: [
        row.ssn for row in Patient.objects.raw("SELECT id, ssn FROM testapp_patient ORDER BY id")
    ],
    "pickle": lambda rows: [row.ssn for row in pickle.loads(pickle.dumps(list(rows)))],
    "refresh": lambda rows: [row.ssn for row in rows if row.refresh_from_db() is None],
    "full save": lambda rows: [row.ssn for row in rows if row.save() is None],
    "fixture": lambda rows: serializers.serialize("json", rows),
}  # fmt: skip


@pytest.fixture
def pair(organization):
    """Two rows of one tenant: what happens to the first is no business of the second."""
    return [Patient.objects.create(organization=organization, name=name, ssn=f"ssn {name}") for name in "ab"]


def read_all(read):
    """What a read gives; an error has to be of this package, and to hide nothing from ``getattr`` with a default."""
    rows = Patient.objects.order_by("pk")
    try:
        with transaction.atomic():
            return READS[read](rows)
    except VaultFieldsError as raised:
        error = raised
    assert not isinstance(error, (AttributeError, TypeError, ValueError))
    assert "testapp.Patient.ssn" in str(error)
    return error


@pytest.mark.parametrize("column", ["ssn", "ssn_keys"])
@pytest.mark.parametrize("stored", [b"\xff\xfe", b"text in a blob", 7, 1.5], ids=repr)
@pytest.mark.parametrize("read", READS)
def test_what_is_not_text_is_an_error_of_its_own_value(pair, execute, column, stored, read) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite stores anything in any column")
    execute(f"UPDATE testapp_patient SET {column} = %s WHERE name = 'a'", stored)
    result = read_all(read)
    if read == "fixture" and not isinstance(stored, bytes):
        return  # It is text by now, and what a fixture holds is not judged when it is written.
    assert isinstance(result, DecryptionError)
    rows = list(Patient.objects.order_by("pk"))
    assert rows[1].ssn == "ssn b"
    assert Patient.objects.only("ssn").get(name="b").ssn == "ssn b"
    for row in (rows[0], Patient.objects.only("ssn").get(name="a"), Patient.objects.only("name").get(name="a")):
        with pytest.raises(DecryptionError, match=rf"testapp.Patient.ssn \(pk={row.pk}\)"):
            getattr(row, "ssn", "x")


@pytest.mark.parametrize("column", ["ssn", "ssn_keys"])
def test_what_is_damaged_is_not_written_over_until_it_is_replaced(pair, execute, column) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite stores anything in any column")
    execute(f"UPDATE testapp_patient SET {column} = %s WHERE name = 'a'", b"\xff")
    stored = Patient.objects.raw("SELECT id, typeof(ssn) AS s, typeof(ssn_keys) AS k FROM testapp_patient")[0]
    row = Patient.objects.get(name="a")
    for save in (row.save, lambda: Patient.objects.bulk_update([Patient.objects.get(name="a")], ["organization"])):
        with pytest.raises(EnvelopeError, match="does not hold text"), transaction.atomic():
            save()
    again = Patient.objects.raw("SELECT id, typeof(ssn) AS s, typeof(ssn_keys) AS k FROM testapp_patient")[0]
    assert (again.s, again.k) == (stored.s, stored.k)
    row.save(update_fields=["name"])
    row.ssn = "new"
    row.save()
    assert Patient.objects.get(name="a").ssn == "new"


@pytest.mark.parametrize("column", ["ssn", "ssn_keys"])
def test_commands_leave_what_is_damaged_as_it_is(pair, execute, column, monkeypatch) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite stores anything in any column")
    execute(f"UPDATE testapp_patient SET {column} = %s WHERE name = 'a'", b"\xff")
    monkeypatch.setattr(FIELD, "migrating", True)
    problems = []
    for run in (
        lambda: encrypt_column(FIELD),
        lambda: decrypt_column(FIELD, batch_size=1),
        lambda: rekey_group(group_of(FIELD), on_problem=problems.append),
        lambda: reencrypt_group(group_of(FIELD), on_problem=problems.append),
    ):
        with suppress(VaultFieldsError), transaction.atomic():
            run()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM testapp_patient WHERE name = 'a'")
        assert cursor.fetchone() == (b"\xff",)
    with pytest.raises(EnvelopeError):
        Patient.objects.get(name="a").ssn  # noqa: B018


@pytest.mark.parametrize("stored", ["abc", b"\xff", 1.5, ""], ids=repr)
@pytest.mark.parametrize("read", sorted(READS.keys() - {"fixture", "full save"}))
def test_damage_in_a_column_of_the_key_context_is_a_mismatch(pair, execute, stored, read) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite stores anything in any column")
    execute("UPDATE testapp_patient SET organization_id = %s WHERE name = 'a'", stored)
    try:
        assert isinstance(read_all(read), KeyContextMismatch)
        rows = list(Patient.objects.order_by("pk"))
        assert rows[1].ssn == "ssn b"
        with pytest.raises(KeyContextMismatch, match=rf"testapp.Patient.ssn \(pk={rows[0].pk}\)"):
            getattr(rows[0], "ssn", "x")
    finally:
        execute("UPDATE testapp_patient SET organization_id = %s", pair[0].organization_id)


@pytest.mark.parametrize("stored", ["abc", b"\xff", ""], ids=repr)
def test_damage_at_the_start_of_a_path_is_a_mismatch(organization, execute, stored) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite stores anything in any column")
    for body in ("a", "b"):
        Document.objects.create(organization=organization, body=body)
    first, second = Document.objects.order_by("pk")
    execute("UPDATE testapp_document SET organization_id = %s WHERE id = %s", stored, first.pk)
    try:
        rows = list(Document.objects.order_by("pk"))
        for read in (
            lambda: rows[0].body,
            lambda: list(Document.objects.values_list("body")),
            lambda: Document.objects.only("body").get(pk=first.pk).body,
        ):
            with pytest.raises(KeyContextMismatch, match=r"testapp\.Document\.body"):
                read()
        assert [rows[1].body, Document.objects.only("body").get(pk=second.pk).body] == ["b", "b"]
    finally:
        execute("UPDATE testapp_document SET organization_id = %s", organization.pk)


@pytest.mark.parametrize("seed", range(40))
def test_fuzzed_columns_give_values_or_errors_of_this_package(pair, execute, seed) -> None:
    generator = random.Random(seed)
    keys, text = pair[0].ssn_keys, pair[0].__dict__["ssn"].text
    pieces = [
        "",
        "\x1e",
        "\x1ev[]\x1f\x1f",
        "\x1f",
        "$vf$1$",
        "$vf$2$x",
        "{}",
        "[]",
        "null",
        '"',
        "\\u0000",
        "é",
        keys,
        text,
    ]
    for column, good in (("ssn", text), ("ssn_keys", keys)):
        start, end = sorted(generator.choices(range(len(good) + 1), k=2))
        damaged = good[:start] + generator.choice(pieces) + good[end:]
        if generator.random() < 0.5:
            damaged = "".join(generator.choices(pieces, k=3))
        execute(f"UPDATE testapp_patient SET {column} = %s WHERE name = 'a'", damaged)
        for read in READS:
            result = read_all(read)
            if not isinstance(result, Exception) and read != "fixture":
                assert result == ["ssn a", "ssn b"]
        assert Patient.objects.get(name="b").ssn == "ssn b"
    assert Organization.objects.count() == 1


@pytest.mark.parametrize("error", [AttributeError, TypeError, ValueError, KeyError, OverflowError])
def test_no_error_of_a_read_looks_as_if_the_attribute_were_not_there(pair, monkeypatch, error) -> None:
    def fail(text) -> Never:
        raise error(text)

    monkeypatch.setattr(FIELD, "from_plaintext", fail)
    with pytest.raises(DecryptionError, match=rf"ssn \(pk=\d+\): it cannot be read .*: {error.__name__}\.$"):
        getattr(Patient.objects.get(name="a"), "ssn", "x")
