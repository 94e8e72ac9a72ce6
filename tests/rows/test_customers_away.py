"""A customer's key that does not answer is the error of that customer's rows: the others are dealt with."""

import json
import re
import secrets
from contextlib import ExitStack, closing
from io import StringIO
from types import SimpleNamespace
from typing import Never

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.keystores import make_keystore
from tests.server.conftest import running
from tests.testapp.models import Legacy, Organization
from vault_fields.audit.places import places
from vault_fields.audit.shredding import prove_shredded
from vault_fields.backends.local import LocalVault
from vault_fields.byok import KINDS
from vault_fields.byok.keyfile import KeyFile
from vault_fields.embedded.customer import circuits
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.embedded.objects import StoredObjects
from vault_fields.exceptions import KeyUnavailable, RowsLeftAlone, VaultRefused, VaultThrottled, VaultUnavailable
from vault_fields.fields.newkeys import NewKeys
from vault_fields.keys import KeyContext
from vault_fields.operations import EncryptField
from vault_fields.rows.backfill import encrypt_column
from vault_fields.rows.rewriting import convert_column
from vault_fields.runtime.deadline import NoAnswerInTime
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key
from vault_fields.vaults import vaults

FAULTS = {
    "hangs": NoAnswerInTime("It did not answer in time."),
    "fails": VaultUnavailable("It answered with HTTP 500."),
    "throttles": VaultThrottled("It asks for fewer calls."),
    "refuses": VaultRefused("It refused the credentials."),
}
TEXT = Legacy._meta.get_field("text")


class Customer:
    """The provider of one customer, and what it does."""

    def __init__(self, service):
        self.service = service
        self.fault = None
        self.asked = 0

    def take(self, organization, path) -> None:
        path.touch(0o600)
        path.write_bytes(secrets.token_bytes(32))
        byok, item = self.service.byok, ("organization_id", str(organization.pk))
        byok.configure(*item, provider="theirs", settings={"path": str(path)})
        byok.verify(*item)
        byok.activate(*item)
        self.asked = 0

    def away(self, fault="hangs") -> None:
        self.fault, self.asked = FAULTS[fault], 0
        for alias in vaults:
            vaults[alias].purge()


@pytest.fixture(params=["embedded", "served"])
def customer(request, tmp_path, settings, monkeypatch):
    """Of a vault in this process, and of one that is asked over HTTP."""
    local = {"path": str(tmp_path / "vault.sqlite3"), "root_key": generate_root_key()}
    make_keystore(**local)
    entry = {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": local}
    with ExitStack() as stack:
        if request.param == "served":
            served = stack.enter_context(closing(LocalVault("served", **local)))
            served.service.unlock()
            url = stack.enter_context(
                running(VaultApi(served.service, ApiKeys([ApiKey(hash_api_key("sk_test_4f9Za81"))])))
            )
            options = {"api_key": "sk_test_4f9Za81", "base_url": url, "max_retries": 0}
            entry = {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": options}
        settings.VAULTS = {"default": entry}
        customer = Customer(served.service if request.param == "served" else vaults["default"].service)

        class Theirs(KeyFile):
            def wrap(self, *args, **kwargs):
                self.ask()
                return super().wrap(*args, **kwargs)

            def unwrap(self, *args, **kwargs):
                self.ask()
                return super().unwrap(*args, **kwargs)

            def ask(self) -> None:
                customer.asked += 1
                if customer.fault is not None:
                    raise customer.fault.with_traceback(None)

        monkeypatch.setitem(KINDS, "theirs", Theirs)
        yield customer
        vaults["default"].close()


@pytest.fixture
def theirs(customer, organization, tmp_path):
    """Three rows of the customer, each with a data key under their key."""
    customer.take(organization, tmp_path / "customer.key")
    return [Legacy.objects.create(organization=organization, text="theirs") for _ in range(3)]


@pytest.fixture
def others(customer, other_organization):
    return [Legacy.objects.create(organization=other_organization, text="others") for _ in range(3)]


def run(name, *args, fails, **options):
    """What a command tells, to standard output and to standard error."""
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match=fails) as ended:
        call_command(name, *args, stdout=out, stderr=err, **options)
    assert ended.value.returncode == 1
    return out.getvalue(), err.getvalue()


def assert_named(err, rows) -> None:
    lines = err.splitlines()
    assert len(lines) == len(rows)
    for row in rows:
        assert sum(f"testapp.Legacy.text (pk={row.pk})" in line for line in lines) == 1


def texts(rows):
    return list(Legacy.objects.filter(pk__in=[row.pk for row in rows]).values_list("text_keys", flat=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_reencrypting_goes_on_without_them(customer, theirs, others, fault) -> None:
    before = texts(theirs), texts(others)
    customer.away(fault)
    out, err = run("vault_reencrypt", "testapp.Legacy", "text", fails="3 rows were left alone")
    assert_named(err, theirs)
    assert "3 re-encrypted" in out
    assert "3 failed" in out
    assert texts(theirs) == before[0]
    assert not {*texts(others)} & {*before[1]}


@pytest.mark.parametrize("fault", FAULTS)
def test_decrypting_goes_on_without_them(customer, theirs, others, fault, stored) -> None:
    customer.away(fault)
    out, err = run("vault_decrypt", "testapp.Legacy", "text", fails="3 rows were left alone")
    assert_named(err, theirs)
    assert "decrypted 3 of 6 rows" in out
    assert [stored(row, "text") for row in others] == [("others",)] * 3


@pytest.fixture
def plain(customer, organization, other_organization, execute, tmp_path):
    """Plaintext of the customer, and of another organization; the second row has an encrypted value beside it."""
    customer.take(organization, tmp_path / "customer.key")
    rows = []
    for each in (organization, other_organization):
        for _ in range(3):
            rows.append(Legacy.objects.create(organization=each))
            execute("UPDATE testapp_legacy SET text = 'plain' WHERE id = %s", rows[-1].pk)
    return rows[:3], rows[3:]


@pytest.mark.parametrize("fault", FAULTS)
def test_encrypting_goes_on_without_them(customer, plain, fault) -> None:
    theirs, others = plain
    customer.away(fault)
    out, err = run("vault_encrypt", "testapp.Legacy", "text", fails="3 rows were left alone")
    assert_named(err, theirs)
    assert "encrypted 3 of 6 rows" in out
    assert texts(theirs) == [None] * 3
    assert None not in texts(others)
    assert customer.asked == 1, "nobody waits for each row of one context"


def test_a_migration_counts_and_names_them(customer, plain) -> None:
    theirs, others = plain
    customer.away()
    with pytest.raises(RowsLeftAlone, match="3 rows cannot be encrypted") as told:
        EncryptField("legacy", "text")._run(encrypt_column, TEXT, SimpleNamespace(connection=connection))
    assert f"pk={', '.join(str(row.pk) for row in theirs)}" in str(told.value)
    assert None not in texts(others)


@pytest.mark.parametrize("fault", FAULTS)
def test_rewrapping_goes_on_without_them(customer, others, organization, fault, tmp_path) -> None:
    """Their rows open with the managed key, and are to be wrapped by their own."""
    theirs = [Legacy.objects.create(organization=organization, text="theirs") for _ in range(3)]
    customer.take(organization, tmp_path / "customer.key")
    customer.service.keks.rotate("organization_id", str(others[0].organization_id))
    before = texts(theirs), texts(others)
    customer.away(fault)
    out, err = run("vault_rekey", "testapp.Legacy", rewrap=True, fails="3 rows were left alone")
    assert_named(err, theirs)
    assert "3 rekeyed" in out
    assert texts(theirs) == before[0]
    assert not {*texts(others)} & {*before[1]}
    assert fault == "refuses" or customer.asked == 1


def test_converting_goes_on_without_them(customer, theirs, others) -> None:
    customer.away()
    problems = []
    report = convert_column(TEXT, str.upper, on_problem=problems.append)
    assert (report.written, report.failed) == (3, 3)
    assert_named("\n".join(problems), theirs)


@pytest.mark.parametrize("fault", ["hangs", "fails", "throttles"])
def test_a_proof_goes_on_and_is_none(customer, theirs, others, fault) -> None:
    gone = Organization.objects.create(workos_id="org_gone")
    Legacy.objects.create(organization=gone, text="gone")
    item = f"organization_id={gone.pk}"
    customer.service.keks.disable("organization_id", str(gone.pk))
    customer.away(fault)
    out, err = run("vault_kek", "prove", item, fails="This is no proof")
    assert "Of the values of other keys 3 open" in out
    assert "Of 3 it cannot be told, because a customer's key does not answer." in out
    assert len(err.splitlines()) == 3
    assert all(f"testapp.Legacy.text_keys (pk={row.pk})" in err for row in theirs)
    report = prove_shredded(vaults["default"], "organization_id", str(gone.pk), places())
    assert (report.unanswered, report.others, report.proven) == (3, 3, False)


def test_the_vault_as_a_whole_ends_the_command(customer, theirs, others, monkeypatch) -> None:
    def away(*args) -> Never:
        raise VaultUnavailable("The keystore is locked.")

    vaults["default"].purge()
    monkeypatch.setattr(type(customer.service), "_opened", away)
    out, err = run("vault_decrypt", "testapp.Legacy", "text", fails="VAULTS.*the command can be run again")
    assert (out, err) == ("", "")


def test_who_hangs_is_waited_for_once(customer, organization, others, tmp_path) -> None:
    """However many rows they have."""
    customer.take(organization, tmp_path / "customer.key")
    rows = [Legacy.objects.create(organization=organization, text="theirs") for _ in range(30)]
    customer.away()
    _, err = run("vault_reencrypt", "testapp.Legacy", "text", batch_size=10, fails="30 rows were left alone")
    assert_named(err, rows)
    assert customer.asked <= circuits.MAX_CALLS_AT_ONCE


def test_rows_that_were_not_reached_in_time_are_asked_for_again(customer, theirs, others, monkeypatch) -> None:
    """The time that one customer took from the others is not their error."""
    vault, ask, rounds = vaults["default"], vaults["default"].decrypt_data_keys, []
    slow = {json.loads(text)["keys"] for text in texts(theirs)}

    def decrypt_data_keys(wanted):
        reached = [name for name in wanted if rounds or name in slow]
        rounds.append(len(wanted))
        return dict.fromkeys(wanted, vault._missed()) | ask(dict.fromkeys(reached))

    customer.away()
    monkeypatch.setattr(vault, "decrypt_data_keys", decrypt_data_keys)
    problems = []
    report = convert_column(TEXT, str.upper, on_problem=problems.append)
    assert (report.written, report.failed, rounds) == (3, 3, [6, 3])


def test_what_was_not_reached_of_a_key_that_is_away_is_not_asked_for_again(
    customer, theirs, others, monkeypatch
) -> None:
    vault, ask, rounds = vaults["default"], vaults["default"].decrypt_data_keys, []

    def decrypt_data_keys(wanted):
        outcomes = ask(wanted)
        rounds.append(len(wanted))
        late = [name for name in [*wanted][1:] if isinstance(outcomes[name], KeyUnavailable)]
        return outcomes | dict.fromkeys(late, vault._missed())

    customer.away()
    monkeypatch.setattr(vault, "decrypt_data_keys", decrypt_data_keys)
    problems = []
    report = convert_column(TEXT, str.upper, on_problem=problems.append)
    assert (report.written, report.failed, rounds) == (3, 3, [6])
    assert_named("\n".join(problems), theirs)


def test_their_stored_objects_are_told_of_and_the_others_wrapped(customer, organization, tmp_path) -> None:
    customer.take(organization, tmp_path / "customer.key")
    objects = StoredObjects(customer.service)
    objects.create("theirs", "value", {"organization_id": str(organization.pk)})
    objects.create("others", "value", {"organization_id": "other"})
    customer.service.keks.rotate("organization_id", "other")
    customer.away()
    with pytest.raises(KeyUnavailable):
        objects.rewrap()
    problems = []
    assert objects.rewrap(on_problem=problems.append) == 1
    assert len(problems) == 1
    assert re.match("version [^ ]+ of a stored object: The customer key for", problems[0])


def test_a_key_that_answers_again_makes_new_keys_again(customer, plain, monkeypatch) -> None:
    """Within one operation, after a moment, or once a purge has said that something changed."""
    monkeypatch.setattr(circuits, "PAUSE", 0.0)
    theirs, _ = plain
    context, keys = KeyContext({"organization_id": str(theirs[0].organization_id)}), NewKeys()
    customer.away()
    for _ in range(2):
        with pytest.raises(KeyUnavailable):
            keys.take("default", context)
    assert customer.asked == 1
    customer.fault = None
    vaults["default"].purge()
    assert keys.take("default", context)
