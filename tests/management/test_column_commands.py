"""``vault_encrypt``, ``vault_rekey`` and ``vault_reencrypt``: arguments, reports and exit statuses."""

import io
from typing import Never

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections

from tests.testapp.models import Certificate, Document, Legacy, Letter, Organization, Patient
from vault_fields.exceptions import VaultRefused, VaultUnavailable
from vault_fields.rows.walk import StoredRows
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=err)
    except CommandError as error:
        failure = error
    else:
        return out.getvalue(), err.getvalue(), None
    assert failure.returncode == (130 if "Interrupted" in str(failure) else 1)
    return out.getvalue(), err.getvalue(), str(failure)


@pytest.fixture
def legacy(organization, execute) -> None:
    for number in range(5):
        execute(
            "INSERT INTO testapp_legacy (organization_id, text, data) VALUES (%s, %s, '[]')", organization.pk, number
        )


def test_encrypt_all_columns_that_are_migrating(legacy) -> None:
    out, err, error = run("vault_encrypt", "testapp.Legacy", "--batch-size", "2")
    assert (err, error) == ("", None)
    assert out.splitlines() == [
        "testapp.Legacy.text: encrypted 5 of 5 rows; the others needed nothing.",
        "testapp.Legacy.data: encrypted 5 of 5 rows; the others needed nothing.",
    ]
    assert run("vault_encrypt", "testapp.legacy", "text")[0] == (
        "testapp.Legacy.text: encrypted 0 of 5 rows; the others needed nothing.\n"
    )


def test_encrypt_one_column(legacy) -> None:
    run("vault_encrypt", "testapp.Legacy", "data")
    assert Legacy.objects.filter(data_keys=None).count() == 0
    assert Legacy.objects.filter(text_keys=None).count() == 5


def test_encrypt_says_that_there_is_nothing_to_encrypt(db) -> None:
    assert run("vault_encrypt", "testapp.Patient")[2] == (
        "testapp.Patient: no field is declared with migrating=True; nothing was done."
    )
    assert (
        "testapp.Patient.ssn is not declared with migrating=True" in run("vault_encrypt", "testapp.Patient", "ssn")[2]
    )


def test_encrypt_can_be_run_again_when_the_vault_is_back(legacy) -> None:
    with vaults["default"].fail_with(VaultUnavailable("Away.")):
        error = run("vault_encrypt", "testapp.Legacy")[2]
    assert "Away. Rows written before stay written; the command can be run again." in error
    assert run("vault_encrypt", "testapp.Legacy")[2] is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing"], "A model is written as app_label.Model, not 'nothing'."),
        (["nothing.Patient"], "No installed app with label 'nothing'"),
        (["testapp.Nothing"], "doesn't have a 'Nothing' model"),
        (["testapp.Patient", "nothing"], "has no field named 'nothing'"),
        (["testapp.Patient", "ssn", "name"], "testapp.Patient: not encrypted: name."),
        (["testapp.Organization"], "testapp.Organization has no encrypted field in its own table."),
        (["testapp.Patient", "--batch-size", "0"], "--batch-size: must be a whole number of at least 1."),
        (["testapp.Patient", "--batch-size", "many"], "--batch-size: must be a whole number of at least 1."),
        (["testapp.Patient", "--database", "nowhere"], "--database"),
    ],
)
@pytest.mark.parametrize("command", ["vault_encrypt", "vault_rekey", "vault_reencrypt"])
def test_arguments_that_mean_nothing(command, arguments, reason, db) -> None:
    assert reason in run(command, *arguments)[2]


def test_rekey_says_that_nothing_was_to_be_done(organization) -> None:
    Document.objects.create(organization=organization, body="x")
    out, err, error = run("vault_rekey", "testapp.Document")
    assert out.endswith("0 failed. Nothing was changed.\n")
    assert (err, error) == ("", None)


def test_rekey(organization) -> None:
    Document.objects.create(organization=organization, body="x")
    Organization.objects.update(workos_id="renamed")
    accepted = ["testapp.Document", "--accept-redirected"]
    assert "1 would be rekeyed" in run("vault_rekey", *accepted, "--dry-run")[0]
    assert "1 rekeyed" in run("vault_rekey", *accepted)[0]
    assert "0 rekeyed" in run("vault_rekey", "testapp.Document", "body")[0]
    assert Document.objects.get().body == "x"


def test_rekey_leaves_moved_rows_alone_and_says_so_by_its_exit_status(patient, other_organization, move) -> None:
    move(Patient, other_organization)
    for options in ([], ["--dry-run"]):
        out, err, error = run("vault_rekey", "testapp.Patient", "ssn", *options)
        assert "1 moved and left alone" in out
        assert err.startswith(f"testapp.Patient.ssn (pk={patient.pk}): organization_id of the row differs")
        assert error == "1 row was left alone."
    out, err, error = run("vault_rekey", "testapp.Patient", "--accept-moved")
    assert (err, error) == ("", None)
    # Each of the model's three companions.
    assert out.count("1 re-encrypted, 0 moved") == 3
    assert Patient.objects.get().ssn == "123-45-6789"


def test_rekey_leaves_redirected_rows_alone_and_says_so_by_its_exit_status(organization) -> None:
    document = Document.objects.create(organization=organization, body="x")
    Organization.objects.update(workos_id="renamed")
    for options in ([], ["--dry-run"], ["--rewrap"], ["--accept-moved"]):
        with assert_vault_calls():
            out, err, error = run("vault_rekey", "testapp.Document", *options)
        assert "0 moved and left alone, 1 redirected and left alone, 0 failed." in out
        assert err == (
            f"testapp.Document.body (pk={document.pk}): the columns of the row are those of the value, and lead to "
            "another key context: organization_id is 'renamed' now, and was 'org_1'. If what lies behind them was "
            "changed on purpose, or the declaration, run `manage.py vault_rekey testapp.Document --accept-redirected`; "
            "otherwise somebody wants another tenant's keys to open it.\n"
        )
        assert error == "1 row was left alone."
    assert "1 redirected and left alone" in run("vault_reencrypt", "testapp.Document")[0]


def test_a_companion_that_two_fields_share_is_walked_once(organization) -> None:
    Letter.objects.create(organization=organization, subject="x", text=[])
    out, _, _ = run("vault_reencrypt", "testapp.Letter", "subject", "text")
    assert out == (
        "testapp.Letter.vault_keys: of 1 row with encrypted values, 0 rekeyed, 1 re-encrypted, 0 moved and left "
        "alone, 0 redirected and left alone, 0 failed.\n"
    )


def test_without_names_the_fields_in_the_tables_of_parents_are_left_to_them(organization) -> None:
    Certificate.objects.create(organization=organization, secret="s", chain="c")
    assert run("vault_reencrypt", "testapp.Certificate")[0].startswith("testapp.Certificate.chain_keys: of 1 row")
    assert run("vault_reencrypt", "testapp.Certificate", "secret")[0].startswith("testapp.ApiKey.secret_keys: of 1 row")
    assert run("vault_reencrypt", "testapp.ShortApiKey")[0].startswith("testapp.ApiKey.secret_keys: of 1 row")


def test_reencrypting_nothing_is_a_failure(db) -> None:
    out, _, error = run("vault_reencrypt", "testapp.Document")
    assert "of 0 rows" in out
    assert error == "Nothing was re-encrypted: there is no encrypted value."


def test_reencrypt_reports_what_it_cannot_open(organization, execute) -> None:
    for body in ("x", "y"):
        Document.objects.create(organization=organization, body=body)
    execute("UPDATE testapp_document SET body_keys = NULL WHERE id = %s", Document.objects.earliest("pk").pk)
    out, err, error = run("vault_reencrypt", "testapp.Document")
    assert "1 re-encrypted, 0 moved and left alone, 0 redirected and left alone, 1 failed." in out
    assert "its companion 'body_keys' is empty" in err
    assert error == "1 row was left alone."


COMMANDS = ["vault_encrypt", "vault_rekey", "vault_reencrypt", "vault_decrypt"]


def test_all_models_of_the_project(legacy, organization) -> None:
    document = Document.objects.create(organization=organization, body="x")
    Letter.objects.create(organization=organization, subject="x", text=[])
    out, err, error = run("vault_encrypt", "--all")
    assert (err, error) == ("", None)
    assert [line.partition(":")[0] for line in out.splitlines()] == ["testapp.Legacy.text", "testapp.Legacy.data"]
    Organization.objects.update(workos_id="renamed")
    out, err, error = run("vault_rekey", "--all", "--accept-redirected")
    assert (err, error) == ("", None)
    assert "testapp.Document.body_keys: of 1 row with encrypted values, 1 rekeyed" in out
    assert out.count("testapp.Letter.vault_keys: ") == 1
    assert Document.objects.get(pk=document.pk).body == "x"
    out, err, error = run("vault_reencrypt", "--all", "--database", "default")
    assert (err, error) == ("", None)
    assert out.count(" 5 re-encrypted") == 2
    assert out.count(" 1 re-encrypted") == 2


def test_all_databases_by_the_routers(legacy, settings) -> None:
    settings.DATABASE_ROUTERS = [Nowhere()]
    assert run("vault_encrypt", "--all")[2] == (
        "All models: no field is declared with migrating=True; nothing was done."
    )


class Nowhere:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return app_label != "testapp"


def test_the_report_names_the_database_where_there_are_several(legacy, monkeypatch) -> None:
    monkeypatch.setitem(connections.settings, "other", connections.settings["default"])
    assert run("vault_encrypt", "testapp.Legacy", "text")[0].startswith("[default] testapp.Legacy.text: encrypted 5 ")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_or_all(command, db) -> None:
    assert run(command)[2] == "Name a model as app_label.Model, or write --all."
    assert run(command, "testapp.Legacy", "--all")[2] == (
        "--all is all models: leave testapp.Legacy out, or leave out --all."
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interruption_ends_in_words(command, legacy, monkeypatch) -> None:
    def interrupt(self, size) -> Never:
        raise KeyboardInterrupt

    monkeypatch.setattr(StoredRows, "batches", interrupt)
    assert run(command, "testapp.Legacy")[2] == (
        "Interrupted. Rows written before stay written; the command can be run again."
    )


def test_rows_are_counted_once_however_many_companions_they_have(patient, other_organization, move) -> None:
    move(Patient, other_organization)
    out, _, error = run("vault_rekey", "testapp.Patient")
    assert out.count("1 moved and left alone") == 3
    assert error == "1 row was left alone."


@pytest.fixture
def mixed(legacy, organization, execute):
    """Five rows that can be encrypted, and some that cannot."""
    insert = "INSERT INTO testapp_legacy (organization_id, text, data) VALUES (%s, %s, %s)"
    execute(insert, organization.pk, "$vf$1$typed$by a user", "[]")
    execute(insert, organization.pk, None, "{not JSON")
    execute(insert, organization.pk, "fine", '"$vf$1$typed$by a user"')
    execute(insert, organization.pk, "$vf$7$", '"\\ud800"')
    return list(Legacy.objects.order_by("pk").values_list("pk", flat=True))[5:]


def test_what_cannot_be_encrypted_is_told_beforehand_and_left_alone(mixed, execute) -> None:
    typed, broken, quoted, surrogate = mixed
    with assert_vault_calls():
        dry, told, error = run("vault_encrypt", "testapp.Legacy", "--dry-run")
    text, data = dry.splitlines()
    assert text == (
        f"testapp.Legacy.text: would be encrypted: 6 of 9 rows; 2 were left alone (pk={typed}, {surrogate}), the "
        "others needed nothing."
    )
    assert data == (
        "testapp.Legacy.data: would be encrypted: 6 of 9 rows; 3 were left alone "
        f"(pk={quoted}, {broken}, {surrogate}), the others needed nothing."
    )
    assert told.count("begins like an encrypted one, but") == 3
    assert f"testapp.Legacy.data (pk={broken}): the value is not JSON" in told
    assert f"testapp.Legacy.data (pk={surrogate}): the value is refused: it holds a lone surrogate" in told
    assert error == "4 rows were left alone."
    assert Legacy.objects.filter(text_keys=None, data_keys=None).count() == 9

    out, again, error = run("vault_encrypt", "testapp.Legacy")
    assert (again, error) == (told, "4 rows were left alone.")
    assert out == dry.replace("would be encrypted:", "encrypted")
    assert Legacy.objects.exclude(text_keys=None).count() == 6
    assert Legacy.objects.exclude(data_keys=None).count() == 6
    assert Legacy.objects.get(pk=quoted).text == "fine"
    for pk in mixed:
        execute("UPDATE testapp_legacy SET text = 'mended', data = '[]' WHERE id = %s", pk)
    assert run("vault_encrypt", "testapp.Legacy")[1:] == ("", None)


def test_a_tenant_whose_key_is_refused_is_asked_for_once(legacy, other_organization, execute) -> None:
    for _ in range(3):
        execute("INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, 'x')", other_organization.pk)
    create = vaults["default"].create_data_key
    asked = []

    def refuse(context):
        asked.append(context)
        if context["organization_id"] == str(other_organization.pk):
            raise VaultRefused("Not yours.")
        return create(context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vaults["default"], "create_data_key", refuse)
        out, told, error = run("vault_encrypt", "testapp.Legacy", "text")
    assert told.count("Not yours.") == 3
    assert error == "3 rows were left alone."
    assert "encrypted 5 of 8 rows" in out
    assert len([context for context in asked if context["organization_id"] == str(other_organization.pk)]) == 1


def test_decrypt_reports_what_it_leaves_alone(legacy, execute) -> None:
    run("vault_encrypt", "--all")
    pk = Legacy.objects.earliest("pk").pk
    execute("UPDATE testapp_legacy SET text_keys = NULL WHERE id = %s", pk)
    out, told, error = run("vault_decrypt", "--all")
    assert out.splitlines()[0] == (
        f"testapp.Legacy.text: decrypted 4 of 5 rows; 1 was left alone (pk={pk}), the others needed nothing."
    )
    assert "its companion 'text_keys' is empty" in told
    assert error == "1 row was left alone."
    assert "testapp.Patient.ssn" in run("vault_decrypt", "testapp.Patient", "ssn")[2]


@pytest.mark.django_db(transaction=True)
def test_a_table_without_its_migrations_is_told_in_one_sentence(monkeypatch) -> None:
    monkeypatch.setattr(Legacy._meta, "db_table", "testapp_nowhere")
    _, _, error = run("vault_encrypt", "testapp.Legacy")
    assert error.startswith("The database: ")
    assert "testapp_nowhere" in error
    assert error.endswith("Are all migrations applied? Rows written before stay written; the command can be run again.")
    assert "\n" not in error
