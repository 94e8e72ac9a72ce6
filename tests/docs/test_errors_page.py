"""The page on errors has every exception, and shows the messages that are really raised."""

import re
from pathlib import Path

import pytest
from django.db import transaction

from tests.testapp.models import Contact, Document, Organization, Patient
from vault_fields import exceptions
from vault_fields.exceptions import (
    DecryptionError,
    IndexKeyMissing,
    KeyContextError,
    KeyUnavailable,
    TenantUnknown,
    ValueRefused,
    VaultError,
    VaultUnavailable,
)
from vault_fields.fields.groups import group_of
from vault_fields.models import IndexKey
from vault_fields.rows.rekey import rekey_group
from vault_fields.vaults import vaults

PAGE = (Path(__file__).parent.parent.parent / "docs" / "errors.md").read_text("utf-8")


def test_the_tree_is_that_of_the_classes() -> None:
    tree = re.findall(r"^(?:([│├└ ─]*)[├└]── )?(\w+)", PAGE.partition("```text\n")[2].partition("```")[0], re.MULTILINE)
    path: list[str] = []
    shown = {}
    for prefix, name in tree:
        depth = 0 if name == "VaultFieldsError" else len(prefix) // 4 + 1
        shown[name] = path[depth - 1] if depth else "Exception"
        path[depth:] = [name]
    classes = {name: getattr(exceptions, name) for name in exceptions.__all__}
    assert shown == {name: cls.__bases__[0].__name__ for name, cls in classes.items()}


@pytest.mark.parametrize("name", sorted({*exceptions.__all__} - {"VaultFieldsError"}))
def test_every_exception_has_a_section(name) -> None:
    assert re.search(rf"^##+ `{name}`$", PAGE, re.MULTILINE)


def test_the_messages_are_those_that_are_raised(patient, other_organization, execute) -> None:
    vault, told = vaults["default"], set()

    def note(message) -> None:
        told.add(re.sub(r"pk=\d+", "pk=1", message.replace("testapp.", "clinic.")))

    def tell(kind, function) -> None:
        with pytest.raises(kind) as caught, transaction.atomic():
            function()
        note(str(caught.value))

    def read():
        return Patient.objects.get(pk=patient.pk).ssn

    loaded = Patient.objects.get(pk=patient.pk)
    assert loaded.ssn
    text, keys, owner = loaded.__dict__["ssn"].text, loaded.ssn_keys, loaded.organization
    other = Patient.objects.create(organization=owner, ssn="other")

    def put(text, keys, organization) -> None:
        execute(
            "UPDATE testapp_patient SET ssn = %s, ssn_keys = %s, organization_id = %s WHERE id = %s",
            *(text, keys, organization.pk, patient.pk),
        )

    def move_half() -> None:
        row = Patient.objects.get(pk=patient.pk)
        row.organization, row.ssn = other_organization, "new"
        row.save(update_fields=["ssn"])

    tell(KeyContextError, Patient(ssn="x").save)
    tell(KeyContextError, move_half)
    tell(ValueRefused, Patient(organization=owner, ssn="$vf$1$").save)
    for stored in (
        (text[:-8] + "AAAA" + text[-4:], keys, owner),
        (text, keys.replace('"vault":"default"', '"vault":"gone"'), owner),
        (text[:-3], keys, owner),
        (text, None, owner),
        (text, other.ssn_keys, owner),
        (text, keys, other_organization),
        ("plaintext", keys, owner),
    ):
        put(*stored)
        tell(DecryptionError, read)
    put(text, keys, owner)
    vault.purge()
    with vault.fail_with(VaultUnavailable("no answer before the deadline.", alias="default")):
        tell(VaultError, read)
    away = "The customer key for the context item 'organization_id': "
    away += "AWS KMS cannot be asked (ConnectTimeoutError)."
    with vault.fail_with(KeyUnavailable(away, alias="default")):
        tell(KeyUnavailable, read)
    vault.revoke("organization_id", str(owner.pk))
    tell(VaultError, read)
    vault.restore("organization_id", str(owner.pk))
    encrypted_keys = re.search(r'"keys":"([^"]+)"', keys)[1]
    put(text, keys.replace(encrypted_keys, "AAAA" + encrypted_keys[4:]), owner)
    tell(VaultError, read)
    put(text, keys, owner)

    Document.objects.create(organization=Organization.objects.create(workos_id="org_acme"), body="text")
    Organization.objects.filter(workos_id="org_acme").update(workos_id="org_bolt")
    rekey_group(group_of(Document._meta.get_field("body")), on_problem=note)

    indexed = Contact.objects.create(organization=owner, ssn="1")
    IndexKey.objects.all().delete()
    with pytest.raises(IndexKeyMissing) as caught, transaction.atomic():
        Contact.objects.create(organization=owner, ssn="2")
    note(str(caught.value).replace("Contact", "Patient"))
    assert indexed.pk
    with pytest.raises(TenantUnknown) as caught:
        Contact.objects.filter(ssn="1").exists()
    note(str(caught.value).replace("Contact", "Patient"))

    shown = {line for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[1:] for line in block.splitlines()}
    assert shown == told
