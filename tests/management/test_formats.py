"""``--format json``: one document on standard output, whatever else is told."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tests.keystores import make_keystore
from tests.testapp.models import Legacy
from vault_fields.embedded.database.schema import SCHEMA_VERSION
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.embedded.objects import StoredObjects
from vault_fields.vaults import vaults


@pytest.fixture(autouse=True)
def vault(settings, tmp_path):
    local = {"path": str(tmp_path / "vault.sqlite3"), "root_key": generate_root_key()}
    make_keystore(**local)
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": local}}
    return vaults["default"].service


def run(*args, fails=None, **options):
    out, err = StringIO(), StringIO()
    if fails is None:
        call_command(*args, "--format", "json", stdout=out, stderr=err, **options)
    else:
        with pytest.raises(CommandError, match=fails):
            call_command(*args, "--format", "json", stdout=out, stderr=err, **options)
    return json.loads(out.getvalue())


@pytest.fixture
def rows(organization, other_organization, vault):
    made = [Legacy.objects.create(organization=each, text="x") for each in (organization, other_organization)]
    vault.disable("organization_id", str(organization.pk))
    vaults["default"].purge()
    return made


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("vault_rekey", {"dry_run": False, "encrypted": 2, "rekeyed": 1, "reencrypted": 0, "failed": 1}),
        ("vault_reencrypt", {"dry_run": False, "encrypted": 2, "rekeyed": 0, "reencrypted": 1, "failed": 1}),
        ("vault_decrypt", {"participle": "decrypted", "examined": 2, "written": 1, "beside_keys": 0}),
    ],
)
def test_commands_over_rows_give_a_report_for_each_column(rows, vault, name, counts) -> None:
    options = {}
    if name == "vault_rekey":
        vault.keks.rotate("organization_id", str(rows[1].organization_id))
        options["rewrap"] = True
        # What is current needs nothing, though its key is disabled.
        vault.keks.enable("organization_id", str(rows[0].organization_id))
        vault.keks.rotate("organization_id", str(rows[0].organization_id))
        vault.disable("organization_id", str(rows[0].organization_id))
    [report] = run(name, "testapp.Legacy", "text", fails="1 row was left alone", **options)
    assert report["database"] == "default"
    assert report["label"].startswith("testapp.Legacy.text")
    assert report["left_alone"] == [rows[0].pk]
    assert {key: report[key] for key in counts} == counts


def test_encrypting_gives_one_too(organization, execute) -> None:
    Legacy.objects.create(organization=organization)
    execute("UPDATE testapp_legacy SET text = 'plain'")
    [report] = run("vault_encrypt", "testapp.Legacy", "text")
    assert (report["written"], report["left_alone"]) == (1, [])


def test_keys_of_customers() -> None:
    assert run("vault_byok", "list") == []


def test_the_state_of_the_keystore(vault) -> None:
    location = str(vault.store.location)
    versions = {"schema_version": SCHEMA_VERSION, "schema_version_of_release": SCHEMA_VERSION}
    assert run("vault_keystore", "status") == {"location": location, **versions}
    with pytest.raises(CommandError, match="--format means nothing for create"):
        call_command("vault_keystore", "create", "--format", "json")


def test_what_became_of_stored_objects(vault) -> None:
    StoredObjects(vault).create("name", "value", {"organization_id": "1"})
    found = {"environment": "default", "wrapped": 1, "left_alone": 0, "left_as_is": 0}
    assert run("vault_objects", "rewrap", "--environment", "default") == found
