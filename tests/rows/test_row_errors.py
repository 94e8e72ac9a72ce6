"""One value that does not open is the error of its row, with field and primary key, and never that of all others."""

import io
import re

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F, OuterRef, Subquery

from tests.testapp.models import Legacy, Organization
from vault_fields.audit.owners import owner_counts
from vault_fields.audit.places import places
from vault_fields.audit.shredding import prove_shredded
from vault_fields.audit.versions import versions_in_use
from vault_fields.exceptions import DecryptionError, KeyContextMismatch, UnknownVault, ValueRefused, VaultRefused
from vault_fields.fields import aopen, try_open
from vault_fields.fields.groups import group_of
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.rows.rekey import reencrypt_group, rekey_group
from vault_fields.rows.rewriting import convert_column
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

MEMORY = {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}
TEXT = Legacy._meta.get_field("text")


@pytest.fixture
def damage(organization, other_organization, execute, move, settings):
    """Five rows whose third does not open, for a reason of each kind; returns that row."""
    settings.VAULTS = {"default": MEMORY, "left": {"SUCCESSOR": "default"}}
    vault = vaults["default"]

    def rename(row, alias) -> None:
        replaced = ['"vault":"default"', f'"vault":"{alias}"', row.pk]
        execute("UPDATE testapp_legacy SET text_keys = REPLACE(text_keys, %s, %s) WHERE id = %s", *replaced)

    def revoke(row) -> None:
        Legacy.objects.filter(pk=row.pk).delete()
        Legacy.objects.create(pk=row.pk, organization=other_organization, text="2")
        vault.revoke("organization_id", str(other_organization.pk))

    def harm(kind):
        rows = [Legacy.objects.create(organization=organization, text=str(number)) for number in range(5)]
        row = rows[2]
        set_text = "UPDATE testapp_legacy SET text = %s WHERE id = %s"
        stored = Legacy.objects.get(pk=row.pk).__dict__["text"].text
        {
            "unknown vault": lambda: rename(row, "gone"),
            "left vault": lambda: rename(row, "left"),
            "no companion": lambda: execute("UPDATE testapp_legacy SET text_keys = NULL WHERE id = %s", row.pk),
            "nonsense": lambda: execute("UPDATE testapp_legacy SET text_keys = '{}' WHERE id = %s", row.pk),
            "altered": lambda: execute(set_text, stored[:-8] + "AAAA" + stored[-4:], row.pk),
            "truncated": lambda: execute(set_text, stored[:-3], row.pk),
            "moved": lambda: move(Legacy, other_organization, row.pk),
            "withdrawn": lambda: revoke(row),
        }[kind]()
        vault.purge()
        return row

    return harm


KINDS = [
    "unknown vault", "left vault", "no companion", "nonsense", "altered", "truncated", "moved", "withdrawn"
]  # fmt: skip
VAULT_KINDS = KINDS[:2]
kinds = pytest.mark.parametrize("kind", KINDS)
vault_kinds = pytest.mark.parametrize("kind", VAULT_KINDS)


def named(row) -> str:
    return f"testapp.Legacy.text (pk={row.pk})"


# Reading.


@kinds
def test_rows_that_were_read_together_open_beside_it(damage, kind) -> None:
    row = damage(kind)
    rows = list(Legacy.objects.order_by("pk"))
    for peer in (rows, reversed(rows), [*rows[2:], *rows[:2]]):
        attempts = {each.pk: try_open(each, "text") for each in peer}
        assert [str(attempt) for pk, attempt in sorted(attempts.items()) if pk != row.pk] == ["0", "1", "3", "4"]
        assert named(row) in str(attempts[row.pk].error)


@kinds
def test_in_coroutines_too(damage, kind) -> None:
    row = damage(kind)
    rows = list(Legacy.objects.order_by("pk"))
    async_to_sync(aopen)(rows, strict=False)
    assert [each.text for each in rows if each.pk != row.pk] == ["0", "1", "3", "4"]
    with pytest.raises((DecryptionError, VaultRefused)):
        async_to_sync(aopen)(rows)


@vault_kinds
def test_a_vault_that_is_not_there_is_an_error_with_a_type(damage, kind) -> None:
    row = damage(kind)
    with pytest.raises(UnknownVault) as raised:
        _ = Legacy.objects.get(pk=row.pk).text
    why = {
        "unknown vault": "'gone', which settings.VAULTS does not name.",
        "left vault": "'left', which was left for its SUCCESSOR. To open what it encrypted, give it its BACKEND again.",
    }
    assert str(raised.value) == f"{named(row)}: its keys are in the vault {why[kind]}"
    assert isinstance(raised.value, DecryptionError)
    assert isinstance(raised.value, ImproperlyConfigured)


def test_a_vault_whose_settings_are_wrong_is_not_the_error_of_a_row(damage, settings) -> None:
    damage("moved")
    settings.VAULTS = {"default": {**MEMORY, "OPTIONS": {"no_such_option": 1}}}
    with pytest.raises(ImproperlyConfigured, match="no_such_option") as raised:
        try_open(Legacy.objects.first(), "text")
    assert not isinstance(raised.value, UnknownVault)


# Writing.


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_other_columns_of_the_row_are_saved(damage, kind) -> None:
    row = Legacy.objects.get(pk=damage(kind).pk)
    row.data = [1]
    row.save(update_fields=["data"])
    assert Legacy.objects.values_list("data").get(pk=row.pk) == ([1],)


@kinds
def test_a_new_value_takes_its_place(damage, kind, organization) -> None:
    row = Legacy.objects.get(pk=damage(kind).pk)
    row.text, row.organization = "new", organization
    row.save()
    assert Legacy.objects.get(pk=row.pk).text == "new"


# Operations over all rows, as commands and migrations run them.

OPERATIONS = {
    "rekey": lambda tell: rekey_group(group_of(TEXT), on_problem=tell),
    "rewrap": lambda tell: rekey_group(group_of(TEXT), rewrap=True, on_problem=tell),
    "re-encrypt": lambda tell: reencrypt_group(group_of(TEXT), on_problem=tell),
    "decrypt": lambda tell: decrypt_column(TEXT, on_problem=tell),
    "convert": lambda tell: convert_column(TEXT, lambda text: text + "!", on_problem=tell),
}


@kinds
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_name_the_row_and_deal_with_all_others(damage, kind, operation) -> None:
    row = damage(kind)
    problems = []
    OPERATIONS[operation](problems.append)
    # Whether a value opens is not asked where its companion stays as it is.
    is_noticed = (operation, kind) not in {("rekey", "altered"), ("rekey", "withdrawn"), ("rewrap", "altered")}
    assert len(problems) == is_noticed
    assert all(named(row) in problem for problem in problems)
    suffix = "!" if operation == "convert" else ""
    others = Legacy.objects.exclude(pk=row.pk).order_by("pk")
    assert [each.text for each in others] == [f"{number}{suffix}" for number in (0, 1, 3, 4)]


# Queries of values, which have no row to put an error into.


def failing(query):
    with pytest.raises((DecryptionError, VaultRefused)) as raised:
        list(query)
    return str(raised.value)


QUERIES = {
    "with the key": (lambda: Legacy.objects.order_by("pk").values("pk", "text"), "pk={pk}"),
    "a list with the key": (lambda: Legacy.objects.order_by("-pk").values_list("text", "id"), "pk={pk}"),
    "an annotated row": (lambda: Legacy.objects.annotate(again=F("text")), "pk={pk}"),
    "a chunk later": (lambda: Legacy.objects.order_by("pk").values("pk", "text").iterator(1), "pk={pk}"),
    "without the key": (lambda: Legacy.objects.order_by("pk").values("text"), "row 3 of the query"),
    "flat": (lambda: Legacy.objects.order_by("-pk").values_list("text", flat=True), "row 3 of the query"),
    "combined": (
        lambda: Legacy.objects.filter(pk=0).values_list("text").union(Legacy.objects.values_list("text")), "row"
    ),
    "behind a relation": (
        lambda: Organization.objects.exclude(legacy=None).order_by("legacy__pk").values("pk", "legacy__text"),
        "row 3 of the query",
    ),
    "in a subquery": (
        lambda: Organization.objects.values_list(
            Subquery(Legacy.objects.filter(organization=OuterRef("pk")).order_by("pk").values("text")[2:3])
        ),
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_values_says_which_row_it_is(damage, query) -> None:
    row = damage("unknown vault")
    make, place = QUERIES[query]
    message = failing(make())
    if place is None:
        assert message.startswith("testapp.Legacy.text: ")
    else:
        assert message.startswith(f"testapp.Legacy.text ({place.format(pk=row.pk)}")


def test_a_key_that_only_the_database_can_convert_is_not_named(damage, monkeypatch) -> None:
    damage("unknown vault")
    monkeypatch.setattr(Legacy._meta.pk, "to_python", lambda value: int(None))
    assert "testapp.Legacy.text (row 3 of the query)" in failing(Legacy.objects.order_by("pk").values("pk", "text"))


@kinds
def test_the_others_are_had_from_rows(damage, kind) -> None:
    row = damage(kind)
    assert "testapp.Legacy.text (row 3 of the query)" in failing(Legacy.objects.order_by("pk").values_list("text"))
    rows = Legacy.objects.order_by("pk").only("text")
    found = {each.pk: try_open(each, "text") for each in rows}
    assert [attempt.value for attempt in found.values() if attempt] == ["0", "1", "3", "4"]
    assert named(row) in str(found[row.pk].error)


# Fixtures, which hold what is stored.


@kinds
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_fixtures_are_written_whole_and_loaded_or_refused_by_row(damage, kind, form, tmp_path) -> None:
    row = damage(kind)
    path = tmp_path / f"rows.{form}"
    with assert_vault_calls():
        call_command("dumpdata", "testapp.Legacy", format=form, output=str(path), verbosity=0)
    stored = raw()
    Legacy.objects.all().delete()
    if kind in {"moved", "no companion"}:
        with pytest.raises((KeyContextMismatch, ValueRefused), match=re.escape(named(row))):
            call_command("loaddata", str(path), verbosity=0)
    else:
        call_command("loaddata", str(path), verbosity=0)
        assert raw() == stored


def raw():
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, text, text_keys FROM testapp_legacy ORDER BY id")
        return cursor.fetchall()


@kinds
def test_a_fixture_in_xml_reads_the_values_and_says_which_row_it_is(damage, kind) -> None:
    row = damage(kind)
    with pytest.raises((DecryptionError, VaultRefused), match=re.escape(named(row))):
        serializers.serialize("xml", Legacy.objects.all())


# What counts values.


@vault_kinds
def test_counts_and_proofs_tell_of_values_elsewhere(damage, kind, organization) -> None:
    damage(kind)
    vault, name, value = vaults["default"], "organization_id", str(organization.pk)
    kek = vault.service.keks.get(name, value)
    assert sum(versions_in_use(vault, kek.id, places()).versions.values()) == 4
    report = prove_shredded(vault, name, value, places())
    assert (report.readable, report.elsewhere, report.broken) == (4, 1, 0)
    found = owner_counts(vault, name, value, places())["testapp.Legacy.text_keys"]
    assert (found.managed, found.unreadable) == (4, 0)


@pytest.mark.parametrize("kind", ["no companion", "nonsense", "altered", "truncated"])
def test_and_of_values_that_are_damaged(damage, kind, organization) -> None:
    damage(kind)
    vault, name, value = vaults["default"], "organization_id", str(organization.pk)
    report = prove_shredded(vault, name, value, places())
    assert (report.readable, report.broken) == (4, 1)


# Commands, from end to end.


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError) as raised:
        call_command(*arguments, stdout=out, stderr=err)
    return err.getvalue(), str(raised.value)


@vault_kinds
@pytest.mark.parametrize(
    "command", [("vault_rekey",), ("vault_rekey", "--rewrap"), ("vault_rekey", "--accept-moved"), ("vault_reencrypt",)]
)
def test_commands_name_the_row_and_deal_with_all_others(damage, kind, command) -> None:
    row = damage(kind)
    problems, end = run(command[0], "testapp.Legacy", *command[1:])
    assert problems.count("testapp.Legacy") == 1
    assert problems.startswith(f"{named(row)}: its keys are in the vault")
    assert end == "1 row was left alone."


@vault_kinds
def test_encrypting_the_rest_of_the_column_goes_round_it(damage, kind, execute, organization) -> None:
    row = damage(kind)
    sql = "INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, %s)"
    execute(sql, organization.pk, "in the clear")
    problems = []
    report = encrypt_column(TEXT, on_problem=problems.append)
    assert (report.written, problems) == (1, [])
    assert Legacy.objects.order_by("-pk").first().text == "in the clear"
    assert not try_open(Legacy.objects.get(pk=row.pk), "text")
