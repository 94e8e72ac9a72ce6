"""A customer's provider that takes a call and answers nothing costs that customer, and nobody else."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.byok.conftest import ACME, ITEM, OTHER, MakeVault, activate
from tests.byok.peers import Bao, Gate
from tests.threads import join
from vault_fields.backends.local import LocalVault
from vault_fields.byok import KINDS
from vault_fields.byok.keyfile import KeyFile
from vault_fields.embedded.customer import circuits
from vault_fields.embedded.customer.provider import Binding
from vault_fields.exceptions import VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import NoAnswerInTime

BETA = KeyContext({"organization_id": "beta"})


class Silent(KeyFile):
    """A key file that may take as long as it is allowed to and then give up."""

    is_silent = False
    woken = threading.Event()
    asked = 0

    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        type(self).asked += 1
        if self.is_silent:
            self.woken.wait(timeout)
            raise NoAnswerInTime("The silent provider did not answer in time.")
        return super().unwrap(wrapped, binding, timeout=timeout)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Silent]]:
    class Provider(Silent):
        woken = threading.Event()

    assert isinstance(KINDS, dict)
    monkeypatch.setitem(KINDS, "silent", Provider)
    # Those of other tests may be there for as long as this process lives.
    before = set(threading.enumerate())
    yield Provider
    Provider.woken.set()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("vault-"):
            join(thread)


@pytest.fixture
def two_customers(make_vault: MakeVault, silent: type[Silent], key_file: Path) -> Callable[..., LocalVault]:
    def make(**options: object) -> LocalVault:
        vault = make_vault(**options)
        settings: Mapping[str, str] = {"path": str(key_file)}
        activate(vault, {"provider": "silent", "settings": settings})
        activate(vault, {"provider": "file", "settings": settings}, "organization_id", "beta")
        silent.asked = 0
        return vault

    return make


def keys_of(vault: LocalVault, context: KeyContext, count: int) -> dict[str, None]:
    keys = {vault.create_data_key(context).encrypted_keys: None for _ in range(count)}
    vault.purge()
    return keys


def test_the_page_of_another_customer_does_not_wait(
    two_customers: Callable[..., LocalVault], silent: type[Silent]
) -> None:
    vault = two_customers(timeout=30.0, max_concurrency=4)
    acme, beta = keys_of(vault, ACME, 40), keys_of(vault, BETA, 12)
    silent.is_silent = True
    stuck = threading.Thread(target=vault.decrypt_data_keys, args=[acme], daemon=True)
    stuck.start()
    outcomes = vault.decrypt_data_keys(beta)
    assert stuck.is_alive(), "the first page still waits"
    assert all(isinstance(outcome, DataKey) for outcome in outcomes.values())


@pytest.mark.parametrize(("max_concurrency", "bound"), [(3, 3), (32, circuits.MAX_CALLS_AT_ONCE)])
def test_so_many_calls_to_a_customers_key_are_under_way(
    two_customers: Callable[..., LocalVault], silent: type[Silent], max_concurrency: int, bound: int
) -> None:
    """Of one page, and of two."""
    vault = two_customers(timeout=60.0, max_concurrency=max_concurrency)
    pages = [keys_of(vault, ACME, 20) for _ in range(2)]
    changed, under_way, most, answered = threading.Condition(), 0, 0, 0
    original = KeyFile.unwrap

    def unwrap(provider: KeyFile, *args: Any, **kwargs: Any) -> bytes:
        nonlocal under_way, most, answered
        with changed:
            under_way += 1
            most = max(most, under_way)
            changed.notify_all()
            # Whoever is among the first waits until there are so many.
            assert changed.wait_for(lambda: most >= bound, 60)
        answer = original(provider, *args, **kwargs)
        with changed:
            under_way -= 1
            answered += 1
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silent, "unwrap", unwrap)
        vault.decrypt_data_keys(pages[0])
        assert (most, answered) == (bound, 20)
        vault.purge()
        together = [threading.Thread(target=vault.decrypt_data_keys, args=[page]) for page in pages]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join(60)
    assert answered == 60
    assert most <= circuits.MAX_CALLS_AT_ONCE


def test_each_key_that_is_not_cached_is_one_call(
    two_customers: Callable[..., LocalVault], silent: type[Silent]
) -> None:
    vault = two_customers()
    names = keys_of(vault, ACME, 5)
    for expected in (5, 5):
        vault.decrypt_data_keys(names)
        assert silent.asked == expected
    vault.purge()
    vault.decrypt_data_keys(names)
    assert silent.asked == 10


def test_on_one_page_the_other_customers_keys_open(
    two_customers: Callable[..., LocalVault], silent: type[Silent]
) -> None:
    vault = two_customers(timeout=3.0, max_concurrency=16)
    acme, beta = keys_of(vault, ACME, 40), keys_of(vault, BETA, 40)
    managed = keys_of(vault, OTHER, 3)
    silent.is_silent = True
    outcomes = vault.decrypt_data_keys(acme | beta | managed)
    assert all(isinstance(outcomes[name], DataKey) for name in [*beta, *managed])
    assert all(isinstance(outcomes[name], VaultUnavailable) for name in acme)
    assert silent.asked <= circuits.MAX_CALLS_AT_ONCE


def test_after_a_time_out_the_provider_is_left_alone_and_then_asked_once(
    two_customers: Callable[..., LocalVault], silent: type[Silent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuits, "PAUSE", 60.0)
    vault = two_customers(timeout=1.0)
    [one, two] = keys_of(vault, ACME, 2)
    silent.is_silent = True
    with pytest.raises(VaultUnavailable, match="did not answer in time"):
        vault.decrypt_data_key(one)
    for name in (one, two, one):
        with pytest.raises(VaultUnavailable, match=r"'organization_id': its provider was silent a moment ago") as told:
            vault.decrypt_data_key(name)
        assert told.value.alias == "tested"
    assert silent.asked == 1

    # Who verifies the key wants to know, and asks.
    silent.is_silent = False
    vault.byok.verify(*ITEM)
    assert vault.decrypt_data_key(one)


def test_a_provider_that_answers_again_is_found_out(
    two_customers: Callable[..., LocalVault], silent: type[Silent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuits, "PAUSE", 0.0)
    vault = two_customers(timeout=1.0)
    [name] = keys_of(vault, ACME, 1)
    silent.is_silent = True
    with pytest.raises(VaultUnavailable):
        vault.decrypt_data_key(name)
    silent.is_silent = False
    assert vault.decrypt_data_key(name)


def test_rewrapping_is_one_operation(two_customers: Callable[..., LocalVault], silent: type[Silent]) -> None:
    vault = two_customers(timeout=1.0)
    [name] = keys_of(vault, ACME, 1)
    silent.is_silent = True
    with pytest.raises(VaultUnavailable, match="did not answer in time"):
        vault.rekey_data_key(name, BETA)
    assert silent.asked == 1


@pytest.mark.parametrize("fault", ["hang", "shut"])
def test_messages_name_the_key_and_the_host(
    make_vault: MakeVault, bao: Bao, gate: Callable[[str], Gate], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    caplog.set_level("INFO", logger="vault_fields.client")
    before = gate(bao.url)
    vault = make_vault(timeout=3.0)
    activate(vault, {"provider": "openbao", "settings": bao.settings(address=before.url)})
    [name] = keys_of(vault, ACME, 1)
    getattr(before, fault)()
    with pytest.raises(VaultUnavailable) as caught:
        vault.decrypt_data_key(name)
    assert str(caught.value).startswith("VAULTS['tested']: The customer key for the context item")
    assert f"Host: {before.url.removeprefix('http://')}." in str(caught.value)
    logged = [record.getMessage() for record in caplog.records if "Trying again" in record.getMessage()]
    # It is no entry of VAULTS that a retry is logged for.
    assert all(text.startswith("The transit key transit/customer-") for text in logged)
    assert bool(logged) == (fault == "shut")
