"""
What tells of stored keys - the proof of shredding, usage, owners - believes no companion and no row of the keystore.
"""

import base64
import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.backends.test_claims import edited, put
from tests.testapp.models import Document, Organization, Patient
from vault_fields.audit.companions import Answers
from vault_fields.audit.owners import OBJECTS, OwnerCounts, owner_counts
from vault_fields.audit.places import Rows, places, stored_keys
from vault_fields.audit.shredding import ShredReport, prove_shredded
from vault_fields.audit.versions import Usage, versions_in_use
from vault_fields.datakeys.cache import KeyCache
from vault_fields.embedded.objects import StoredObjects
from vault_fields.exceptions import DecryptionError, VaultUnavailable
from vault_fields.fields.groups import group_of
from vault_fields.fields.opening import require_open
from vault_fields.interop import export_value
from vault_fields.keys import DataKey, KeyContext
from vault_fields.vaults import vaults

NOW = timedelta()


@pytest.fixture(params=["memory", "local"])
def vault(request: pytest.FixtureRequest, settings: Any, entry: Callable[[str], dict[str, Any]]) -> Iterator[Any]:
    settings.VAULTS = {"default": entry(request.param)}
    yield vaults["default"]
    vaults.reset()


def patient(organization: Organization, **values: Any) -> Patient:
    return Patient.objects.create(organization=organization, **{"ssn": "1", "notes": None, "history": None} | values)


def item(organization: Organization) -> tuple[str, str]:
    return "organization_id", str(organization.pk)


def prove(vault: Any, organization: Organization) -> ShredReport:
    return prove_shredded(vault, *item(organization), places())


def io_of(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def flipped(text: str) -> str:
    """An envelope of which one bit of the ciphertext is another."""
    head, _, body = text.rpartition("$")
    raw = bytearray(base64.b64decode(body))
    raw[13] ^= 1
    return f"{head}${base64.b64encode(raw).decode()}"


def test_flipped_bit_of_a_ciphertext_is_no_proof(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any
) -> None:
    patient(acme)
    row = patient(evil, history=["whole"])
    put(execute, row, "ssn", flipped(stored(row, "ssn")[0]), stored(row, "ssn_keys")[0])
    vault.service.keks.destroy(*item(acme), after=NOW)

    report = prove(vault, acme)

    assert (report.unreadable, report.others, report.broken, report.proven) == (1, 1, 1, False)


def test_swapped_values_are_no_proof(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any
) -> None:
    """Of one data key, so that only their label tells them apart."""
    patient(acme)
    row = patient(evil)
    ours, theirs = (Document.objects.create(organization=each, body=str(each.pk)) for each in (evil, evil))
    mine, other = stored(ours, "body", "body_keys"), stored(theirs, "body", "body_keys")
    put(execute, ours, "body", other[0], mine[1])
    put(execute, row, "ssn", mine[0], mine[1])
    vault.service.keks.destroy(*item(acme), after=NOW)

    report = prove(vault, acme)

    assert (report.unreadable, report.others, report.broken, report.proven) == (1, 1, 2, False)


@pytest.mark.parametrize("of", ["acme", "evil"])
def test_companion_that_claims_another_context_is_no_proof(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any, of: str
) -> None:
    """Neither is a value hidden among the others', nor is one of theirs passed off as the item's."""
    rows = {"acme": patient(acme), "evil": patient(evil)}
    claimed = dict([item(evil if of == "acme" else acme)])
    value, keys = stored(rows[of], "ssn", "ssn_keys")
    put(execute, rows[of], "ssn", value, edited(keys, context=claimed))

    still_there = prove(vault, acme)
    vault.service.keks.destroy(*item(acme), after=NOW)
    report = prove(vault, acme)

    assert (still_there.readable, still_there.others, still_there.broken) == (of == "evil", of == "acme", 1)
    assert (report.unreadable, report.others, report.broken, report.proven) == (of == "evil", of == "acme", 1, False)


def test_companion_whose_key_was_wrapped_for_whom_it_claims_is_no_proof(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any
) -> None:
    """
    The attack to its end, against a rewrap that believed what a companion said: the tenant's data key opens under the
    attacker's KEK, after the tenant's own was destroyed.
    """
    victim, forged = patient(acme, ssn="secret"), patient(evil)
    value, keys = stored(victim, "ssn", "ssn_keys")
    claimed = dict([item(evil)])
    got = vault.service.rewrap_data_key(json.loads(keys)["keys"], KeyContext(claimed))
    put(execute, forged, "ssn", value, edited(keys, keys=got.encrypted_keys, context=claimed, row=claimed))
    vault.service.keks.destroy(*item(acme), after=NOW)

    report = prove(vault, acme)

    assert (report.unreadable, report.others, report.broken, report.proven) == (1, 0, 1, False)
    with pytest.raises(CommandError, match="This is no proof"):
        call_command("vault_kek", "prove", "=".join(item(acme)), verbosity=0)


def test_forged_companion_is_left_by_rewrap_and_spoils_the_proof(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any
) -> None:
    victim, forged = patient(acme, ssn="secret"), patient(evil)
    value, keys = stored(victim, "ssn", "ssn_keys")
    claimed = dict([item(evil)])
    put(execute, forged, "ssn", value, edited(keys, context=claimed, row=claimed))
    for each in (acme, evil):
        vault.service.keks.rotate(*item(each))
    with pytest.raises(CommandError, match="1 row was left alone"):
        call_command("vault_rekey", "testapp.Patient", "--rewrap", verbosity=0)
    vault.service.keks.destroy(*item(acme), after=NOW)

    report = prove(vault, acme)

    assert (report.unreadable, report.broken, report.proven) == (1, 1, False)


def test_stored_object_that_was_edited_is_no_proof(vault: Any, acme: Organization, evil: Organization) -> None:
    objects = StoredObjects(vault.service)
    kinds = ["flip", "text", "claim", "damage", "whole"]
    names = {kind: objects.create(kind, "value", dict([item(evil)])).id for kind in kinds}
    objects.create("gone", "value", dict([item(acme)]))
    vault.service.keks.destroy(*item(acme), after=NOW)
    assert prove(vault, acme).proven

    with vault.service.store.connections.use() as connection:
        select = "SELECT sealed FROM object_version WHERE object_id = ?"
        [sealed] = connection.execute(select, [names["flip"]]).fetchone()
        flip = sealed[:12] + bytes([sealed[12] ^ 1]) + sealed[13:]
        update = "UPDATE object_version SET sealed = ? WHERE object_id = ?"
        connection.executemany(update, [(flip, names["flip"]), ("no bytes", names["text"])])
        context = json.dumps({"tenant": str(evil.pk)})
        update = "UPDATE object SET context = ? WHERE id = ?"
        connection.executemany(update, [(context, names["claim"]), ("damaged", names["damage"])])
    report = prove(vault, acme)

    assert (report.unreadable, report.others, report.broken, report.proven) == (1, 1, 4, False)
    assert owner_counts(vault, *item(evil), places())[OBJECTS] == OwnerCounts(managed=1, unreadable=4)
    kek = vault.service.keks.get(*item(evil))
    assert versions_in_use(vault, kek.id, places()) == Usage({1: 1}, altered=2)


@pytest.mark.parametrize(
    ("column", "value", "altered"),
    [
        ("sealed", "'no bytes'", 1),
        ("sealed", "CAST(x'ff00fe' AS TEXT)", 1),
        ("sealed", "1.5", 1),
        ("etag", "x'00'", 0),
        ("encrypted_keys", "x'00'", 0),
    ],
)
def test_version_keeps_its_keys_where_only_its_value_is_none(
    vault: Any, evil: Organization, column: str, value: str, altered: int
) -> None:
    """Of any other damage nothing is believed. Neither opens, is wrapped anew, or is taken for a proof."""
    objects = StoredObjects(vault.service)
    made = objects.create("damaged", "value", dict([item(evil)]))
    stored = "SELECT hex(encrypted_keys), hex(sealed) FROM object_version"
    with vault.service.store.connections.use() as connection:
        connection.execute(f"UPDATE object_version SET {column} = {value}")
        before = connection.execute(stored).fetchall()
    kek = vault.service.keks.get(*item(evil))

    assert versions_in_use(vault, kek.id, places()) == Usage(altered=altered)
    assert prove(vault, evil).broken == 1
    for call in (objects.rewrap, lambda: objects.read(made.id)):
        with pytest.raises(VaultUnavailable, match="damaged"):
            call()
    with vault.service.store.connections.use() as connection:
        assert connection.execute(stored).fetchall() == before


def test_values_that_were_moved_to_another_row_still_are_whose_they_were(
    vault: Any, acme: Organization, evil: Organization, execute: Any
) -> None:
    moved = patient(acme)
    execute("UPDATE testapp_patient SET organization_id = %s WHERE id = %s", evil.pk, moved.pk)

    assert prove(vault, acme).readable == 1
    vault.service.keks.destroy(*item(acme), after=NOW)
    assert prove(vault, acme).proven


# Usage and owners.


def test_usage_and_owners_count_nothing_that_was_altered(
    vault: Any, acme: Organization, evil: Organization, execute: Any, stored: Any
) -> None:
    rows = [patient(acme), patient(acme), patient(evil)]
    for row, claimed in ((rows[1], evil), (rows[2], acme)):
        value, keys = stored(row, "ssn", "ssn_keys")
        put(execute, row, "ssn", value, edited(keys, context=dict([item(claimed)])))
    kek = vault.service.keks.get(*item(acme))

    assert versions_in_use(vault, kek.id, places()) == Usage({1: 1}, altered=1)
    assert owner_counts(vault, *item(acme), places())["testapp.Patient.ssn_keys"] == OwnerCounts(
        managed=1, unreadable=2
    )
    told = io_of("vault_kek", "usage", "=".join(item(acme)))
    assert told.endswith("not counted: 1 value that was altered, or that does not open\n")


def test_usage_and_owners_say_what_they_could_not_verify(vault: Any, acme: Organization) -> None:
    patient(acme)
    kek = vault.service.keks.rotate(*item(acme))
    patient(acme)
    vault.service.keks.retire(*item(acme), before=2)

    assert versions_in_use(vault, kek.id, places()) == Usage({1: 1, 2: 1}, {1: 1})
    assert "version 1: 1 value, unverified: 1, retired\n" in io_of("vault_kek", "usage", "=".join(item(acme)))
    counts = owner_counts(vault, *item(acme), places())["testapp.Patient.ssn_keys"]
    assert str(counts) == "2 under the managed key, 0 under a customer's key, 1 of these unverified"


def test_usage_counts_the_copies_of_one_key_among_others(vault: Any, acme: Organization) -> None:
    Document.objects.create(organization=acme, body="text")
    kek = vault.service.keks.get("purpose", "documents")

    assert versions_in_use(vault, kek.id, places()) == Usage({1: 1})


def test_keys_of_another_vault_do_not_open_and_are_not_counted(
    vault: Any, acme: Organization, execute: Any, stored: Any
) -> None:
    row = patient(acme)
    value, keys = stored(row, "ssn", "ssn_keys")
    raw = bytearray(base64.b64decode(json.loads(keys)["keys"]))
    raw[-1] ^= 1
    put(execute, row, "ssn", value, edited(keys, keys=base64.b64encode(raw).decode()))

    assert owner_counts(vault, *item(acme), places())["testapp.Patient.ssn_keys"] == OwnerCounts(unreadable=1)
    assert prove(vault, acme).broken == 1


def test_data_key_that_rows_share_is_opened_once(vault: Any, acme: Organization, monkeypatch: Any) -> None:
    Patient.objects.bulk_create([Patient(organization=acme, ssn=str(number)) for number in range(20)])
    kek = vault.service.keks.get(*item(acme))
    opened: list[str] = []
    open_data_key = type(vault.service).open_data_key

    def counting(self: Any, encrypted_keys: str, **options: Any) -> DataKey:
        opened.append(encrypted_keys)
        return open_data_key(self, encrypted_keys, **options)

    monkeypatch.setattr(type(vault.service), "open_data_key", counting)

    assert versions_in_use(vault, kek.id, places()) == Usage({1: 40})
    assert len(opened) == len(set(opened)) == 1


def test_answers_are_not_remembered_for_longer_than_keys_are_cached(monkeypatch: Any) -> None:
    """Whoever goes through a large table does not use a data key for hours."""
    now, asked = 0.0, []
    cache = KeyCache(max_age=10, clock=lambda: now)

    def ask(encrypted_keys: str) -> str:
        asked.append(encrypted_keys)
        return "answer"

    answers = Answers(cache, ask)
    assert [answers["a"], answers["a"], asked] == ["answer", "answer", ["a"]]
    now = 10.0
    assert [answers["a"], asked] == ["answer", ["a", "a"]]
    cache.purge()
    assert [answers["a"], asked] == ["answer", ["a", "a", "a"]]
    monkeypatch.setattr("vault_fields.audit.companions.MAX_REMEMBERED", 1)
    assert [answers["b"], answers["a"], asked] == ["answer", "answer", ["a", "a", "a", "b", "a"]]


def test_answers_that_the_cache_keeps_are_left_to_it() -> None:
    cache, asked = KeyCache(), []
    cache.put(DataKey("id", "a", bytes(32)), None)
    answers = Answers(cache, asked.append, from_cache=True)

    assert [answers["a"], answers["a"], answers["b"], answers["b"], asked] == [None] * 4 + [["a", "a", "b"]]


# What lies below.


def test_value_that_cannot_be_read_with_its_row_does_not_open(vault: Any, acme: Organization, monkeypatch: Any) -> None:
    row = patient(acme)
    group = group_of(Patient._meta.get_field("ssn"))
    [found] = stored_keys([Rows("default", group)])
    key = vault.decrypt_data_key(found.claim.encrypted_keys)
    sealed = found.claim.row.envelope(group.members[0])
    require_open(group.members[0], sealed, row, key)
    assert found.claim.opening(key) == 1

    def fail(*_: Any) -> None:
        raise LookupError

    monkeypatch.setattr("vault_fields.fields.opening._bound", fail)
    with pytest.raises(DecryptionError, match="cannot be read together with its row: LookupError"):
        require_open(group.members[0], sealed, row, key)


def test_export_takes_nothing_from_a_companion_that_was_edited_since(
    vault: Any, acme: Organization, evil: Organization
) -> None:
    row = Patient.objects.get(pk=patient(acme).pk)
    assert row.ssn == "1"
    sealed = row.__dict__["ssn"]
    sealed.keys = edited(sealed.keys, context=dict([item(evil)]))

    with pytest.raises(DecryptionError, match="does not belong to its data key"):
        export_value(row, "ssn")
