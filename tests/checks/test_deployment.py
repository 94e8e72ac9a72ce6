"""What ``check --deploy`` says."""

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from vault_fields.checks.deployment import check_deployment
from vault_fields.embedded.rootkey import ENVIRONMENT_VARIABLE, generate_root_key
from vault_fields.fields import EncryptedTextField

NO_MODELS = ()


def local(tmp_path, **options):
    options["path"] = tmp_path / "vault.sqlite3"
    return {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": options}}


def test_e023_development_root_key(settings, tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    settings.VAULTS = local(tmp_path)
    (message,) = check_deployment(NO_MODELS)
    assert message.id == "vault_fields.E023"
    assert "python manage.py vault_root_key" in message.hint
    assert ENVIRONMENT_VARIABLE in message.hint


def test_a_root_key_of_the_options_or_the_environment_is_passed_over(settings, tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    settings.VAULTS = local(tmp_path, root_key=generate_root_key())
    assert check_deployment(NO_MODELS) == []
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, generate_root_key())
    settings.VAULTS = local(tmp_path)
    assert check_deployment(NO_MODELS) == []


def test_e024_keys_in_memory():
    (message,) = check_deployment(NO_MODELS)
    assert message.id == "vault_fields.E024"
    assert "LocalVault" in message.hint


def test_w003_migrating(lab):
    lab.patient(notes=EncryptedTextField(key_context=["organization_id"], migrating=True))
    messages = [message for message in check_deployment(lab.apps.get_app_configs()) if message.obj]
    assert [(message.id, message.obj.name) for message in messages] == [("vault_fields.W003", "notes")]
    assert "makemigrations" in messages[0].hint


def test_settings_that_cannot_be_used_are_left_to_their_own_check(settings):
    settings.VAULTS = None
    assert check_deployment(NO_MODELS) == []
    settings.VAULTS = {"default": {"BACKEND": "no.such.vault"}}
    assert check_deployment(NO_MODELS) == []


def test_only_a_deployment_asks(own_ids):
    assert own_ids() == []
    assert own_ids(include_deployment_checks=True) == ["E024", "W003", "W003"]


@pytest.mark.django_db
def test_a_development_key_fails_the_command(settings, tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    settings.VAULTS = local(tmp_path)
    with pytest.raises(SystemCheckError, match=r"vault_fields\.E023"):
        call_command("check", deploy=True)
    settings.VAULTS = local(tmp_path, root_key=generate_root_key())
    call_command("check", deploy=True)
