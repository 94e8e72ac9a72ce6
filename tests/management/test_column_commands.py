"""``vault_encrypt``, ``vault_rekey`` and ``vault_reencrypt``: arguments, reports and exit statuses."""

import io

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.testapp.models import Certificate, Document, Legacy, Letter, Organization, Patient
from vault_fields.exceptions import VaultUnavailable
from vault_fields.vaults import vaults


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=err)
    except CommandError as error:
        failure = error
    else:
        return out.getvalue(), err.getvalue(), None
    assert failure.returncode == 1
    return out.getvalue(), err.getvalue(), str(failure)


@pytest.fixture
def legacy(organization, execute):
    for number in range(5):
        execute(
            "INSERT INTO testapp_legacy (organization_id, text, data) VALUES (%s, %s, '[]')", organization.pk, number
        )


def test_encrypt_all_columns_that_are_migrating(legacy):
    out, err, error = run("vault_encrypt", "testapp.Legacy", "--batch-size", "2")
    assert (err, error) == ("", None)
    assert out.splitlines() == [
        "testapp.Legacy.text: encrypted 5 of 5 rows; the others needed nothing.",
        "testapp.Legacy.data: encrypted 5 of 5 rows; the others needed nothing.",
    ]
    assert run("vault_encrypt", "testapp.legacy", "text")[0] == (
        "testapp.Legacy.text: encrypted 0 of 5 rows; the others needed nothing.\n"
    )


def test_encrypt_one_column(legacy):
    run("vault_encrypt", "testapp.Legacy", "data")
    assert Legacy.objects.filter(data_keys=None).count() == 0
    assert Legacy.objects.filter(text_keys=None).count() == 5


def test_encrypt_says_that_there_is_nothing_to_encrypt(db):
    assert run("vault_encrypt", "testapp.Patient")[2] == (
        "testapp.Patient: no field is declared with migrating=True; nothing was done."
    )
    assert (
        "testapp.Patient.ssn is not declared with migrating=True" in run("vault_encrypt", "testapp.Patient", "ssn")[2]
    )


def test_encrypt_can_be_run_again_when_the_vault_is_back(legacy):
    with vaults["default"].fail_with(VaultUnavailable("Away.")):
        error = run("vault_encrypt", "testapp.Legacy")[2]
    assert "Away. What was written before stays; the command can be run again." in error
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
def test_arguments_that_mean_nothing(command, arguments, reason, db):
    assert reason in run(command, *arguments)[2]


def test_rekey_says_that_nothing_was_to_be_done(organization):
    Document.objects.create(organization=organization, body="x")
    out, err, error = run("vault_rekey", "testapp.Document")
    assert out.endswith("0 failed. Nothing was changed.\n")
    assert (err, error) == ("", None)


def test_rekey(organization):
    Document.objects.create(organization=organization, body="x")
    Organization.objects.update(workos_id="renamed")
    assert "1 would be rekeyed" in run("vault_rekey", "testapp.Document", "--dry-run")[0]
    assert "1 rekeyed" in run("vault_rekey", "testapp.Document", "body")[0]
    assert "0 rekeyed" in run("vault_rekey", "testapp.Document", "body")[0]
    assert Document.objects.get().body == "x"


def test_rekey_leaves_moved_rows_alone_and_says_so_by_its_exit_status(patient, other_organization):
    Patient.objects.update(organization=other_organization)
    for options in ([], ["--dry-run"]):
        out, err, error = run("vault_rekey", "testapp.Patient", "ssn", *options)
        assert "1 moved and left alone" in out
        assert err.startswith(f"testapp.Patient.ssn (pk={patient.pk}): organization_id of the row differs")
        assert error == "1 rows were left alone."
    out, err, error = run("vault_rekey", "testapp.Patient", "--accept-moved")
    assert (err, error) == ("", None)
    # Each of the model's three companions.
    assert out.count("1 re-encrypted, 0 moved") == 3
    assert Patient.objects.get().ssn == "123-45-6789"


def test_a_companion_that_two_fields_share_is_walked_once(organization):
    Letter.objects.create(organization=organization, subject="x", text=[])
    out, _, _ = run("vault_reencrypt", "testapp.Letter", "subject", "text")
    assert out == (
        "testapp.Letter.vault_keys: of 1 rows with encrypted values, 0 rekeyed, 1 re-encrypted, 0 moved and left "
        "alone, 0 failed.\n"
    )


def test_without_names_the_fields_in_the_tables_of_parents_are_left_to_them(organization):
    Certificate.objects.create(organization=organization, secret="s", chain="c")
    assert run("vault_reencrypt", "testapp.Certificate")[0].startswith("testapp.Certificate.chain_keys: of 1 rows")
    assert run("vault_reencrypt", "testapp.Certificate", "secret")[0].startswith(
        "testapp.ApiKey.secret_keys: of 1 rows"
    )
    assert run("vault_reencrypt", "testapp.ShortApiKey")[0].startswith("testapp.ApiKey.secret_keys: of 1 rows")


def test_reencrypting_nothing_is_a_failure(db):
    out, _, error = run("vault_reencrypt", "testapp.Document")
    assert "of 0 rows" in out
    assert error == "Nothing was re-encrypted: there is no encrypted value."


def test_reencrypt_reports_what_it_cannot_open(organization, execute):
    for body in ("x", "y"):
        Document.objects.create(organization=organization, body=body)
    execute("UPDATE testapp_document SET body_keys = NULL WHERE id = %s", Document.objects.earliest("pk").pk)
    out, err, error = run("vault_reencrypt", "testapp.Document")
    assert "1 re-encrypted, 0 moved and left alone, 1 failed." in out
    assert "its companion 'body_keys' is empty" in err
    assert error == "1 rows were left alone."
