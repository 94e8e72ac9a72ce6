"""A data key that no longer opens does not stand in the way of a new value."""

import pytest
from django.db import transaction

from tests.testapp.models import Letter, Patient
from vault_fields.exceptions import DecryptionError, VaultRefused, VaultUnavailable
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


def spoil(execute, table, column) -> None:
    """Let the encrypted keys of all rows be none that the Vault knows."""
    execute(f'UPDATE {table} SET {column} = REPLACE({column}, \'"keys":"\', \'"keys":"AAAA\')')
    vaults["default"].purge()


@pytest.fixture
def dead_patient(patient, execute):
    spoil(execute, "testapp_patient", "ssn_keys")
    return Patient.objects.get()


@pytest.fixture
def dead_letter(organization, execute):
    Letter.objects.create(organization=organization, subject="s", text=[1])
    spoil(execute, "testapp_letter", "vault_keys")
    return Letter.objects.get()


@pytest.mark.parametrize("save", [
    lambda row: row.save(),
    lambda row: row.save(update_fields=["ssn"]),
    lambda row: Patient.objects.bulk_update([row], ["ssn"]),
], ids=["save", "update_fields", "bulk_update"])  # fmt: skip
def test_a_value_whose_key_does_not_open_can_be_replaced(dead_patient, save) -> None:
    with pytest.raises(VaultRefused):
        dead_patient.ssn  # noqa: B018
    dead_patient.ssn = "new"
    save(dead_patient)
    assert Patient.objects.get().ssn == "new"


def test_it_can_be_replaced_by_nothing(dead_patient) -> None:
    dead_patient.ssn = None
    dead_patient.save()
    assert Patient.objects.get().ssn is None


def test_an_unchanged_row_is_saved_without_its_key(dead_patient, stored) -> None:
    before = stored(dead_patient, "ssn", "ssn_keys")
    dead_patient.name = "Grace"
    with assert_vault_calls():
        dead_patient.save()
    assert stored(dead_patient, "ssn", "ssn_keys") == before


def test_all_values_that_share_a_dead_key_get_a_fresh_one_together(dead_letter, stored) -> None:
    dead_letter.subject, dead_letter.text = "new", [2]
    dead_letter.save()
    loaded = Letter.objects.get()
    assert (loaded.subject, loaded.text) == ("new", [2])
    dead_letter.subject = None
    dead_letter.save(update_fields=["subject", "text"])
    assert (Letter.objects.get().subject, Letter.objects.get().text) == (None, [2])


@pytest.mark.parametrize("save", [
    lambda row: row.save(),
    lambda row: row.save(update_fields=["subject"]),
    lambda row: Letter.objects.bulk_update([row], ["subject"]),
], ids=["save", "update_fields", "bulk_update"])  # fmt: skip
def test_a_sibling_that_needs_the_dead_key_is_named(dead_letter, stored, save) -> None:
    before = stored(dead_letter, "subject", "text", "vault_keys")
    dead_letter.subject = "new"
    with (
        pytest.raises(VaultRefused, match=r"testapp.Letter.subject \(pk=\d+\): .*text of the same row"),
        transaction.atomic(),
    ):
        save(dead_letter)
    assert stored(dead_letter, "subject", "text", "vault_keys") == before


def test_a_proof_that_does_not_hold_is_a_dead_key_too(patient, execute, stored) -> None:
    other = Patient.objects.create(organization_id=Patient.objects.get().organization_id, ssn="other")
    theirs = companion.decode(stored(other, "ssn_keys")[0])
    ours = companion.decode(stored(patient, "ssn_keys")[0])
    from dataclasses import replace

    execute("UPDATE testapp_patient SET ssn_keys = %s WHERE id = %s",
            companion.encode(replace(ours, encrypted_keys=theirs.encrypted_keys)), patient.pk)  # fmt: skip
    row = Patient.objects.get(pk=patient.pk)
    with pytest.raises(DecryptionError):
        row.ssn  # noqa: B018
    row.ssn = "new"
    row.save()
    assert Patient.objects.get(pk=patient.pk).ssn == "new"


def test_a_vault_that_is_away_is_not_a_dead_key(patient) -> None:
    row = Patient.objects.get()
    row.ssn = "new"
    vaults["default"].purge()
    with vaults["default"].fail_with(VaultUnavailable("down")), pytest.raises(VaultUnavailable), transaction.atomic():
        row.save()
