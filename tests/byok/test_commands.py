"""``vault_byok`` and ``vault_rekey --rewrap``: what they say and what they refuse."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.byok.conftest import ROOT_KEY
from tests.keystores import make_keystore
from tests.testapp.models import Document, Organization, Patient
from vault_fields.audit.owners import OBJECTS, owner_counts
from vault_fields.audit.places import places
from vault_fields.backends.local import LocalVault
from vault_fields.byok.keyfile import KeyFile
from vault_fields.embedded.objects import StoredObjects
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def vault(settings, tmp_path: Path) -> Iterator[LocalVault]:
    hosted = {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": {"api_key": "sk_x"}}
    local = {
        "BACKEND": "vault_fields.backends.local.LocalVault",
        "OPTIONS": {"path": tmp_path / "vault.sqlite3", "root_key": ROOT_KEY},
    }
    make_keystore(tmp_path / "vault.sqlite3", ROOT_KEY)
    settings.VAULTS = {"default": local, "hosted": hosted}
    vault = vaults["default"]
    assert isinstance(vault, LocalVault)
    yield vault
    vaults.reset()


def byok(*arguments: str) -> str:
    out = io.StringIO()
    call_command("vault_byok", *arguments, stdout=out)
    return out.getvalue()


def configure(item: str, path: Path) -> str:
    return byok("configure", item, "--provider", "file", "--set", f"path={path}")


def test_life_by_command(organization: Organization, key_file: Path) -> None:
    item = f"organization_id={organization.pk}"
    old = Patient.objects.create(organization=organization, ssn="123-45-6789", history=[1])
    assert byok("list") == "No customer key.\n"

    assert configure(item, key_file).startswith(f"{item}: configured file path={key_file} (id ")
    assert ": verified file" in byok("verify", item)
    assert ": active file" in byok("activate", item)
    new = Patient.objects.create(organization=organization, ssn="123-45-6780", notes="n")
    status = byok("status", item)
    assert (
        "testapp.Patient.ssn_keys: 1 under the managed key, 1 under a customer's key, 1 of these unverified\n" in status
    )
    assert "testapp.Patient.history_keys: 2 under" in status or "testapp.Patient.history_keys: 1 under" in status
    assert "testapp.Document.body_keys: 0 under the managed key, 0 under a customer's key\n" in status
    assert "stored objects: 0 under the managed key, 0 under a customer's key\n" in status

    call_command("vault_rekey", "testapp.Patient", "--rewrap", stdout=io.StringIO())
    status = byok("status", item, "--database", "default")
    assert (
        "testapp.Patient.ssn_keys: 0 under the managed key, 2 under a customer's key, 2 of these unverified\n" in status
    )
    assert ": disabled file" in byok("disable", item)
    assert ": active file" in byok("enable", item)
    assert {Patient.objects.get(pk=each.pk).ssn for each in (old, new)} == {"123-45-6789", "123-45-6780"}

    with pytest.raises(CommandError, match="become unreadable for ever"):
        byok("delete", item)
    assert byok("delete", item, "--make-data-unreadable") == f"{item}: deleted.\n"
    assert ": deleted file" in byok("list")
    assert byok("status", item).startswith("No customer key.\n")


def test_status_asks_no_provider(organization: Organization, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody but the customer's key could verify is counted for whom it claims."""
    item = f"organization_id={organization.pk}"
    Patient.objects.create(organization=organization, ssn="1")
    configure(item, key_file)
    byok("verify", item)
    byok("activate", item)
    Patient.objects.create(organization=organization, ssn="2")
    vaults["default"].purge()
    for name in ("wrap", "unwrap"):
        monkeypatch.delattr(KeyFile, name)

    told = "testapp.Patient.ssn_keys: 1 under the managed key, 1 under a customer's key, 1 of these unverified\n"
    assert told in byok("status", item)


def test_data_are_given_back_and_none_is_lost(vault: LocalVault, organization: Organization, key_file: Path) -> None:
    """In the steps of the page, with a row and an object."""
    item = f"organization_id={organization.pk}"
    Patient.objects.create(organization=organization, ssn="before")
    configure(item, key_file)
    byok("verify", item)
    byok("activate", item)
    patient = Patient.objects.create(organization=organization, ssn="123-45-6789", notes="n", history=[1])
    objects = StoredObjects(vault.service)
    made = objects.create("name", "value", {"organization_id": str(organization.pk)})

    byok("deactivate", item)
    call_command("vault_rekey", "testapp.Patient", "--rewrap", stdout=io.StringIO())
    assert objects.rewrap() == 1
    _, *counts = byok("status", item).splitlines()
    assert len(counts) > 3
    assert all(line.endswith(", 0 under a customer's key") for line in counts)
    byok("delete", item, "--make-data-unreadable")

    vault.purge()
    read = Patient.objects.get(pk=patient.pk)
    assert (read.ssn, read.notes, read.history) == ("123-45-6789", "n", [1])
    assert objects.read(made.id).value == "value"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify"], "verify needs the context item"),
        (["verify", "organization_id"], "A context item is written NAME=VALUE"),
        (["verify", "=1"], "A context item is written NAME=VALUE"),
        (["configure", "organization_id=1"], "configure needs --provider"),
        (
            ["configure", "a=1", "--provider", "file", "--in-advance", "--set", "path"],
            "does not have the form NAME=VALUE",
        ),
        (["configure", "organization_id=1", "--provider", "file", "--in-advance"], "settings are missing: path"),
        (
            ["verify", "organization_id=1"],
            r"^VAULTS\['default'\]: .* no customer key of this value",
        ),
        (["list", "--vault", "hosted"], "Only an embedded vault has a keystore"),
        (["list", "organization_id=1"], "list takes no context item"),
        (["list", "--provider", "aws"], "--provider means nothing for list"),
        (["list", "--set", "a=b", "--make-data-unreadable"], "--set, --make-data-unreadable means nothing for list"),
        (["verify", "organization_id=1", "--database", "default"], "--database means nothing for verify"),
        (["delete", "organization_id=1", "--in-advance"], "--in-advance means nothing for delete"),
        (["list", "--environment", "defaut"], "There is no environment 'defaut' in"),
        (["list", "--vault", "missing"], "there is no such vault"),
    ],
)
def test_what_cannot_be_is_an_error_in_words(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        byok(*arguments)


@pytest.mark.parametrize("action", ["status", "configure"])
def test_item_that_nothing_was_encrypted_for_is_refused(
    vault: LocalVault, organization: Organization, key_file: Path, action: str
) -> None:
    """A key that is configured for a slip of the pen would wrap nothing."""
    Patient.objects.create(organization=organization, ssn="1")
    options = ["--provider", "file", "--set", f"path={key_file}"] if action == "configure" else []

    with pytest.raises(CommandError, match="Items that have a key are called organization_id"):
        byok(action, f"organisation_id={organization.pk}", *options)
    with pytest.raises(CommandError, match="Values are compared exactly"):
        byok(action, f"organization_id=0{organization.pk}", *options)
    assert vault.byok.all() == []


def test_failed_verification_is_an_error(key_file: Path) -> None:
    byok("configure", "organization_id=1", "--provider", "file", "--set", f"path={key_file}", "--in-advance")
    key_file.unlink()

    with pytest.raises(CommandError, match=r"^VAULTS\['default'\]: .*gone or may not be read"):
        byok("verify", "organization_id=1")


def test_status_counts_this_vaults_rows_of_this_item(
    vault: LocalVault, organization: Organization, other_organization: Organization, key_file: Path, execute
) -> None:
    for each in (organization, other_organization):
        Document.objects.create(organization=each, body="text")
    configure("organization_id=org_1", key_file)
    byok("verify", "organization_id=org_1")
    byok("activate", "organization_id=org_1")
    for _ in range(2):
        Document.objects.create(organization=organization, body="text")

    def count(item: tuple[str, str], model: str = "testapp.Document.body_keys") -> tuple[int, int, int]:
        found = owner_counts(vault, *item, places())[model]
        return found.managed, found.customer, found.unreadable

    assert count(("organization_id", "org_1")) == (1, 2, 0)
    assert count(("organization_id", "org_2")) == (1, 0, 0)
    assert count(("purpose", "documents")) == (4, 0, 0)
    assert count(("purpose", "other")) == (0, 0, 0)

    objects = StoredObjects(vault.service)
    objects.create("one", "value", {"organization_id": "org_1"})
    objects.create("other", "value", {"organization_id": "org_2"})
    assert count(("organization_id", "org_1"), OBJECTS) == (0, 1, 0)
    assert count(("organization_id", "org_2"), OBJECTS) == (1, 0, 0)

    pks = list(Document.objects.order_by("pk").values_list("pk", flat=True))
    execute("UPDATE testapp_document SET body_keys = 'damaged' WHERE id = %s", pks[0])
    for pk, before, after in ((pks[1], '"vault":"default"', '"vault":"x"'), (pks[2], '"keys":"', '"keys":"AAAA')):
        execute("UPDATE testapp_document SET body_keys = REPLACE(body_keys, %s, %s) WHERE id = %s", before, after, pk)
    assert count(("organization_id", "org_1")) == (0, 1, 2)
    assert "2 unreadable or altered companions" in byok("status", "organization_id=org_1")


def test_keys_of_another_environment_are_its_own(vault: LocalVault, key_file: Path) -> None:
    production = vault.service.for_environment("production")
    StoredObjects(production).create("secret", "value", {"organization_id": "acme"})
    here = "organization_id=acme", "--environment", "production"

    byok("configure", *here, "--provider", "file", "--set", f"path={key_file}")
    byok("verify", *here)
    assert ": active file" in byok("activate", *here)

    assert byok("list") == "No customer key.\n"
    assert "stored objects: 1 under the managed key, 0 under a customer's key" in byok("status", *here)
    assert StoredObjects(production).rewrap() == 1
    assert "stored objects: 0 under the managed key, 1 under a customer's key" in byok("status", *here)


def test_list_is_there_for_programs_too(organization: Organization, key_file: Path) -> None:
    assert json.loads(byok("list", "--format", "json")) == []
    Patient.objects.create(organization=organization, ssn="1")
    configure(f"organization_id={organization.pk}", key_file)
    (key,) = json.loads(byok("list", "--format", "json"))
    assert key == {
        "id": key["id"],
        "environment": "default",
        "name": "organization_id",
        "value": str(organization.pk),
        "state": "configured",
        "provider": "file",
        "settings": {"path": str(key_file)},
    }
    assert f"(id {key['id']})" in byok("list", "--format", "text")
    with pytest.raises(CommandError, match="--format means nothing for status"):
        byok("status", "organization_id=1", "--format", "json")
