"""Companions."""

import pytest
from django.db import models
from django.db.models import Value

from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField


def encrypted(*key_context, **options):
    return EncryptedTextField(key_context=list(key_context) or ["organization_id"], **options)


def test_automatic_declared_and_shared_companions_are_passed_over(lab) -> None:
    lab.patient(
        notes=encrypted(),
        notes_keys=CompanionField(),
        subject=encrypted(keys_field="vault_keys"),
        text=EncryptedJSONField(key_context=("organization_id",), keys_field="vault_keys"),
        vault_keys=CompanionField(),
    )
    assert lab.ids() == []


def test_e016_name_that_is_taken(lab) -> None:
    lab.patient(ssn_keys=models.TextField())
    message = lab.only()
    assert message.id == "vault_fields.E016"
    assert "keys_field='ssn_vault_keys'" in message.hint


def test_e017_companion_that_is_missing(lab) -> None:
    lab.patient(ssn=encrypted(keys_field="vault_keys"))
    message = lab.only()
    assert message.id == "vault_fields.E017"
    assert message.hint == "Write vault_keys = CompanionField() in testapp.Patient."


def test_e017_companion_that_is_none(lab) -> None:
    lab.patient(ssn=encrypted(keys_field="vault_keys"), vault_keys=models.TextField())
    message = lab.only()
    assert message.id == "vault_fields.E017"
    assert message.msg.endswith("which is not a CompanionField.")


def test_e017_companion_in_the_table_of_a_parent(lab) -> None:
    """Value and companion could not be written together."""
    base = lab.patient()
    lab.model("Inpatient", (base,), notes=encrypted(keys_field="ssn_keys"))
    message = lab.only()
    assert message.id == "vault_fields.E017"
    assert message.msg.endswith("which stands in a parent's table.")
    assert "in testapp.Inpatient" in message.hint


@pytest.mark.parametrize(
    ("options", "differing"),
    [
        ({"key_context": ["ward"]}, "key_context"),
        ({"key_context": {"organization_id": "organization_id", "purpose": Value("care")}}, "key_context"),
        ({"key_context": ["organization_id"], "vault": "other"}, "vault"),
        ({"key_context": ["ward"], "vault": "other"}, "key_context and vault"),
    ],
)
def test_e018_companion_shared_by_fields_that_differ(lab, options, differing) -> None:
    lab.patient(
        ward=models.IntegerField(),
        vault_keys=CompanionField(),
        ssn=encrypted(keys_field="vault_keys"),
        notes=EncryptedTextField(keys_field="vault_keys", **options),
    )
    message = lab.only()
    assert message.id == "vault_fields.E018"
    assert message.obj.name == "notes"
    assert f"but not its {differing}:" in message.msg


def test_w002_companion_that_nobody_uses(lab) -> None:
    lab.patient(vault_keys=CompanionField())
    message = lab.only()
    assert message.id == "vault_fields.W002"
    assert message.obj.name == "vault_keys"
