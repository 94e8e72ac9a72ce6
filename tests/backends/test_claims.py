"""
What a companion claims is not believed before its proof was verified, whatever the vault.

Who can write to the table puts a tenant's value and companion into a row of another, and edits the companion so that it
claims to be that other's. No read opens it. No command that wraps data keys may give it the other tenant's keys.
"""

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.backends.conftest import KINDS
from tests.testapp.models import Document, Organization, Patient
from vault_fields.exceptions import DecryptionError, KeyRevoked
from vault_fields.stored import companion as companion_format
from vault_fields.vaults import vaults

FORGED = "the companion does not belong to its data key"


@pytest.fixture(params=KINDS)
def vault(
    request: pytest.FixtureRequest, settings: Any, entry: Callable[[str], dict[str, Any]], monkeypatch: Any
) -> Iterator[Any]:
    """One of each kind, of whose keys all were rotated: each copy wants to be wrapped anew."""
    settings.VAULTS = {"default": entry(request.param)}
    vault = vaults["default"]
    monkeypatch.setattr(type(vault), "is_current", lambda *_: False)
    yield vault
    vault.purge()


def edited(text: str, **members: Any) -> str:
    """A companion that says something else; its proof stays, for nobody can forge it."""
    return json.dumps(json.loads(text) | members, separators=(",", ":"))


def put(execute: Callable[..., None], row: Any, column: str, value: str, keys: str) -> None:
    execute(f"UPDATE {row._meta.db_table} SET {column} = %s, {column}_keys = %s WHERE id = %s", value, keys, row.pk)


def rekey(*arguments: str) -> str:
    """What the command says, which has to leave one row alone."""
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 row was left alone"):
        call_command("vault_rekey", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def refused(row: Any, name: str) -> None:
    with pytest.raises(DecryptionError, match=FORGED):
        getattr(type(row).objects.get(pk=row.pk), name)


@pytest.mark.parametrize("owners", [("acme", "evil"), ("evil", "acme")])
def test_rewrap_gives_a_data_key_to_no_tenant_that_a_companion_only_claims(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any, owners: tuple[str, str]
) -> None:
    made = {"acme": acme, "evil": evil}
    # Both rows carry the same encrypted keys, for two contexts, in one batch: whichever of them comes last.
    patients = {name: Patient.objects.create(organization=made[name], ssn=name) for name in owners}
    victim, forged = patients["acme"], patients["evil"]
    value, keys = stored(victim, "ssn", "ssn_keys")
    claimed = {"organization_id": str(evil.pk)}
    claim = edited(keys, context=claimed, row=claimed)
    put(execute, forged, "ssn", value, claim)
    vault.purge()
    refused(forged, "ssn")

    assert FORGED in rekey("testapp.Patient", "ssn", "--rewrap")

    assert stored(forged, "ssn", "ssn_keys") == (value, claim), "what proves nothing is left as it is"
    new = companion_format.decode(stored(victim, "ssn_keys")[0])
    assert new.context == {"organization_id": str(acme.pk)}
    vault.purge()
    assert Patient.objects.get(pk=victim.pk).ssn == "acme"
    refused(forged, "ssn")


@pytest.mark.parametrize("vault", ["memory", "local"], indirect=True)
def test_what_was_rewrapped_meanwhile_opens_for_its_tenant_only(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any
) -> None:
    """The attack to its end: the value is put back to where it came from, with the keys that the attacker got."""
    victim, forged = (Patient.objects.create(organization=owner, ssn=owner.workos_id) for owner in (acme, evil))
    value, keys = stored(victim, "ssn", "ssn_keys")
    claimed = {"organization_id": str(evil.pk)}
    put(execute, forged, "ssn", value, edited(keys, context=claimed, row=claimed))
    rekey("testapp.Patient", "ssn", "--rewrap")
    got = json.loads(stored(forged, "ssn_keys")[0])["keys"]
    vault.service.keks.destroy("organization_id", str(acme.pk), after=timedelta())
    vault.service.forget()
    vault.purge()

    for text in (keys, edited(keys, keys=got)):
        put(execute, victim, "ssn", value, text)
        with pytest.raises((KeyRevoked, DecryptionError)):
            Patient.objects.get(pk=victim.pk).ssn  # noqa: B018


def test_rekey_gives_a_data_key_to_no_tenant_that_a_companion_only_claims(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any
) -> None:
    victim, forged = (Document.objects.create(organization=owner, body=owner.workos_id) for owner in (acme, evil))
    value, keys = stored(victim, "body", "body_keys")
    # As if the organization had been renamed since: the row is its own, and leads to another context.
    claim = edited(keys, row={"organization_id": str(evil.pk)})
    put(execute, forged, "body", value, claim)
    vault.purge()
    vault.calls.clear()

    assert FORGED in rekey("testapp.Document", "--accept-redirected")

    assert vault.calls["rekey"] == vault.calls["create"] == 0
    assert stored(forged, "body", "body_keys") == (value, claim)
    assert Document.objects.get(pk=victim.pk).body == "org_acme"


@pytest.mark.parametrize("vault", ["local", "workos", "openbao"], indirect=True)
@pytest.mark.parametrize("arguments", [("testapp.Patient", "ssn"), ("testapp.Patient", "ssn", "--rewrap")])
def test_a_companion_that_names_another_vault_is_not_followed(
    settings: Any, entry: Any, vault: Any, acme: Organization, execute: Any, stored: Any, arguments: tuple[str, ...]
) -> None:
    """Another alias of the same keystore opens its keys, by its own policy. The proof names the alias."""
    patient = Patient.objects.create(organization=acme, ssn="acme")
    value, keys = stored(patient, "ssn", "ssn_keys")
    settings.VAULTS = {**settings.VAULTS, "weak": settings.VAULTS["default"]}
    put(execute, patient, "ssn", value, edited(keys, vault="weak"))

    refused(patient, "ssn")
    assert FORGED in rekey(*arguments)
    assert stored(patient, "ssn")[0] == value


# OpenBao leaves alone what the newest version of its key has wrapped.
@pytest.mark.parametrize("vault", ["memory", "local", "workos"], indirect=True)
def test_an_older_wrapping_does_not_come_back_in_a_newer_companion(
    vault: Any, acme: Organization, execute: Any, stored: Any
) -> None:
    """Otherwise a copy that a customer's key had left, or a KEK that is retired, would be brought back unnoticed."""
    patient = Patient.objects.create(organization=acme, ssn="acme")
    value, old = stored(patient, "ssn", "ssn_keys")
    call_command("vault_rekey", "testapp.Patient", "ssn", "--rewrap", verbosity=0)
    new = stored(patient, "ssn_keys")[0]
    put(execute, patient, "ssn", value, edited(new, keys=json.loads(old)["keys"]))
    vault.purge()

    assert json.loads(old)["keys"] != json.loads(new)["keys"]
    refused(patient, "ssn")
