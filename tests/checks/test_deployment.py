"""What ``check --deploy`` says."""

import base64
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

import vault_fields
from vault_fields.checks.deployment import check_deployment
from vault_fields.embedded.managed.rootkey import ENVIRONMENT_VARIABLE, generate_root_key
from vault_fields.fields import EncryptedTextField
from vault_fields.keys import KeyContext
from vault_fields.vaults import vaults

NO_MODELS = ()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """The directories of these tests are temporary, which is reported; here they stand for lasting ones."""
    monkeypatch.setattr("vault_fields.checks.keystores._PASSING", ())
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")


def local(tmp_path, *, exists=True, **options):
    options["path"] = tmp_path / "vault.sqlite3"
    if exists:
        options["path"].touch(mode=0o600)
    return {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": options}}


def test_e023_development_root_key(settings, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    settings.VAULTS = local(tmp_path)
    (message,) = check_deployment(NO_MODELS)
    assert message.id == "vault_fields.E023"
    assert "python manage.py vault_root_key" in message.hint
    assert ENVIRONMENT_VARIABLE in message.hint


def test_a_root_key_of_the_options_or_the_environment_is_passed_over(settings, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    settings.VAULTS = local(tmp_path, root_key=generate_root_key())
    assert check_deployment(NO_MODELS) == []
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, generate_root_key())
    settings.VAULTS = local(tmp_path)
    assert check_deployment(NO_MODELS) == []


def test_e024_keys_in_memory() -> None:
    (message,) = check_deployment(NO_MODELS)
    assert message.id == "vault_fields.E024"
    assert "LocalVault" in message.hint


@pytest.mark.parametrize(("phase", "next_step"), [(True, "take migrating=True away"), ("read", "write migrating=True")])
def test_w003_migrating(lab, phase, next_step) -> None:
    lab.patient(notes=EncryptedTextField(key_context=["organization_id"], migrating=phase))
    messages = [message for message in check_deployment(lab.apps.get_app_configs()) if message.obj]
    assert [(message.id, message.obj.name) for message in messages] == [("vault_fields.W003", "notes")]
    assert f"It still has migrating={phase!r}," in messages[0].msg
    assert next_step in messages[0].hint
    assert "makemigrations" in messages[0].hint


def test_settings_that_cannot_be_used_are_left_to_their_own_check(settings) -> None:
    settings.VAULTS = None
    assert check_deployment(NO_MODELS) == []
    settings.VAULTS = {"default": {"BACKEND": "no.such.vault"}}
    assert check_deployment(NO_MODELS) == []


def test_only_a_deployment_asks(own_ids) -> None:
    assert own_ids() == []
    assert own_ids(include_deployment_checks=True) == ["E024", "W003", "W003"]


@pytest.mark.django_db
def test_a_development_key_fails_the_command(settings, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    settings.VAULTS = local(tmp_path)
    with pytest.raises(SystemCheckError, match=r"vault_fields\.E023"):
        call_command("check", deploy=True)
    settings.VAULTS = local(tmp_path, root_key=generate_root_key())
    call_command("check", deploy=True)


# Where the keystore lies.


@pytest.mark.parametrize("source", ["option", "environment"])
def test_w012_missing_keystore(settings, tmp_path, monkeypatch, source) -> None:
    options = {}
    if source == "option":
        options["root_key"] = generate_root_key()
    else:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, generate_root_key())
    settings.VAULTS = local(tmp_path, exists=False, **options)
    (message,) = check_deployment(NO_MODELS)
    assert message.id == "vault_fields.W012"
    assert str(tmp_path / "vault.sqlite3") in message.msg
    assert "python manage.py vault_keystore restore FILE" in message.hint
    assert "python manage.py vault_keystore create" in message.hint


def test_missing_keystore_with_a_development_key_is_made_when_it_is_needed(settings, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    settings.VAULTS = local(tmp_path, exists=False)
    assert [message.id for message in check_deployment(NO_MODELS)] == ["vault_fields.E023"]
    assert list(tmp_path.iterdir()) == []


def place(settings, path):
    settings.VAULTS = {
        "default": {
            "BACKEND": "vault_fields.backends.local.LocalVault",
            "OPTIONS": {"path": path, "root_key": generate_root_key()},
        }
    }
    return [message for message in check_deployment(NO_MODELS) if message.id != "vault_fields.W012"]


@pytest.mark.parametrize(
    "path",
    [
        "/srv/clinic/vault.sqlite3",
        "/srv/clinic/data/keys/vault.sqlite3",
        Path(vault_fields.__file__).parent / "vault.sqlite3",  # An app that is installed.
        Path(__file__).parent.parent.parent / "vault.sqlite3",  # Where the package of the settings stands.
        Path(sys.prefix) / "vault.sqlite3",
    ],
)
def test_w013_keystore_in_the_project(settings, path) -> None:
    settings.BASE_DIR = Path("/srv/clinic")
    (message,) = place(settings, path)
    assert message.id == "vault_fields.W013"
    assert str(path) in message.msg
    assert message.msg.count("which a deployment replaces") == 1


def test_w013_keystore_among_temporary_files(settings, monkeypatch) -> None:
    monkeypatch.setattr("vault_fields.checks.keystores._PASSING", ("/var/tmp",))
    for path in ("/var/tmp/keys/vault.sqlite3", "/nowhere/vault.sqlite3"):
        (message,) = place(settings, path)
        assert message.id == "vault_fields.W013"
        assert "emptied" in message.msg


def test_w013_link_that_leads_into_the_project(settings, tmp_path) -> None:
    settings.BASE_DIR = tmp_path / "clinic"
    (tmp_path / "clinic").mkdir()
    (tmp_path / "lasting").symlink_to(tmp_path / "clinic")
    assert [message.id for message in place(settings, tmp_path / "lasting" / "vault.sqlite3")] == ["vault_fields.W013"]


def test_volume_that_is_mounted_in_the_project_lasts(settings, monkeypatch) -> None:
    settings.BASE_DIR = "/srv/clinic"
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == "/srv/clinic/data")
    assert place(settings, "/srv/clinic/data/keys/vault.sqlite3") == []
    assert place(settings, "/srv/clinic/vault.sqlite3") != []


def test_source_tree_that_is_mounted_is_replaced_all_the_same(settings, monkeypatch) -> None:
    settings.BASE_DIR = "/srv/clinic"
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) in {"/", "/srv/clinic"})
    assert place(settings, "/srv/clinic/data/vault.sqlite3") != []


@pytest.mark.parametrize("base", ["/", None, 7])
def test_directory_that_lasts_is_passed_over(settings, base, monkeypatch) -> None:
    settings.BASE_DIR = base
    monkeypatch.setattr("sys.prefix", sys.base_prefix)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    assert place(settings, "/var/lib/clinic/vault.sqlite3") == []


# Who can get at the keystore.


@pytest.fixture
def kept(settings, tmp_path):
    """A keystore as it should be, in a directory of its own."""
    settings.VAULTS = local(tmp_path, root_key=generate_root_key())
    tmp_path.chmod(0o700)
    assert check_deployment(NO_MODELS) == []
    return tmp_path / "vault.sqlite3"


@pytest.mark.parametrize(
    ("mode", "verb"), [(0o644, "read"), (0o640, "read"), (0o604, "read"), (0o660, "written"), (0o602, "written")]
)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-development-root-key"])
def test_w021_file_that_others_can_get_at(kept, suffix, mode, verb) -> None:
    path = kept.with_name(kept.name + suffix)
    path.touch()
    path.chmod(mode)

    (message,) = check_deployment(NO_MODELS)

    assert message.id == "vault_fields.W021"
    assert f"{path} can be {verb} by others than its owner (mode {mode:04o})" in message.msg
    assert "chmod 0600" in message.hint


@pytest.mark.parametrize("material", [bytes(range(32)), b"0123456789abcdef" * 2])
def test_w027_root_key_that_can_be_guessed(kept, settings, material) -> None:
    settings.VAULTS = local(kept.parent, root_key=base64.b64encode(material).decode())
    (message,) = check_deployment(NO_MODELS)
    assert message.id == "vault_fields.W027"
    assert "vault_root_key rotate" in message.hint


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_w021_directory_that_others_can_write_to(kept, mode) -> None:
    kept.parent.chmod(mode)
    (message,) = check_deployment(NO_MODELS)
    assert message.id == "vault_fields.W021"
    assert f"in {kept.parent} others can put files in its place (mode {mode:04o})" in message.msg


@pytest.mark.parametrize("mode", [0o755, 0o750])
def test_directory_that_others_can_only_read_is_passed_over(kept, mode) -> None:
    kept.parent.chmod(mode)
    assert check_deployment(NO_MODELS) == []


def test_w021_file_of_another_user(kept, monkeypatch) -> None:
    if os.geteuid() == 0:
        os.chown(kept, 12345, -1)
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    (message,) = check_deployment(NO_MODELS)
    assert message.id == "vault_fields.W021"
    assert f"{kept} belongs to another user (id {kept.stat().st_uid})" in message.msg


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_w021_root_looks_whether_it_all_is_of_one_user(kept) -> None:
    os.chown(kept, 12345, -1)
    assert check_deployment(NO_MODELS) == []
    os.chown(kept.parent, 12346, -1)
    (message,) = check_deployment(NO_MODELS)
    assert f"{kept.parent} belongs to another user (id 12346)" in message.msg


def test_a_keystore_that_is_made_here_is_for_its_owner_only(settings, tmp_path) -> None:
    settings.VAULTS = local(tmp_path, exists=False, root_key=generate_root_key())
    vaults["default"].service.create_keystore()
    vaults["default"].service.create(KeyContext({"a": "b"}))
    assert (tmp_path / "vault.sqlite3-wal").exists()
    assert check_deployment(NO_MODELS) == []


def test_settings_in_a_package_belong_to_the_project_around_it(settings, monkeypatch) -> None:
    module = ModuleType("clinic.settings")
    module.__file__ = "/srv/clinic/clinic/settings/__init__.py"
    monkeypatch.setitem(sys.modules, "clinic.settings", module)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "clinic.settings")
    assert len(place(settings, "/srv/clinic/vault.sqlite3")) == 1
