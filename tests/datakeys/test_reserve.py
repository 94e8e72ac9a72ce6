"""Data keys that are fetched ahead of the saves that use them, if a project asks for it."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.testapp.models import Patient
from vault_fields.backends.memory import InMemoryVault
from vault_fields.datakeys import prefetch
from vault_fields.datakeys.prefetch import KeyReserve
from vault_fields.exceptions import KeyRevoked, VaultThrottled, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

A, B = KeyContext({"tenant": "a"}), KeyContext({"tenant": "b", "region": "eu"})
BACKEND = "vault_fields.backends.memory.InMemoryVault"


def prefetching(settings, **options) -> None:
    settings.VAULTS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}


class Maker:
    """Makes keys and notes how many it was asked for at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.vault = InMemoryVault()

    def __call__(self, context: KeyContext, count: int) -> list[DataKey]:
        self.asked.append(count)
        return [self.vault.create_data_key(context) for _ in range(count)]


@pytest.fixture
def maker() -> Maker:
    return Maker()


def test_nothing_is_fetched_ahead_by_default(organization) -> None:
    with assert_vault_calls(create=3):
        for n in range(3):
            Patient.objects.create(organization=organization, ssn=str(n))


def test_saves_that_follow_each_other_fetch_more_and_more_keys(organization, other_organization, settings) -> None:
    prefetching(settings, max_prefetched_keys=4)
    with assert_vault_calls(create=1 + 2 + 4 + 4 + 1):
        for n in range(10):
            Patient.objects.create(organization=organization, ssn=str(n))
        Patient.objects.create(organization=other_organization, ssn="x")
    keys = [companion.decode(row.ssn_keys).encrypted_keys for row in Patient.objects.all()]
    assert len(set(keys)) == 11
    with assert_vault_calls(decrypt=11, cold=True):
        assert [row.ssn for row in Patient.objects.order_by("pk")] == [*map(str, range(10)), "x"]


def test_rows_of_one_operation_share_a_key_that_was_fetched_ahead(organization, settings) -> None:
    prefetching(settings, max_prefetched_keys=2)
    with assert_vault_calls(create=3):
        Patient.objects.create(organization=organization, ssn="1")
        Patient.objects.bulk_create(Patient(organization=organization, ssn=str(n)) for n in range(3))
        Patient.objects.create(organization=organization, ssn="2")
    assert len({companion.decode(row.ssn_keys).encrypted_keys for row in Patient.objects.all()}) == 3


def test_saves_that_share_keys_take_them_from_the_reserve(organization, settings) -> None:
    prefetching(settings, max_prefetched_keys=8, data_key_max_uses=2)
    with assert_vault_calls(create=1 + 2):
        for n in range(6):
            Patient.objects.create(organization=organization, ssn=str(n))


def test_a_key_waits_no_longer_than_a_cache_would_hold_it(maker) -> None:
    now = 0.0
    held = KeyReserve(most=8, max_keys=100, max_age=10, clock=lambda: now)
    for _ in range(2):
        held.take(A, maker)
    assert len(held) == 1
    now = 10.0
    held.take(A, maker)
    assert maker.asked == [1, 2, 1]
    now = 10.5
    held.take(B, maker)
    now = 20.2
    held.take(B, maker)
    assert maker.asked == [1, 2, 1, 1, 2]


def test_a_key_that_is_too_old_is_refused_before_it_is_swept(maker) -> None:
    now = 0.0
    held = KeyReserve(most=8, max_keys=100, max_age=10, clock=lambda: now)
    now = 0.9
    held.take(A, maker)
    now = 9.9
    held.take(A, maker)
    now = 10.2
    held.take(B, maker)
    now = 19.95
    assert len(held) == 1
    held.take(A, maker)
    assert maker.asked == [1, 2, 1, 1]


def test_there_are_never_more_than_the_cache_may_hold(maker) -> None:
    held = KeyReserve(most=8, max_keys=4, max_age=10)
    for _ in range(8):
        held.take(A, maker)
        assert len(held) <= 4
        held.take(B, maker)
        assert len(held) <= 4
    assert max(maker.asked) == 4


@pytest.mark.parametrize("options", [{"key_max_age": 0}, {"max_cached_keys": 0}, {"max_prefetched_keys": 1}])
def test_nothing_is_kept_where_nothing_may_be_cached(options) -> None:
    vault = InMemoryVault(**{"max_prefetched_keys": 8, **options})
    for _ in range(5):
        vault.shared_data_key(A)
    assert vault.calls["create"] == 5


def test_a_purge_drops_what_waits(settings) -> None:
    prefetching(settings, max_prefetched_keys=8)
    vault = vaults["default"]
    for context in (A, A, B, B):
        vault.shared_data_key(context)
    assert vault.calls["create"] == 6
    vault.purge({"tenant": "b"})
    vault.shared_data_key(A)
    assert vault.calls["create"] == 6
    vault.shared_data_key(B)
    assert vault.calls["create"] == 7
    vaults.purge()
    vault.shared_data_key(A)
    assert vault.calls["create"] == 8


def test_a_key_that_is_withdrawn_encrypts_no_new_row(settings) -> None:
    prefetching(settings, max_prefetched_keys=8)
    vault = vaults["default"]
    for _ in range(2):
        vault.shared_data_key(A)
    vault.revoke("tenant", "a")
    with pytest.raises(KeyRevoked):
        vault.shared_data_key(A)


def test_what_was_being_made_during_a_purge_does_not_wait(maker) -> None:
    held = KeyReserve(most=8, max_keys=100, max_age=10)
    held.take(A, maker)

    def make(context: KeyContext, count: int) -> list[DataKey]:
        held.purge({"tenant": "b"})
        return maker(context, count)

    held.take(A, make)
    assert len(held) == 0


def test_a_forked_child_begins_without_keys(maker) -> None:
    held = KeyReserve(most=8, max_keys=100, max_age=10)
    for _ in range(2):
        held.take(A, maker)
    held.reset_in_child()
    assert len(held) == 0


def test_the_contexts_used_last_are_remembered(maker, monkeypatch) -> None:
    monkeypatch.setattr(prefetch, "MAX_CONTEXTS", 2)
    held = KeyReserve(most=8, max_keys=100, max_age=10)
    for name in "abc":
        held.take(KeyContext({"tenant": name}), maker)
    held.take(A, maker)
    assert maker.asked == [1, 1, 1, 1]


def test_a_vault_that_makes_some_of_the_keys_is_asked_for_fewer_next_time(monkeypatch) -> None:
    vault = InMemoryVault(max_prefetched_keys=8, max_concurrency=1)
    for _ in range(3):
        vault.shared_data_key(A)
    create, made = InMemoryVault._create, []

    def throttle(self: InMemoryVault, context: KeyContext) -> DataKey:
        if len(made) == 2:
            raise VaultThrottled("slowly", alias="default")
        made.append(create(self, context))
        return made[-1]

    monkeypatch.setattr(InMemoryVault, "_create", throttle)
    taken = [vault.shared_data_key(A) for _ in range(2)]
    assert set(taken) == set(made)
    monkeypatch.undo()
    before = vault.calls["create"]
    vault.shared_data_key(A)
    assert vault.calls["create"] == before + 4


def test_where_no_key_can_be_had_the_error_says_why() -> None:
    vault = InMemoryVault(max_prefetched_keys=8)
    vault.shared_data_key(A)
    with vault.fail_with(VaultUnavailable("away")), pytest.raises(VaultUnavailable, match="away"):
        vault.shared_data_key(A)
    vault.shared_data_key(A)


@pytest.mark.parametrize("number", [-1, 1.5, "8"])
def test_wrong_options_are_refused(number) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"VAULTS\['default'\]: max_prefetched_keys must be"):
        InMemoryVault(max_prefetched_keys=number)


def test_of_threads_that_find_no_key_one_fetches_more_than_its_own(maker: Maker) -> None:
    reserve = KeyReserve(most=4, max_keys=100, max_age=60)
    reserve.take(A, maker)

    def meanwhile(context: KeyContext, count: int) -> list[DataKey]:
        reserve.take(context, maker)
        return maker(context, count)

    reserve.take(A, meanwhile)
    assert maker.asked == [1, 1, 2]
    assert len(reserve) == 1


def test_a_fetch_that_failed_does_not_keep_others_from_fetching_ahead(maker: Maker) -> None:
    reserve = KeyReserve(most=4, max_keys=100, max_age=60)
    reserve.take(A, maker)

    def failing(context: KeyContext, count: int) -> list[DataKey]:
        raise VaultUnavailable("away")

    with pytest.raises(VaultUnavailable):
        reserve.take(A, failing)
    reserve.take(A, maker)
    assert maker.asked == [1, 2]
