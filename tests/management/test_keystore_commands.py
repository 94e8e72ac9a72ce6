import base64
import contextlib
import io
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from tests.embedded.schemas import load_keystore
from tests.testapp.models import Document, Organization, Patient
from vault_fields.audit.shredding import ShredReport
from vault_fields.backends.local import LocalVault
from vault_fields.embedded.database.schema import SCHEMA_VERSION
from vault_fields.embedded.events.log import EventLog
from vault_fields.embedded.managed.rootkey import decode_root_key, generate_root_key
from vault_fields.embedded.objects import StoredObjects
from vault_fields.exceptions import KeyRevoked
from vault_fields.keys import KeyContext
from vault_fields.management.commands import vault_kek
from vault_fields.management.keystores import KeystoreCommand
from vault_fields.vaults import vaults

OLD, NEW = generate_root_key(), generate_root_key()
HELD = "Running processes may hold opened data keys for key_max_age seconds more."
ACME = KeyContext({"organization_id": "acme"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.sqlite3"


@pytest.fixture
def configure(path: Path, settings: object) -> Callable[..., LocalVault]:
    """The vault of the settings, with these options."""

    def configure(**options: object) -> LocalVault:
        settings.VAULTS = {  # type: ignore[attr-defined]
            "default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": path, **options}},
            "hosted": {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": {"api_key": "sk_x"}},
        }
        vault = vaults["default"]
        assert isinstance(vault, LocalVault)
        return vault

    return configure


@pytest.fixture
def vault(configure: Callable[..., LocalVault]) -> LocalVault:
    vault = configure(root_key=OLD)
    vault.service.create_keystore()
    return vault


def run(command: str, *arguments: object) -> str:
    out = io.StringIO()
    call_command(command, *map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


# vault_kek.


def test_list_shows_every_key_and_no_material(vault: LocalVault) -> None:
    for value in ("acme", "b=c"):
        vault.create_data_key(KeyContext({"organization_id": value}))

    lines = run("vault_kek", "list").splitlines()

    pattern = r"organization_id={}: enabled, version 1, opens from version 1 on, made .* UTC \(id [0-9a-f-]{{36}}\)"
    assert re.fullmatch(pattern.format("acme"), lines[0])
    assert re.fullmatch(pattern.format("b=c"), lines[1])


def test_list_is_there_for_programs_too(vault: LocalVault) -> None:
    vault.create_data_key(ACME)
    run("vault_kek", "destroy", "organization_id=acme", "--days", 1)

    [kek] = json.loads(run("vault_kek", "list", "--format", "json"))

    assert kek.pop("destroy_at") > kek.pop("created_at")
    assert kek == {
        "id": str(vault.service.keks.get("organization_id", "acme").id),
        "environment": "default",
        "name": "organization_id",
        "value": "acme",
        "state": "pending destruction",
        "version": 1,
        "minimum_version": 1,
    }


def test_environments_have_keys_of_their_own(vault: LocalVault) -> None:
    vault.service.for_environment("staging").create(ACME)

    assert run("vault_kek", "list") == ""
    assert run("vault_kek", "show", "organization_id=acme", "--environment", "staging").startswith(
        "organization_id=acme"
    )


def test_life_of_a_key(vault: LocalVault) -> None:
    vault.create_data_key(ACME)

    def told(*arguments: object) -> str:
        return run("vault_kek", arguments[0], "organization_id=acme", *arguments[1:]).splitlines()[0]

    assert "enabled, version 2, opens from version 1 on" in told("rotate")
    assert "enabled, version 2, opens from version 2 on" in told("retire", "--before", 2)
    assert "disabled, version 2" in told("disable")
    assert "enabled, version 2" in told("enable")
    assert re.search(r"pending destruction, to be erased after .* UTC, version 2", told("destroy"))
    assert "disabled, version 2" in told("cancel")
    assert "destroyed" in told("destroy", "--days", 0, "--make-data-unreadable")
    assert "destroyed" in told("show")
    assert run("vault_kek", "erase") == "0 keys were erased.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rotate"], "rotate needs the context item, as NAME=VALUE"),
        (["prove"], "prove needs the context item"),
        (["rotate", "acme"], "A context item is written NAME=VALUE, with"),
        (["rotate", "=acme"], "The argument is not"),
        (["retire", "a=b"], "retire needs --before"),
        (["rotate", "a=b"], r"VAULTS\['default'\]: The context item 'a' has no key of this value"),
        (["destroy", "a=b", "--days", "-1"], "--days is a number from 0 to 3650"),
        (["destroy", "a=b", "--days", "99999999999"], "--days is a number from 0 to 3650"),
        (["destroy", "a=b", "--days", "0"], "become unreadable for ever, at once.*add --make-data-unreadable"),
        (["list", "--vault", "hosted"], "Only an embedded vault has a keystore, and 'hosted' is <WorkOSVault"),
        (["list", "--vault", "nowhere"], r"^VAULTS\['nowhere'\]: there is no such vault"),
    ],
)
def test_what_cannot_be_done_is_said(vault: LocalVault, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run("vault_kek", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["disable", "organisation_id=acme"], "nothing to disable. Items that have a key are called organization_id"),
        (["disable", "organization_id=acmee"], "nothing to disable. Values are compared exactly; `vault_kek list`"),
        (
            ["disable", "organization_id=acme", "--environment", "stagin"],
            "no environment 'stagin' .* mean staging",
        ),
        (["disable", "organization_id=acme", "--environment", "x"], r"no environment 'x' .*It has default, staging\."),
        (["list", "--environment", "stagin"], "no environment 'stagin'"),
        (["destroy", "organization_id=acme", "--environment", "stagin"], "no environment 'stagin'"),
        (["prove", "organization_id=acme", "--environment", "stagin"], "no environment 'stagin'"),
    ],
)
def test_slip_of_the_pen_closes_nothing(vault: LocalVault, arguments: list[str], message: str) -> None:
    """In an incident somebody would believe that the tenant is closed."""
    vault.create_data_key(ACME)
    vault.service.for_environment("staging").create(ACME)

    with pytest.raises(CommandError, match=message):
        run("vault_kek", *arguments)

    assert {kek.item_value: kek.state for kek in vault.service.keks} == {"acme": "enabled"}
    assert vault.service.store.environments() == ["default", "staging"]


def test_item_is_refused_in_advance_where_that_is_meant(vault: LocalVault) -> None:
    assert run("vault_kek", "list") == ""
    assert "disabled" in run("vault_kek", "disable", "organization_id=acme", "--in-advance")
    assert "disabled" in run("vault_kek", "disable", "a=b", "--in-advance", "--environment", "next")

    with pytest.raises(KeyRevoked):
        vault.create_data_key(ACME)


def test_first_item_of_all_has_no_other_to_be_taken_for(vault: LocalVault) -> None:
    with pytest.raises(CommandError, match="Values are compared exactly"):
        run("vault_kek", "disable", "organization_id=acme")


def test_who_disables_a_key_is_told_of_the_customers_one(vault: LocalVault, tmp_path: Path) -> None:
    vault.create_data_key(ACME)
    vault.byok.configure("organization_id", "acme", provider="file", settings={"path": str(tmp_path / "key")})
    err = io.StringIO()

    call_command("vault_kek", "disable", "organization_id=acme", stdout=io.StringIO(), stderr=err)

    assert "This item has a customer key too, which is configured" in err.getvalue()


def test_environment_of_an_api_key_is_one(vault: LocalVault, settings: object) -> None:
    key = {"name": "Billing", "environment": "production", "sha256": "not looked at"}
    settings.VAULT_SERVER = {"keys": [key, "not looked at", {"environment": 1}]}  # type: ignore[attr-defined]

    assert run("vault_kek", "list", "--environment", "production") == ""


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("vault_kek", ["list", "a=b"], "list takes no context item"),
        ("vault_kek", ["erase", "a=b"], "erase takes no context item"),
        ("vault_kek", ["erase", "--environment", "default"], "--environment means nothing for erase"),
        ("vault_kek", ["list", "--days", "1", "--before", "2"], "--before, --days means nothing for list"),
        ("vault_kek", ["usage", "a=b", "--format", "json"], "--format means nothing for usage"),
        ("vault_kek", ["rotate", "a=b", "--make-data-unreadable"], "--make-data-unreadable means nothing for rotate"),
        ("vault_kek", ["enable", "a=b", "--in-advance"], "--in-advance means nothing for enable"),
        ("vault_kek", ["destroy", "a=b", "--database", "default"], "--database means nothing for destroy"),
        ("vault_kek", ["rotate", "a=b", "--prove"], "--prove means nothing for rotate"),
        ("vault_root_key", ["new", "--vault", "default"], "--vault means nothing for new"),
        ("vault_keystore", ["backup", "file", "--force"], "--force means nothing for backup"),
        ("vault_keystore", ["upgrade", "--force"], "--force means nothing for upgrade"),
        ("vault_keystore", ["restore", "file", "--trust-rows"], "--trust-rows means nothing for restore"),
        ("vault_keystore", ["status", "file"], "status takes no file"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    vault: LocalVault, command: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        run(command, *arguments)


def test_long_lists_show_how_far_they_are_unless_they_are_on_the_terminal_too(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    vault.create_data_key(ACME)
    for out, shown in [(io.StringIO(), True), (Terminal(), False)]:
        terminal = Terminal()
        with contextlib.redirect_stderr(terminal):
            call_command("vault_kek", "list", stdout=out)
        assert ("Reading keys: 1 of 1" in terminal.getvalue()) == shown
        assert "organization_id=acme: enabled" in out.getvalue()


def test_wrong_root_key_names_the_vault_once(vault: LocalVault, configure: Callable[..., LocalVault]) -> None:
    vault.create_data_key(ACME)
    configure(root_key=NEW)

    with pytest.raises(CommandError, match=r"^VAULTS\['default'\]: wrong root key: "):
        run("vault_root_key", "rotate")


def test_usage_tells_what_retiring_would_refuse(vault: LocalVault, organization: Organization) -> None:
    item = f"organization_id={organization.pk}"
    Patient.objects.create(organization=organization, ssn="1", notes="2", history=None)
    run("vault_kek", "rotate", item)
    Patient.objects.create(organization=organization, ssn="3", notes=None, history=None)
    run("vault_kek", "rotate", item)

    assert run("vault_kek", "usage", item) == (
        "version 1: 2 values\nversion 2: 1 value\nversion 3: 0 values, wraps new data keys\n"
    )
    run("vault_rekey", "testapp.Patient", "--rewrap")
    run("vault_kek", "retire", item, "--before", 3)
    assert run("vault_kek", "usage", item) == (
        "version 1: 0 values, retired\nversion 2: 0 values, retired\nversion 3: 3 values, wraps new data keys\n"
    )
    assert [patient.ssn for patient in Patient.objects.order_by("pk")] == ["1", "3"]


def test_destroying_a_tenants_key_shreds_its_values_and_no_others(
    vault: LocalVault, organization: Organization, other_organization: Organization
) -> None:
    for each in (organization, other_organization):
        Patient.objects.create(organization=each, ssn="1", notes=None, history=None)

    _, moment, key, *told = run("vault_kek", "destroy", f"organization_id={organization.pk}", "--prove").splitlines()

    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC, vault 'default', environment 'default':", moment)
    assert key.startswith(f"organization_id={organization.pk}: pending destruction, to be erased after 20")
    assert told == [
        "Databases: default.",
        str(ShredReport(unreadable=1, others=1)),
        f"Proven. Until the key is erased, `vault_kek cancel` can undo it. {HELD}",
    ]
    assert Patient.objects.get(organization=other_organization).ssn == "1"


def test_no_proof_is_an_error(vault: LocalVault, organization: Organization) -> None:
    Patient.objects.create(organization=organization, ssn="1", notes=None, history=None)

    with pytest.raises(CommandError, match="This is no proof"):
        run("vault_kek", "prove", f"organization_id={organization.pk}", "--database", "default")


class Nowhere:
    def allow_migrate(self, *args: object, **hints: object) -> bool:
        return False


def test_proof_without_any_table_says_so(vault: LocalVault, settings: object) -> None:
    settings.DATABASE_ROUTERS = [Nowhere()]  # type: ignore[attr-defined]
    vault.create_data_key(ACME)
    vault.service.keks.destroy("organization_id", "acme", after=timedelta(0))

    told = run("vault_kek", "prove", "organization_id=acme")
    assert "\nDatabases: none.\n0 values" in told
    assert "Proven: the key is destroyed." in told


def retire(vault: LocalVault, item: tuple[str, str]) -> None:
    vault.service.keks.rotate(*item)
    vault.service.keks.retire(*item, before=2)


@pytest.mark.parametrize(
    "withdraw",
    [
        lambda vault, item: vault.service.keks.disable(*item),
        lambda vault, item: vault.service.keks.disable("purpose", "documents"),
        retire,
    ],
    ids=["disabled", "another item disabled", "retired"],
)
def test_what_can_be_undone_is_no_proof(
    vault: LocalVault, organization: Organization, withdraw: Callable[[LocalVault, tuple[str, str]], object]
) -> None:
    Document.objects.create(organization=organization, body="text")
    withdraw(vault, ("organization_id", organization.workos_id))

    with pytest.raises(CommandError, match="This is no proof"):
        run("vault_kek", "prove", f"organization_id={organization.workos_id}")


def test_value_that_opens_by_any_item_is_gone_when_all_are(
    configure: Callable[..., LocalVault], organization: Organization
) -> None:
    vault = configure(root_key=OLD, unwrap="first")
    vault.service.create_keystore()
    Document.objects.create(organization=organization, body="text")
    item = f"organization_id={organization.workos_id}"
    vault.service.keks.disable("purpose", "documents")

    with pytest.raises(CommandError, match="This is no proof"):
        run("vault_kek", "destroy", item, "--prove")
    run("vault_kek", "destroy", "purpose=documents")
    assert "1 value of this key is unreadable" in run("vault_kek", "prove", item)


def test_key_that_is_enabled_is_no_proof(vault: LocalVault, db: None) -> None:
    vault.create_data_key(ACME)

    with pytest.raises(CommandError, match="This is no proof: the key is enabled"):
        run("vault_kek", "prove", "organization_id=acme")


def test_customers_key_is_proven_to_be_gone_when_it_is_deleted(
    vault: LocalVault, organization: Organization, tmp_path: Path
) -> None:
    item = "organization_id", str(organization.pk)
    path = tmp_path / "customer.key"
    path.write_bytes(bytes(range(32)))
    path.chmod(0o400)
    vault.byok.configure(*item, provider="file", settings={"path": str(path)})
    vault.byok.verify(*item)
    vault.byok.activate(*item)
    Patient.objects.create(organization=organization, ssn="1", notes=None, history=None)

    # A mode that the provider refuses; a key that its owner took away; one that was disabled here.
    for withdraw in (lambda: path.chmod(0o444), path.unlink, lambda: vault.byok.disable(*item)):
        withdraw()
        with pytest.raises(CommandError, match="This is no proof"):
            run("vault_kek", "prove", "=".join(item))
    vault.byok.delete(*item)
    told = run("vault_kek", "prove", "=".join(item))
    assert "Customer key: deleted file (id " in told
    assert "1 value of this key is unreadable" in told
    assert "Proven: the key is deleted." in told


def test_objects_of_another_environment_are_proven_by_its_key(vault: LocalVault, organization: Organization) -> None:
    item = "organization_id", str(organization.pk)
    Patient.objects.create(organization=organization, ssn="1", notes=None, history=None)
    production = vault.service.for_environment("production")
    StoredObjects(production).create("secret", "value", dict([item]))
    options = "=".join(item), "--environment", "production"

    vault.service.keks.disable(*item)
    with pytest.raises(CommandError, match="This is no proof"):
        run("vault_kek", "prove", *options)
    vault.service.keks.enable(*item)
    assert "version 1: 1 value" in run("vault_kek", "usage", *options)
    told = run("vault_kek", "destroy", *options, "--prove")

    assert "environment 'production'" in told
    assert str(ShredReport(unreadable=1)) in told
    assert Patient.objects.get().ssn == "1"


def test_vault_that_is_not_embedded_knows_alone_whether_it_can_be_undone(
    vault: LocalVault, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATABASE_ROUTERS = [Nowhere()]  # type: ignore[attr-defined]
    with pytest.raises(CommandError, match="no proof: no value in these databases is encrypted for this item"):
        run("vault_kek", "prove", "organization_id=acme", "--vault", "hosted")
    monkeypatch.setattr(vault_kek, "prove_shredded", lambda *args, **kwargs: ShredReport(unreadable=1))

    told = run("vault_kek", "prove", "organization_id=acme\n", "--vault", "hosted")

    assert "\norganization_id='acme\\n'\n" in told
    assert "Proven. Only the vault knows whether it can be undone." in told
    with pytest.raises(CommandError, match="Only an embedded vault has environments here"):
        run("vault_kek", "prove", "organization_id=acme", "--vault", "hosted", "--environment", "staging")


def test_item_whose_name_has_an_equals_sign_can_be_named(vault: LocalVault) -> None:
    vault.create_data_key(KeyContext({"a=b\\": "c=d"}))

    assert run("vault_kek", "disable", r"a\=b\\=c=d").startswith("a=b\\=c=d: disabled")
    with pytest.raises(CommandError, match="has no key of this value"):
        run("vault_kek", "show", "a=b=c=d")


def test_items_are_shown_without_what_a_terminal_would_obey(vault: LocalVault) -> None:
    vault.create_data_key(KeyContext({"tenant": "x\nadmin=ok: enabled\x1b[31m", "name": "é 漢"}))

    told = run("vault_kek", "list")
    assert len(told.splitlines()) == 2
    assert "tenant='x\\nadmin=ok: enabled\\x1b[31m': enabled" in told
    assert "name=é 漢: enabled" in told


# vault_root_key.


def test_root_key_is_rotated(vault: LocalVault, configure: Callable[..., LocalVault]) -> None:
    key = vault.create_data_key(ACME)
    configure(root_key=NEW, former_root_keys=[OLD])

    told = run("vault_root_key", "rotate")

    ids = [re.escape(decode_root_key(text).id) for text in (NEW, OLD)]
    assert re.match(rf"1 key is wrapped under the root key of id {ids[0]} now. That of id {ids[1]} opens nothing", told)
    assert run("vault_root_key", "rotate").startswith("Nothing to do: the keystore has the root key of id")
    assert configure(root_key=NEW).decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_root_key_of_another_alias_is_rotated(vault: LocalVault, settings: object, path: Path) -> None:
    vault.create_data_key(ACME)
    entry = {
        "BACKEND": "vault_fields.backends.local.LocalVault",
        "OPTIONS": {"path": path, "root_key": NEW, "former_root_keys": [OLD]},
    }
    settings.VAULTS = settings.VAULTS | {"next": entry}  # type: ignore[attr-defined]

    assert run("vault_root_key", "rotate", "--vault", "next").startswith("1 key is wrapped under the root key of id")


def test_former_root_keys_may_stand_in_the_environment(
    vault: LocalVault, configure: Callable[..., LocalVault], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = vault.create_data_key(ACME)
    monkeypatch.setenv("VAULT_FORMER_ROOT_KEYS", f"{generate_root_key()}, {OLD}")
    monkeypatch.setenv("VAULT_ROOT_KEY", NEW)

    assert configure().decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (OLD, "former_root_keys must be a list, not str"),
        (["short"], "former_root_keys cannot be used: it"),
        ([None], "former_root_keys cannot be used: it must be a string, not NoneType"),
    ],
    ids=["a text", "a short one", "none"],
)
def test_former_root_keys_that_are_none_say_so(
    configure: Callable[..., LocalVault], option: object, message: str
) -> None:
    with pytest.raises(Exception, match=rf"^VAULTS\['default'\]: {message}") as caught:
        configure(root_key=NEW, former_root_keys=option)
    assert "short" not in str(caught.value)
    assert OLD not in str(caught.value)


# vault_keystore.


def test_keystore_is_made_once(configure: Callable[..., LocalVault], path: Path, db: None) -> None:
    vault = configure(root_key=OLD)
    with pytest.raises(CommandError, match=r"^VAULTS\['default'\]: The keystore .* is missing"):
        run("vault_kek", "list")

    told = run("vault_keystore", "create")

    assert re.match(rf"{path}: vault [0-9a-f]{{32}}, empty\. Back it up", told)
    assert oct(path.stat().st_mode)[-3:] == "600"
    assert vault.service.store.root_key_ids() == [decode_root_key(OLD).id]
    with pytest.raises(CommandError, match=rf"The keystore {path} exists already"):
        run("vault_keystore", "create")
    assert vault.create_data_key(ACME)


def test_keystore_is_not_made_in_place_of_a_lost_one(vault: LocalVault, path: Path, organization: Organization) -> None:
    """So that an entry point which runs the command at every start does no harm."""
    Patient.objects.create(organization=organization, ssn="1", notes=None, history=None)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_patient SET history_keys = 'damaged'")
    vault.close()
    path.unlink()

    with pytest.raises(CommandError, match=r"testapp.Patient.ssn_keys holds keys of the vault 'default'.*restore FILE"):
        run("vault_keystore", "create")
    assert not path.exists()
    run("vault_keystore", "create", "--force")
    assert path.exists()


def test_values_of_other_vaults_are_no_reason_against_a_new_keystore(
    settings: object, organization: Organization, path: Path
) -> None:
    Patient.objects.create(organization=organization, ssn="1", notes=None, history=None)
    local = {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": path, "root_key": OLD}}
    settings.VAULTS = settings.VAULTS | {"next": local}  # type: ignore[attr-defined]

    assert run("vault_keystore", "create", "--vault", "next").startswith(f"{path}: vault ")


def test_keystore_can_be_made_before_the_tables_are(
    configure: Callable[..., LocalVault], path: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrations that encrypt need it."""
    configure(root_key=OLD)
    for field in Patient._meta.concrete_fields:
        # Made once, with the name of the table: what is made under the other name would stay for other tests.
        assert field.cached_col
    monkeypatch.setattr(Patient._meta, "db_table", "not_made_yet")
    monkeypatch.setattr(Document._meta.get_field("body_keys"), "column", "not_made_yet")

    assert run("vault_keystore", "create").startswith(f"{path}: vault ")


def test_keystore_is_made_by_force_where_a_database_does_not_answer(
    configure: Callable[..., LocalVault], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(vault: str) -> None:
        raise OperationalError("away")

    configure(root_key=OLD)
    monkeypatch.setattr("vault_fields.management.commands.vault_keystore.where_stored", silent)
    with pytest.raises(CommandError, match=r"cannot be told \(OperationalError\)\. Once they answer"):
        run("vault_keystore", "create")
    assert run("vault_keystore", "create", "--force").startswith(f"{path}: vault ")


def test_keystore_that_cannot_be_made_says_why(configure: Callable[..., LocalVault], path: Path, db: None) -> None:
    configure(root_key=OLD, path=path / "no such directory" / "vault.sqlite3")
    with pytest.raises(CommandError, match=r"^VAULTS\['default'\]: .*its directory does not exist"):
        run("vault_keystore", "create")


def test_keystore_in_memory_is_there_from_the_start(db: None) -> None:
    with pytest.raises(CommandError, match="A keystore in memory is there from the start"):
        run("vault_keystore", "create")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "a file"], "create takes no file"),
        (["backup"], "backup needs a file"),
        (["restore"], "restore needs a file"),
    ],
)
def test_file_is_named_where_it_is_one(vault: LocalVault, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run("vault_keystore", *arguments)


def test_backup_is_made_and_put_back(path: Path, vault: LocalVault, tmp_path: Path) -> None:
    key = vault.create_data_key(ACME)

    assert re.search(
        r"backup: vault [0-9a-f]{32} with 1 KEK; 1 key", run("vault_keystore", "backup", tmp_path / "backup")
    )
    vault.close()
    path.unlink()
    assert re.match(r"Restored: vault [0-9a-f]{32} with 1 KEK;", run("vault_keystore", "restore", tmp_path / "backup"))

    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_relative_path_of_a_backup_is_that_of_the_shell(
    vault: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    run("vault_keystore", "backup", "backup")

    assert (tmp_path / "backup").exists()
    with pytest.raises(CommandError, match="backup exists already"):
        run("vault_keystore", "backup", "backup")


def test_newer_keystore_is_restored_over_by_force_only(path: Path, vault: LocalVault, tmp_path: Path) -> None:
    run("vault_keystore", "backup", tmp_path / "backup")
    vault.create_data_key(ACME)

    with pytest.raises(CommandError, match=r"^VAULTS\['default'\]: The keystore .* is newer than .*backup. 1 key was"):
        run("vault_keystore", "restore", tmp_path / "backup")
    assert "By force. 1 key was made since" in run("vault_keystore", "restore", tmp_path / "backup", "--force")

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM kek").fetchone() == (0,)


@pytest.fixture
def earlier(path: Path, configure: Callable[..., LocalVault]) -> Path:
    """A keystore of schema version 2."""
    load_keystore(2, path)
    configure(root_key=base64.b64encode(bytes(range(32))).decode())
    return path


def test_status_says_what_the_release_works_with(vault: LocalVault, path: Path) -> None:
    assert run("vault_keystore", "status") == f"{path}: schema version {SCHEMA_VERSION}, as this release has it.\n"


def test_keystore_of_an_earlier_release_is_upgraded_by_hand(earlier: Path) -> None:
    assert "schema version 2, and this release works with" in run("vault_keystore", "status")
    with pytest.raises(CommandError, match=r"VAULTS\['default'\]: .* run `manage.py vault_keystore upgrade`"):
        run("vault_kek", "list")
    with pytest.raises(CommandError, match="--trust-rows"):
        run("vault_keystore", "upgrade")

    backup, upgraded, trusted = run("vault_keystore", "upgrade", "--trust-rows").splitlines()

    assert re.match(rf"{earlier}\.schema-2\.\S+: vault \w+ with 8 KEKs; \d+ keys were opened", backup)
    assert upgraded == f"{earlier}: schema version {SCHEMA_VERSION}, instead of 2."
    assert trusted.startswith("10 rows were tagged as they stood. Earlier edits count as authentic")
    assert "organization_id=disabled: disabled" in run("vault_kek", "list")
    assert run("vault_keystore", "upgrade") == f"Nothing to do: {earlier} has schema version {SCHEMA_VERSION}.\n"


def test_upgrade_of_rows_with_tags_trusts_nothing(path: Path, configure: Callable[..., LocalVault]) -> None:
    load_keystore(3, path)
    configure(root_key=base64.b64encode(bytes(range(32))).decode())

    _, upgraded = run("vault_keystore", "upgrade").splitlines()

    assert upgraded == f"{path}: schema version {SCHEMA_VERSION}, instead of 3."


def test_upgrade_puts_the_backup_where_it_is_told(earlier: Path, tmp_path: Path) -> None:
    assert f"{tmp_path / 'kept'}: vault" in run("vault_keystore", "upgrade", tmp_path / "kept", "--trust-rows")


@pytest.mark.parametrize(
    "command",
    [
        ["vault_kek", "list"],
        ["vault_byok", "list"],
        ["vault_keystore", "status"],
        ["vault_objects", "rewrap"],
        ["vault_root_key", "rotate"],
        ["vault_events"],
    ],
    ids=lambda command: command[0],
)
def test_an_interruption_is_told_in_a_sentence(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EventLog, "page", interrupted)
    monkeypatch.setattr(KeystoreCommand, "embedded", interrupted)
    with pytest.raises(CommandError, match=r"^Interrupted\. Finished work stays") as caught:
        call_command(*command)
    assert caught.value.returncode == 130
    assert caught.value.__suppress_context__
