"""What a Vault did not give is not asked for again while one page is made."""

import pytest

from tests.testapp.models import Patient
from vault_fields.exceptions import VaultRefused, VaultUnavailable
from vault_fields.fields.failures import Failures, known_failures, remembering
from vault_fields.runtime.deadline import NoAnswerInTime
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


@pytest.fixture
def vault():
    return vaults["default"]


def test_a_refusal_is_remembered_over_queries(patient, vault) -> None:
    with vault.fail_with(VaultRefused("no")), remembering(Failures()), assert_vault_calls(decrypt=1, cold=True):
        for _ in range(3):
            with pytest.raises(VaultRefused):
                Patient.objects.get().ssn  # noqa: B018


def test_only_within_the_block(patient, vault) -> None:
    vault.purge()
    with vault.fail_with(VaultRefused("no")), remembering(Failures()), pytest.raises(VaultRefused):
        Patient.objects.get().ssn  # noqa: B018
    assert known_failures() is None
    assert Patient.objects.get().ssn == "123-45-6789"


def test_what_is_held_by_the_cache_is_given_all_the_same(patient, vault) -> None:
    failures = Failures()
    vault.purge()
    with remembering(failures):
        with vault.fail_with(VaultRefused("no")), pytest.raises(VaultRefused):
            Patient.objects.get().ssn  # noqa: B018
        with remembering(Failures()):
            assert Patient.objects.get().ssn == "123-45-6789"
        assert Patient.objects.get().ssn == "123-45-6789"


def test_a_vault_that_was_silent_twice_is_not_asked_for_anything() -> None:
    failures = Failures()
    silence = NoAnswerInTime("silence")
    failures.note("default", {"a": silence, "b": silence})
    assert failures.of("default", "a") is silence
    assert failures.of("default", "c") is None  # One may be the provider of a single customer.
    failures.note("default", {"c": silence})
    assert failures.of("default", "d") is silence
    assert failures.of("other", "d") is None


def test_one_that_answers_anything_is_not_silent() -> None:
    failures = Failures()
    for name in "abc":
        failures.note("default", {name: NoAnswerInTime("silence"), f"{name}2": VaultRefused("no")})
        failures.note("default", {f"{name}3": VaultUnavailable("away")})
    assert failures.of("default", "d") is None
