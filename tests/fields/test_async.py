"""``aopen``: keys are asked for in coroutines, side by side, within the deadline; and a forgotten one is noticed."""

import asyncio
import threading
import time
from collections.abc import Iterator
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation

from tests.faulty_server import FaultyServer, Reply, faulty_server
from tests.keystores import make_keystore
from tests.testapp.models import Organization, Patient
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.exceptions import EnvelopeError, KeyContextMismatch, KeyRevoked, VaultUnavailable
from vault_fields.fields import aopen
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


@pytest.fixture
def answered(server: FaultyServer, settings) -> Iterator[threading.Event]:
    """A Vault over HTTP that opens no key until this is set."""
    entry = {"BACKEND": "vault_fields.backends.workos.WorkOSVault"}
    options = {"api_key": "sk_1", "base_url": server.url, "timeout": 3.0, "max_retries": 0}
    settings.VAULTS = {"default": entry | {"OPTIONS": options}}
    event = threading.Event()
    yield event
    event.set()


def stored(organization: Organization, count: int) -> list[Patient]:
    for number in range(count):
        Patient.objects.create(organization=organization, ssn=str(number), history=[number])
    vaults["default"].purge()
    return [Patient.objects.get(pk=pk) for pk in Patient.objects.order_by("pk").values_list("pk", flat=True)]


def test_several_at_once_are_asked_for_side_by_side(organization) -> None:
    rows = stored(organization, 5)
    vault = vaults["default"]
    real = vault.adecrypt_data_keys

    async def scene() -> None:
        everybody, asking = asyncio.Event(), []

        async def together(wanted):
            asking.append(wanted)
            if len(asking) == len(rows):
                everybody.set()
            await asyncio.wait_for(everybody.wait(), 30)
            return await real(wanted)

        with mock.patch.object(vault, "adecrypt_data_keys", together):
            await asyncio.gather(*(aopen([row]) for row in rows))
        assert len(asking) == len(rows)
        assert [row.ssn for row in rows] == ["0", "1", "2", "3", "4"]

    with assert_vault_calls(decrypt=5):
        asyncio.run(scene())


def test_it_asks_in_coroutines_and_within_the_deadline(organization, server, answered) -> None:
    [row] = stored(organization, 1)
    server.usual = Reply(until=answered)
    asked = len(server.seen)

    async def scene() -> None:
        before = set(threading.enumerate())
        opening = [asyncio.create_task(aopen([row])) for _ in range(3)]
        assert await asyncio.to_thread(server.wait_until_asked, asked + 1)
        begun = set(threading.enumerate()) - before
        assert not [thread.name for thread in begun if thread.name.startswith("vault-")]
        outcomes = await asyncio.gather(*opening, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(outcomes[0])] * 3
        assert isinstance(outcomes[0], VaultUnavailable)
        assert f"testapp.Patient.ssn (pk={row.pk})" in str(outcomes[0])

    began = time.monotonic()
    asyncio.run(scene())
    assert time.monotonic() - began < 60
    assert len(server.seen) == asked + 1


def test_cancelled_it_leaves_nothing_under_way_and_can_be_done_again(organization, server, answered) -> None:
    [row] = stored(organization, 1)
    server.usual = Reply(until=answered)
    asked = len(server.seen)

    async def scene() -> None:
        opening = asyncio.create_task(aopen([row]))
        assert await asyncio.to_thread(server.wait_until_asked, asked + 1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not vaults["default"].cache._in_flight
        answered.set()
        await aopen([row])
        assert row.ssn == "0"

    asyncio.run(scene())
    assert len(server.seen) == asked + 2


def test_rows_that_were_loaded_together_are_one_round(organization) -> None:
    stored(organization, 4)
    rows = list(Patient.objects.order_by("pk"))
    with assert_vault_calls(decrypt=4):
        asyncio.run(aopen(rows[:1], "ssn"))
    with assert_vault_calls():
        asyncio.run(aopen(rows))
    assert [(row.ssn, row.history) for row in rows] == [(str(number), [number]) for number in range(4)]


def test_without_a_cache_each_key_is_asked_for_once(organization, settings) -> None:
    memory = {"BACKEND": "vault_fields.backends.memory.InMemoryVault", "OPTIONS": {"key_max_age": 0}}
    settings.VAULTS = {"default": memory}
    stored(organization, 3)
    rows = list(Patient.objects.order_by("pk"))
    with assert_vault_calls(decrypt=3):
        asyncio.run(aopen(rows))
    with assert_vault_calls():
        assert [(row.ssn, row.history) for row in rows] == [(str(number), [number]) for number in range(3)]


def test_what_the_database_has_to_tell_first_is_loaded(organization) -> None:
    stored(organization, 2)
    for query in (
        Patient.objects.order_by("pk").defer("ssn"),
        Patient.objects.order_by("pk").only("name"),
        Patient.objects.raw("SELECT id, ssn FROM testapp_patient ORDER BY id"),
    ):
        rows = list(query)
        with assert_vault_calls(decrypt=2, cold=True):
            async_to_sync(aopen)(rows, "ssn", "name")
        with assert_vault_calls():
            assert [row.ssn for row in rows] == ["0", "1"]


def test_what_needs_no_key_costs_none(organization) -> None:
    Patient.objects.create(organization=organization, ssn=None)
    empty = Patient.objects.get()
    with assert_vault_calls(cold=True):
        asyncio.run(aopen([empty, Patient(organization=organization, ssn="unsaved")], "ssn", "name"))
        asyncio.run(aopen([]))
    with pytest.raises(AttributeError):
        asyncio.run(aopen([empty], "no_such_field"))


@pytest.mark.parametrize("keys", ["", "no companion", None])
def test_damage_is_told_as_reading_tells_it(organization, execute, keys) -> None:
    stored(organization, 1)
    execute("UPDATE testapp_patient SET ssn_keys = %s", keys)
    [row] = Patient.objects.all()
    with assert_vault_calls(cold=True), pytest.raises(EnvelopeError, match="testapp.Patient.ssn"):
        async_to_sync(aopen)([row], "ssn")


def test_a_row_that_was_moved_is_told(organization, other_organization, move) -> None:
    stored(organization, 1)
    move(Patient, other_organization)
    [row] = Patient.objects.all()
    with pytest.raises(KeyContextMismatch):
        async_to_sync(aopen)([row], "ssn")


def test_a_vault_that_is_gone_is_told(organization, settings) -> None:
    stored(organization, 1)
    [row] = Patient.objects.all()
    settings.VAULTS = {"other": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}
    with pytest.raises(Exception, match="which settings.VAULTS does not name"):
        asyncio.run(aopen([row], "ssn"))
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}


def test_a_revoked_key_is_told_and_not_asked_for_again_on_behalf_of_others(organization, other_organization) -> None:
    stored(organization, 2)
    Patient.objects.create(organization=other_organization, ssn="other")
    rows = list(Patient.objects.order_by("pk"))
    vault = vaults["default"]
    vault.revoke("organization_id", str(organization.pk))
    try:
        with assert_vault_calls(decrypt=3, cold=True), pytest.raises(KeyRevoked, match=f"pk={rows[0].pk}"):
            asyncio.run(aopen(rows))
        with assert_vault_calls(decrypt=1, cold=True):
            asyncio.run(aopen(rows[2:]))
    finally:
        vault.restore("organization_id", str(organization.pk))


def touched(row: Patient) -> str:
    async def read() -> str:
        return row.ssn

    return asyncio.run(read())


def test_a_forgotten_aopen_fails_in_tests_though_the_key_is_cached(organization) -> None:
    Patient.objects.create(organization=organization, ssn="s")
    row = Patient.objects.get()
    with assert_vault_calls(), pytest.raises(SynchronousOnlyOperation, match="VAULT_REQUIRE_AOPEN"):
        touched(row)
    asyncio.run(aopen([row]))
    assert touched(row) == "s"


@pytest.mark.parametrize(("debug", "demanded"), [(True, True), (False, False)])
def test_elsewhere_it_fails_under_debug_or_where_it_is_demanded(
    organization, settings, tmp_path, debug, demanded
) -> None:
    options = {"path": tmp_path / "vault.sqlite3", "root_key": generate_root_key()}
    make_keystore(**options)
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": options}}
    settings.DEBUG = debug
    Patient.objects.create(organization=organization, ssn="s")
    if demanded:
        with pytest.raises(SynchronousOnlyOperation):
            touched(Patient.objects.get())
    else:
        assert touched(Patient.objects.get()) == "s"
    for setting in (True, False):
        settings.VAULT_REQUIRE_AOPEN = setting
        row = Patient.objects.get()
        if setting:
            with pytest.raises(SynchronousOnlyOperation):
                touched(row)
        else:
            assert touched(row) == "s"
