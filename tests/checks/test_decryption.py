"""Fields that are made plain, against the migrations of a project on disk."""

import pytest
from django.db import models

from vault_fields.checks.decryption import check_losses
from vault_fields.fields import EncryptedTextField

CREATE = """
migrations.CreateModel("Patient", [
    ("id", models.BigAutoField(primary_key=True)),
    ("organization_id", models.IntegerField()),
    ("note", models.TextField(default="")),
    ("ssn", EncryptedTextField(key_context=["organization_id"])),
    ("ssn_keys", CompanionField()),
])
"""
PLAIN = 'migrations.AlterField("patient", "ssn", models.TextField())'
WITHOUT_KEYS = 'migrations.RemoveField("patient", "ssn_keys")'
ENCRYPTED = 'migrations.AlterField("patient", "ssn", EncryptedTextField(key_context=["organization_id"]))'
REMADE_FIELD = f'migrations.RemoveField("patient", "ssn"), {ENCRYPTED.replace("AlterField", "AddField")}'
RENAMED_MODEL = 'migrations.RenameModel("Patient", "Person")'
RENAMED_FIELD = """
migrations.RenameField("patient", "ssn", "number"), migrations.RenameField("patient", "ssn_keys", "number_keys")
"""


def separately(database="", state="") -> str:
    return f"migrations.SeparateDatabaseAndState([{database}], [{state}])"


def check(project, lab, *operations):
    project.migration("0001_initial", CREATE)
    for number, operation in enumerate(operations, start=2):
        project.migration(f"{number:04}", operation, after=[f"{number - 1:04}" if number > 2 else "0001_initial"])
    lab.patient(ssn=models.TextField())
    return check_losses(lab.apps.get_app_configs())


@pytest.mark.parametrize("operations", [
    [PLAIN],
    [WITHOUT_KEYS],
    [f"{WITHOUT_KEYS}, {PLAIN}"],
    ['DecryptField("patient", "ssn")', ENCRYPTED, PLAIN],
    ['DecryptField("patient", "ssn")', 'EncryptField("patient", "ssn")', PLAIN],
    ['DecryptField("patient", "note")', PLAIN],
    ["migrations.RunPython(migrations.RunPython.noop)", PLAIN],
    ['DecryptField("patient", "ssn")', REMADE_FIELD, PLAIN],
    [separately(state=f"{WITHOUT_KEYS}, {PLAIN}")],
    [separately(PLAIN)],
    [separately(PLAIN, PLAIN)],
    [separately(state=separately(state=PLAIN))],
    [separately(), PLAIN],
    [separately('DecryptField("patient", "ssn"), EncryptField("patient", "ssn")'), PLAIN],
    [f'migrations.AlterModelOptions("patient", {{"managed": False}}), {PLAIN}'],
    ['DecryptField("patient", "ssn")', f'migrations.DeleteModel("Patient"), {CREATE}', PLAIN],
])  # fmt: skip
def test_e028_field_that_is_made_plain_undecrypted(project, lab, operations) -> None:
    found = [message for message in check(project, lab, *operations) if message.id == "vault_fields.E028"]
    (message,) = found
    assert message.obj == "testapp.Patient"
    assert "nothing decrypts testapp.Patient.ssn before" in message.msg
    assert message.hint.startswith('Write DecryptField("patient", "ssn"), of vault_fields.operations')


@pytest.mark.parametrize("operations", [
    ['DecryptField("patient", "ssn")', PLAIN, WITHOUT_KEYS],
    [f'DecryptField("patient", "ssn"), {WITHOUT_KEYS}, {PLAIN}'],
    ['DecryptField("patient", "ssn")', RENAMED_MODEL, PLAIN.replace("patient", "person")],
    ['DecryptField("patient", "ssn")', RENAMED_FIELD, PLAIN.replace("ssn", "number")],
    ["migrations.RunPython(print)", PLAIN],
    [separately("migrations.RunPython(print)"), PLAIN],
    [separately("migrations.RunPython(print)", PLAIN)],
    [separately('DecryptField("patient", "ssn")', f"{WITHOUT_KEYS}, {PLAIN}")],
    [separately(state=f'{PLAIN}, {WITHOUT_KEYS}, migrations.RemoveField("patient", "ssn")')],
    [separately(state=f'migrations.DeleteModel("Patient"), {CREATE.strip()}')],
    ['migrations.RunSQL("UPDATE testapp_patient SET ssn = NULL")', PLAIN],
    [f'{WITHOUT_KEYS}, migrations.RemoveField("patient", "ssn")'],
    ['migrations.DeleteModel("Patient")'],
    ['migrations.AlterField("patient", "note", models.TextField())'],
])  # fmt: skip
def test_e028_is_silent_where_nothing_is_lost(project, lab, operations) -> None:
    assert [message.id for message in check(project, lab, *operations) if message.id == "vault_fields.E028"] == []


def test_w010_field_that_the_migrations_have_encrypted(project, lab) -> None:
    (message,) = check(project, lab)
    assert message.id == "vault_fields.W010"
    assert message.obj.name == "ssn"
    assert 'DecryptField("patient", "ssn")' in message.hint


def test_w010_is_silent_for_what_is_encrypted_or_was_never(project, lab) -> None:
    project.migration("0001_initial", CREATE)
    lab.patient(ssn=EncryptedTextField(key_context=["organization_id"]), note=models.TextField())
    lab.model("Unknown", note=models.TextField())
    assert check_losses(lab.apps.get_app_configs()) == []


def test_migrations_that_cannot_be_read_are_another_checks_affair(project, lab) -> None:
    project.migration("0001_initial", CREATE, after=["0000_missing"])
    assert check_losses(lab.apps.get_app_configs()) == []


def test_a_whole_project_is_checked() -> None:
    assert [message.id for message in check_losses(None)] == []
