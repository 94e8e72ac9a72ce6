"""Data keys that separate saves share, if a project asks for it."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.testapp.models import Patient
from vault_fields.backends.memory import InMemoryVault
from vault_fields.datakeys.sharing import MAX_CONTEXTS, KeyShare
from vault_fields.keys import KeyContext
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

A, B = KeyContext({"tenant": "a"}), KeyContext({"tenant": "b", "region": "eu"})
BACKEND = "vault_fields.backends.memory.InMemoryVault"


def sharing(settings, **options) -> None:
    settings.VAULTS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}


def test_separate_saves_share_nothing_by_default(organization) -> None:
    with assert_vault_calls(create=3):
        for n in range(3):
            Patient.objects.create(organization=organization, ssn=str(n))


def test_separate_saves_share_a_key_as_often_as_allowed(organization, other_organization, settings) -> None:
    sharing(settings, data_key_max_uses=3)
    with assert_vault_calls(create=3):
        for n in range(6):
            Patient.objects.create(organization=organization, ssn=str(n))
        Patient.objects.create(organization=other_organization, ssn="x")
    ids = [companion.decode(row.ssn_keys).key_id for row in Patient.objects.order_by("pk")]
    assert [ids.count(name) for name in dict.fromkeys(ids)] == [3, 3, 1]
    with assert_vault_calls(decrypt=3, cold=True):
        assert [row.ssn for row in Patient.objects.order_by("pk")] == ["0", "1", "2", "3", "4", "5", "x"]


def test_a_key_is_shared_for_a_limited_time() -> None:
    now = 0.0
    made = []
    share = KeyShare(max_uses=100, max_age=10, clock=lambda: now)

    def create(context):
        made.append(InMemoryVault().create_data_key(context))
        return made[-1]

    assert share.take(A, create) is share.take(A, create)
    now = 9.9
    assert share.take(A, create) is made[0]
    now = 10.0
    assert share.take(A, create) is made[1]


def test_the_contexts_used_last_are_remembered() -> None:
    vault = InMemoryVault()
    share = KeyShare(max_uses=100, max_age=10)
    first = share.take(A, vault.create_data_key)
    key = vault.create_data_key(A)
    for n in range(MAX_CONTEXTS):
        share.take(KeyContext({"n": str(n)}), lambda context: key)
    assert share.take(A, vault.create_data_key) is not first


def test_a_purge_ends_the_sharing(organization, settings) -> None:
    sharing(settings, data_key_max_uses=100)
    vault = vaults["default"]
    a, b = vault.shared_data_key(A), vault.shared_data_key(B)
    assert vault.shared_data_key(A) is a
    vault.purge({"tenant": "b"})
    assert vault.shared_data_key(A) is a
    assert vault.shared_data_key(B) is not b
    vault.purge()
    assert vault.shared_data_key(A) is not a


@pytest.mark.parametrize("options", [{"data_key_max_uses": 0}, {"data_key_max_uses": 1.5}, {"data_key_max_age": -1}])
def test_wrong_options_are_refused(options) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"VAULTS\['default'\]: data_key_max_(uses|age) must be"):
        InMemoryVault(**options)


def test_a_key_that_was_being_made_during_a_purge_is_not_shared() -> None:
    """Else one that was made just before its owner withdrew the key would go on being used for new rows."""
    vault = InMemoryVault()
    share = KeyShare(max_uses=5, max_age=60)

    def create(context: KeyContext) -> object:
        made = vault.create_data_key(context)
        share.purge({"tenant": "a"})
        return made

    first = share.take(A, create)
    second = share.take(A, vault.create_data_key)

    assert first is not second
    assert share.take(A, vault.create_data_key) is second
