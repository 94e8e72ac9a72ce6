"""``vault_rekey --rewrap`` after a transit key was rotated, over a real server."""

import io
from collections import Counter
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.backends.openbao import new_mount, new_token
from tests.byok.peers import Bao
from tests.testapp.models import Organization, Patient
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.rows import rewrap as wrappings
from vault_fields.vaults import vaults


@pytest.fixture
def vault(settings: Any, bao: Bao) -> OpenBaoVault:
    mount = new_mount(bao)
    options = {"addresses": [bao.url], "mount": mount, "token": new_token(bao, mount)}
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.openbao.OpenBaoVault", "OPTIONS": options}}
    vault = vaults["default"]
    assert isinstance(vault, OpenBaoVault)
    return vault


@pytest.fixture
def organization(db: None) -> Organization:
    return Organization.objects.create(workos_id="org_1")


def rewrap(*options: str) -> str:
    out = io.StringIO()
    call_command("vault_rekey", "testapp.Patient", "ssn", "--rewrap", *options, stdout=out)
    return out.getvalue()


def rotate(bao: Bao, vault: OpenBaoVault, organization: Organization) -> str:
    path = f"{vault._engine._mount}/keys/{vault.key_name('organization_id', str(organization.pk))}"
    bao.call(f"{path}/rotate", {})
    vault._versions.clear()
    return path


def test_rows_are_rewrapped_in_a_call_for_each_batch(bao: Bao, vault: OpenBaoVault, organization: Organization) -> None:
    for number in range(20):
        Patient.objects.create(organization=organization, ssn=str(number))
    path = rotate(bao, vault, organization)
    assert "20 would be rekeyed" in rewrap("--dry-run")
    vault.calls.clear()

    assert "20 rekeyed" in rewrap("--batch-size", "10")
    assert vault.calls == Counter({"rewrap": 2})
    bao.call(f"{path}/config", {"min_decryption_version": 2})
    vault.purge()
    assert [row.ssn for row in Patient.objects.order_by("pk")] == [str(number) for number in range(20)]
    assert "Nothing was changed" in rewrap()


def test_rows_that_share_a_data_key_go_on_sharing_it(bao: Bao, vault: OpenBaoVault, organization: Organization) -> None:
    Patient.objects.bulk_create(Patient(organization=organization, ssn=str(number)) for number in range(20))
    rotate(bao, vault, organization)
    vault.calls.clear()

    assert "20 rekeyed" in rewrap("--batch-size", "5")
    assert vault.calls == {"rewrap": 1, "version": 1}
    assert len(set(Patient.objects.values_list("ssn_keys", flat=True))) == 1


def test_no_more_new_wrappings_are_remembered_than_there_is_room_for(
    bao: Bao, vault: OpenBaoVault, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrappings, "MAX_REMEMBERED", 1)
    for number in range(6):
        Patient.objects.create(organization=organization, ssn=str(number))
    rotate(bao, vault, organization)

    assert "6 rekeyed" in rewrap("--batch-size", "2")
    vault.purge()
    assert [row.ssn for row in Patient.objects.order_by("pk")] == [str(number) for number in range(6)]


def test_what_was_retired_before_it_was_rewrapped_is_reported(
    bao: Bao, vault: OpenBaoVault, organization: Organization
) -> None:
    Patient.objects.create(organization=organization, ssn="1")
    path = rotate(bao, vault, organization)
    bao.call(f"{path}/config", {"min_decryption_version": 2})

    with pytest.raises(CommandError, match="1 row was left alone"):
        rewrap()
