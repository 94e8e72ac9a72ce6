"""Options of the column."""

import pytest
from django.db import models

from vault_fields.fields import BlindIndex, EncryptedTextField
from vault_fields.normalize import casefold


@pytest.mark.parametrize(
    "option", ["db_index", "unique_for_date", "unique_for_month", "unique_for_year", "primary_key"]
)
def test_e010_column_that_would_have_to_be_compared(lab, option) -> None:
    value = "born" if option.startswith("unique_for") else True
    lab.patient(born=models.DateField(), ssn=EncryptedTextField(key_context=["organization_id"], **{option: value}))
    message = lab.only()
    assert message.id == "vault_fields.E010"
    assert message.hint == f"Take {option} away."


def test_e010_names_all_options_at_once(lab) -> None:
    lab.patient(ssn=EncryptedTextField(key_context=["organization_id"], primary_key=True, db_index=True))
    assert lab.only().hint == "Take primary_key, db_index away."


def test_e011_default_that_would_stand_in_the_database(lab) -> None:
    lab.patient(ssn=EncryptedTextField(key_context=["organization_id"], db_default="078-05-1120"))
    message = lab.only()
    assert message.id == "vault_fields.E011"
    assert "078-05-1120" not in str(message)


def test_other_options_are_passed_over(lab) -> None:
    lab.patient(
        ssn=EncryptedTextField(
            key_context=["organization_id"], null=True, blank=True, default="", db_column="number", max_length=11
        ),
        number=EncryptedTextField(key_context=["organization_id"], unique=True),
    )
    assert lab.ids() == []


GROUPS = [("A", "A"), ("B", "B"), ("0", "0")]


def test_w031_index_over_choices(lab) -> None:
    index = [True, BlindIndex(name="folded", normalize=casefold)]
    lab.patient(ssn=EncryptedTextField(key_context=["organization_id"], index=index, choices=GROUPS))
    message = lab.only()
    assert message.id == "vault_fields.W031"
    assert "index 'ssn_index', 'ssn_folded_index' is over choices" in message.msg


def test_w031_choices_without_an_index(lab) -> None:
    lab.patient(ssn=EncryptedTextField(key_context=["organization_id"], choices=GROUPS))
    assert lab.ids() == []
