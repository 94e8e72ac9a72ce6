"""settings.VAULTS."""

import socket
from typing import Never

import pytest

from vault_fields.checks.vaults import check_vaults
from vault_fields.fields import EncryptedTextField

MEMORY = {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}


def test_a_right_setting_is_passed_over(own_ids) -> None:
    assert own_ids() == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"BACKEND": "vault_fields.NoSuchVault"}, "BACKEND cannot be imported: vault_fields has nothing of the name"),
        (MEMORY | {"OPTIONS": {"tiemout": 5}}, "unknown OPTIONS: tiemout."),
        ({"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": {"api_key": " sk"}}, "api_key must be"),
    ],
)
def test_e019_setting_that_cannot_be_used(settings, entry, said) -> None:
    settings.VAULTS = {"default": MEMORY, "broken": entry}
    (message,) = check_vaults(None)
    assert message.id == "vault_fields.E019"
    assert message.msg.startswith("VAULTS['broken']: ")
    assert said in message.msg
    assert message.hint


def test_e019_setting_that_is_not_there(settings, lab) -> None:
    settings.VAULTS = None
    (message,) = check_vaults(None)
    assert message.id == "vault_fields.E019"
    assert '"BACKEND": "vault_fields.backends.local.LocalVault"' in message.msg
    # A project that encrypts nothing yet needs no vault.
    assert check_vaults(lab.apps.get_app_configs()) == []


def test_e019_successor_that_is_not_there(settings) -> None:
    settings.VAULTS = {"default": {**MEMORY, "SUCCESSOR": "gone"}}
    (message,) = check_vaults(None)
    assert message.id == "vault_fields.E019"
    assert message.msg == "VAULTS['default']: SUCCESSOR must be the alias of another vault in VAULTS."


def test_vault_that_was_left_is_passed_over(settings, own_ids) -> None:
    settings.VAULTS = {"default": {"SUCCESSOR": "next"}, "next": MEMORY}
    assert own_ids() == []


def test_e020_vault_that_is_not_there(lab) -> None:
    lab.patient(notes=EncryptedTextField(key_context=["organization_id"], vault="archive"))
    (message,) = check_vaults(lab.apps.get_app_configs())
    assert message.id == "vault_fields.E020"
    assert message.obj.name == "notes"
    assert message.hint == "Add 'archive' to VAULTS, or write vault= with one that it has: 'default'."


def test_checks_open_no_file_and_no_connection(settings, tmp_path, monkeypatch, own_ids) -> None:
    def refuse(*args, **kwargs) -> Never:
        raise AssertionError("a check went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    settings.VAULTS = {
        "default": {
            "BACKEND": "vault_fields.backends.local.LocalVault",
            "OPTIONS": {"path": tmp_path / "vault.sqlite3"},
        },
        "hosted": {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": {"api_key": "sk_test_4f9Za81"}},
    }
    assert own_ids(include_deployment_checks=True) == ["E023", "W013", "W003", "W003"]
    assert list(tmp_path.iterdir()) == []
