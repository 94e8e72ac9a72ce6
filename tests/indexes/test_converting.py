"""Columns that are encrypted, decrypted or imported by batches get and lose their hashes with their values."""

import pytest
from cryptography.fernet import Fernet
from django.test import override_settings

from tests.testapp.models import Contact, Organization
from vault_fields.importing import EncryptedModelFields
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.rows.imports import import_column, take_back_column

pytestmark = pytest.mark.django_db

KEY = Fernet.generate_key().decode()


@pytest.fixture
def tenant() -> Organization:
    return Organization.objects.create(workos_id="org_a")


def test_encrypting_writes_hashes_and_decrypting_removes_them(tenant, execute, monkeypatch) -> None:
    field = Contact._meta.get_field("ssn")
    monkeypatch.setattr(field, "migrating", True)
    contacts = [Contact.objects.create(organization=tenant) for _ in range(3)]
    for contact in contacts:
        execute("UPDATE testapp_contact SET ssn = %s WHERE id = %s", str(contact.pk), contact.pk)
    assert encrypt_column(field).written == 3
    assert Contact.objects.get(organization=tenant, ssn=str(contacts[1].pk)) == contacts[1]
    assert decrypt_column(field).written == 3
    assert not Contact.objects.exclude(ssn_index=None).exists()


def test_importing_writes_hashes_and_taking_back_removes_them(tenant) -> None:
    contact = Contact.objects.create(organization=tenant, plain=Fernet(KEY).encrypt(b"1").decode()[:100])
    field, reader = Contact._meta.get_field("ssn"), EncryptedModelFields()
    with override_settings(FIELD_ENCRYPTION_KEY=KEY):
        assert import_column(field, source="plain", reader=reader).written == 1
        assert Contact.objects.get(organization=tenant, ssn="1") == contact
        assert take_back_column(field, source="plain", reader=reader).written == 1
    contact.refresh_from_db()
    assert (contact.ssn, contact.ssn_index) == (None, None)
