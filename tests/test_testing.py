"""The helpers for other projects' tests."""

from typing import Never

import pytest
from django.utils.module_loading import import_string

from tests.testapp.models import Patient, Typed
from vault_fields.fields import EncryptedJSONField, EncryptedTextField
from vault_fields.keys import KeyContext
from vault_fields.testing import BAKER_GENERATORS, assert_vault_calls, capture_vault_calls
from vault_fields.vaults import vaults

CONTEXT = KeyContext({"tenant": "a"})


def test_calls_are_counted_by_kind_also_if_the_block_fails() -> None:
    def work() -> Never:
        key = vaults["default"].create_data_key(CONTEXT)
        vaults["default"].rekey_data_key(key.encrypted_keys, CONTEXT)
        raise RuntimeError

    with pytest.raises(RuntimeError), capture_vault_calls() as calls:
        work()
    assert calls == {"create": 1, "rekey": 1}


def test_a_cold_block_starts_without_opened_keys() -> None:
    key = vaults["default"].create_data_key(CONTEXT)
    with assert_vault_calls():
        vaults["default"].decrypt_data_key(key.encrypted_keys)
    with assert_vault_calls(decrypt=1, cold=True):
        vaults["default"].decrypt_data_key(key.encrypted_keys)


def test_another_number_of_calls_is_a_failure_that_shows_both() -> None:
    expected = r"Vault calls to 'default': expected .*'create': 2.*, got .*'create': 1"
    with pytest.raises(AssertionError, match=expected), assert_vault_calls(create=2):
        vaults["default"].create_data_key(CONTEXT)


def test_generators_give_what_fields_take(organization) -> None:
    generators = {import_string(field): import_string(generator) for field, generator in BAKER_GENERATORS.items()}

    def made():
        row = Patient(organization=organization)
        for field in Patient._meta.concrete_fields:
            if type(field) in generators:
                setattr(row, field.attname, generators[type(field)]())
        row.save()
        return row.ssn, row.notes, row.history["sample"]

    assert len({*made(), *made()}) == 6
    assert Patient.objects.exclude(ssn=None).exclude(ssn_keys=None).count() == 2


@pytest.mark.parametrize("zones", [True, False])
def test_generators_give_values_of_each_type(organization, settings, zones) -> None:
    settings.USE_TZ = zones
    generators = {import_string(field): import_string(generator) for field, generator in BAKER_GENERATORS.items()}
    columns = [column for column in Typed._meta.concrete_fields if type(column) in generators]
    values = {column.attname: generators[type(column)]() for column in columns}
    row = Typed.objects.create(organization=organization, **values)
    row.full_clean()
    loaded = Typed.objects.get(pk=row.pk)
    typed = {name: value for name, value in values.items() if value is not None}
    assert {name: getattr(loaded, name) for name in typed} == typed
    assert {type(column) for column in columns} >= {*generators} - {EncryptedJSONField, EncryptedTextField}
