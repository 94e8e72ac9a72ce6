"""``try_open``: one value that does not open is an outcome of its own, and what is beside it is right."""

import asyncio
import logging
import pickle
from unittest import mock

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.template import Context, Template

from tests.testapp.models import Patient
from vault_fields.exceptions import (
    DecryptionError,
    EnvelopeError,
    KeyContextMismatch,
    KeyRevoked,
    PlaintextFound,
    UnknownVault,
    VaultError,
    VaultRefused,
    VaultThrottled,
    VaultUnavailable,
)
from vault_fields.fields import Attempt, aopen, try_open
from vault_fields.fields.batch import FAILURE_AGE
from vault_fields.runtime.deadline import NoAnswerInTime
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

SECRET = "078-05-1120"


@pytest.fixture
def page(organization, other_organization):
    """Two rows of each of two tenants, read together; the keys of the second tenant are withdrawn."""
    for owner in (organization, other_organization):
        for number in range(2):
            Patient.objects.create(organization=owner, name=owner.workos_id, ssn=f"{SECRET}-{number}", history=[number])
    vault = vaults["default"]
    vault.purge()
    vault.revoke("organization_id", str(other_organization.pk))
    yield list(Patient.objects.order_by("pk"))
    vault.restore("organization_id", str(other_organization.pk))


def test_a_value_that_opens_is_true_whatever_it_is(organization) -> None:
    row = Patient.objects.create(organization=organization, ssn="", history=[])
    row = Patient.objects.get(pk=row.pk)
    for name, value in (("ssn", ""), ("history", []), ("notes", None), ("pk", row.pk)):
        attempt = try_open(row, name)
        assert attempt
        assert (attempt.value, attempt.error, attempt.reason, str(attempt)) == (value, None, None, str(value))


def test_one_that_does_not_open_has_the_error_that_reading_raises(page) -> None:
    # Four of the page, one that is tried again, and two for the other column, whose values were read together too.
    with assert_vault_calls(decrypt=7):
        opened, closed = try_open(page[0], "ssn"), try_open(page[3], "ssn")
        assert [bool(try_open(row, name)) for row in page for name in ("ssn", "history")] == [True] * 4 + [False] * 4
    assert (bool(opened), opened.value) == (True, f"{SECRET}-0")
    assert not closed
    for _ in range(2):
        with pytest.raises(KeyRevoked, match=rf"testapp.Patient.ssn \(pk={page[3].pk}\)") as raised:
            _ = closed.value
    assert len(raised.traceback) == 2
    assert str(closed) == str(closed.reason) == "The key for this was withdrawn by its owner."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (VaultUnavailable("x"), "The keys for this cannot be reached at the moment. Try again in a minute."),
        (VaultThrottled("x"), "The keys for this cannot be reached at the moment. Try again in a minute."),
        (VaultRefused("x"), "The keys for this are not available."),
        (VaultError("x"), "The keys for this are not available."),
        (KeyRevoked("x"), "The key for this was withdrawn by its owner."),
        (DecryptionError("x"), "This value cannot be read."),
        (PlaintextFound("x"), "This value cannot be read."),
    ],
)
def test_users_are_told_the_kind_of_error_and_nothing_of_the_value(error, reason) -> None:
    assert str(Attempt(error=error).reason) == reason


def test_whatever_else_goes_wrong_is_raised(patient, page) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        try_open(page[0], "no_such_name")
    deleted = Patient.objects.defer("ssn").get(pk=patient.pk)
    Patient.objects.filter(pk=patient.pk).delete()
    with pytest.raises(Patient.DoesNotExist):
        try_open(deleted, "ssn")


def test_damage_of_every_kind_is_an_outcome(organization, other_organization, execute, move) -> None:
    rows = [Patient.objects.create(organization=organization, ssn=SECRET) for _ in range(5)]
    execute("UPDATE testapp_patient SET ssn = %s WHERE id = %s", "in the clear", rows[0].pk)
    execute("UPDATE testapp_patient SET ssn_keys = NULL WHERE id = %s", rows[1].pk)
    execute(
        "UPDATE testapp_patient SET ssn_keys = REPLACE(ssn_keys, %s, %s) WHERE id = %s",
        *('"vault":"default"', '"vault":"gone"', rows[2].pk),
    )
    move(Patient, other_organization, rows[3].pk)
    attempts = [try_open(row, "ssn") for row in Patient.objects.order_by("pk")]
    kinds = [PlaintextFound, EnvelopeError, UnknownVault, KeyContextMismatch]
    assert [type(attempt.error) for attempt in attempts[:4]] == kinds
    assert attempts[4].value == SECRET
    for row, attempt in zip(rows, attempts[:4], strict=False):
        assert f"testapp.Patient.ssn (pk={row.pk})" in str(attempt.error)
        assert SECRET not in str(attempt.error) + str(attempt) + repr(attempt)


def test_it_leaves_no_plaintext_in_logs_reprs_and_pickles(page, caplog) -> None:
    with caplog.at_level(logging.DEBUG, "vault_fields"):
        attempts = [try_open(row, "ssn") for row in page]
    assert repr(attempts[:3:2]) == "[<Attempt: opened>, <Attempt: KeyRevoked>]"
    for attempt in attempts:
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(attempt)
    assert [f"(pk={row.pk})" in record.getMessage() for row, record in zip(page[2:], caplog.records, strict=True)]
    assert SECRET not in caplog.text


def test_damage_is_logged_louder_than_what_somebody_decided(patient, execute, caplog) -> None:
    vault = vaults["default"]
    caplog.set_level(logging.INFO, "vault_fields.fields")
    vault.purge()
    for error in (VaultRefused("no"), VaultUnavailable("away")):
        with vault.fail_with(error):
            assert not try_open(Patient.objects.get(), "ssn")
    execute("UPDATE testapp_patient SET ssn = 'in the clear'")
    assert not try_open(Patient.objects.get(), "ssn")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "ERROR"]


# A page of rows that do not open.


def test_rows_that_were_read_together_are_refused_in_one_round(page) -> None:
    with assert_vault_calls(decrypt=4):
        assert [bool(try_open(row, "ssn")) for row in page] == [True, True, False, False]


def test_one_that_was_refused_opens_when_it_is_tried_again_later(page, other_organization) -> None:
    row = page[2]
    assert not try_open(row, "ssn")
    vaults["default"].restore("organization_id", str(other_organization.pk))
    assert try_open(row, "ssn").value == f"{SECRET}-0"


def test_a_silent_vault_is_waited_for_once_however_often_a_page_tries(page) -> None:
    vault = vaults["default"]
    vault.purge()
    for row in page:
        row.refresh_from_db()
    rows = list(Patient.objects.order_by("pk"))
    now = 0.0
    vault.cache._clock = lambda: now
    with vault.fail_with(NoAnswerInTime("silence")):
        with assert_vault_calls(decrypt=4):
            assert not any(try_open(row, "ssn") for row in rows * 3)
        now = FAILURE_AGE
        with assert_vault_calls(decrypt=4):
            assert not any(try_open(row, "ssn") for row in rows * 3)
    now *= 2
    assert [bool(try_open(row, "ssn")) for row in rows] == [True, True, False, False]


def test_the_time_that_a_silent_vault_took_is_not_that_for_which_it_is_left_alone(page) -> None:
    """With the usual time-out it would be over when the first row has failed, and each row would wait."""
    vault = vaults["default"]
    vault.purge()
    rows = list(Patient.objects.order_by("pk"))
    now, real = 0.0, vault.decrypt_data_keys
    vault.cache._clock = lambda: now

    def slowly(wanted):
        nonlocal now
        now += FAILURE_AGE
        return real(wanted)

    with (
        vault.fail_with(NoAnswerInTime("silence")),
        mock.patch.object(vault, "decrypt_data_keys", slowly),
        assert_vault_calls(decrypt=4),
    ):
        assert not any(try_open(row, "ssn") for row in rows)


def test_what_failed_while_the_cache_was_purged_is_asked_for_again(page) -> None:
    vault = vaults["default"]
    vault.purge()
    rows = list(Patient.objects.order_by("pk"))
    real = vault.decrypt_data_keys

    def meanwhile(wanted):
        outcomes = real(wanted)
        vault.purge()
        return outcomes

    with vault.fail_with(VaultRefused("no")), mock.patch.object(vault, "decrypt_data_keys", meanwhile):
        assert not try_open(rows[0], "ssn")
    assert try_open(rows[1], "ssn")


# In templates.


def rendered(template: str, **context: object) -> str:
    return Template("{% load vault_fields %}" + template).render(Context(context))


def test_a_template_shows_the_value_or_the_reason(page) -> None:
    template = '{% for row in rows %}[{{ row|try_open:"ssn" }}]{% endfor %}'
    withdrawn = "[The key for this was withdrawn by its owner.]"
    assert rendered(template, rows=page) == f"[{SECRET}-0][{SECRET}-1]{withdrawn * 2}"


def test_a_template_has_both_apart(page) -> None:
    template = (
        '{% for row in rows %}{% with ssn=row|try_open:"ssn" %}'
        "{% if ssn %}{{ ssn.value|slice:'-4:' }}{% else %}<em>{{ ssn.reason }}</em>{% endif %};"
        "{% endwith %}{% endfor %}"
    )
    withdrawn = "<em>The key for this was withdrawn by its owner.</em>;"
    assert rendered(template, rows=page) == f"20-0;20-1;{withdrawn * 2}"


def test_a_template_that_shows_a_value_without_asking_fails(page) -> None:
    with pytest.raises(KeyRevoked):
        rendered('{% with ssn=row|try_open:"ssn" %}{{ ssn.value }}{% endwith %}', row=page[2])
    with pytest.raises(AttributeError):
        rendered('{{ row|try_open:"sns" }}', row=page[2])


def test_values_are_escaped(organization) -> None:
    row = Patient(organization=organization, ssn="<b>")
    assert rendered('{{ row|try_open:"ssn" }}', row=row) == "&lt;b&gt;"


# In coroutines.


def test_ahead_of_a_coroutine_what_opens_is_opened_and_the_rest_raises_where_it_is_read(page) -> None:
    async def scene():
        with pytest.raises(KeyRevoked):
            await aopen(page)
        await aopen(page, strict=False)
        return [try_open(row, name) for row in page for name in ("ssn", "history")]

    with assert_vault_calls(decrypt=6):
        attempts = asyncio.run(scene())
    assert [bool(attempt) for attempt in attempts] == [True] * 4 + [False] * 4
    assert [attempt.value for attempt in attempts[:4]] == [f"{SECRET}-0", [0], f"{SECRET}-1", [1]]
    assert {type(attempt.error) for attempt in attempts[4:]} == {KeyRevoked}


def test_a_coroutine_may_read_the_rest_as_often_as_it_likes_and_threads_try_again(page, other_organization) -> None:
    row = page[2]

    async def scene() -> None:
        await aopen([row], "ssn", strict=False)
        for _ in range(2):
            with pytest.raises(KeyRevoked, match=rf"testapp.Patient.ssn \(pk={row.pk}\)"):
                _ = row.ssn
        with pytest.raises(SynchronousOnlyOperation):
            _ = row.history

    with assert_vault_calls(decrypt=4):
        asyncio.run(scene())
    vaults["default"].restore("organization_id", str(other_organization.pk))
    assert row.ssn == f"{SECRET}-0"


def test_ahead_of_a_coroutine_whatever_else_goes_wrong_is_raised(page) -> None:
    with pytest.raises(AttributeError):
        asyncio.run(aopen(page, "no_such_name", strict=False))
