"""What a field can be made of."""

import copy
import pickle

import pytest
from django.db import models

from vault_fields.fields import EncryptedJSONField, EncryptedTextField
from vault_fields.fields.base import EncryptedField


class OneWay(EncryptedField, models.CharField):
    def to_plaintext(self, value):
        return value


class BothWays(OneWay):
    def from_plaintext(self, text):
        return text


def test_field_without_its_two_methods_is_not_made() -> None:
    with pytest.raises(TypeError, match=r"^EncryptedField lacks to_plaintext\(\) and from_plaintext\(\)"):
        EncryptedField(key_context=["organization_id"])
    with pytest.raises(TypeError, match=r"^OneWay lacks from_plaintext\(\) and encrypts nothing"):
        OneWay(key_context=["organization_id"])


def test_field_that_has_both_is_made_and_copied() -> None:
    field = BothWays(key_context=["organization_id"])
    for twin in (copy.copy(field), copy.deepcopy(field), pickle.loads(pickle.dumps(EncryptedTextField))):
        assert twin


def test_types_in_brackets_are_for_type_checkers() -> None:
    assert EncryptedTextField[str, str] is EncryptedTextField
    assert EncryptedJSONField[dict, dict] is EncryptedJSONField
