"""Several items: which copies must open, in what order keys are asked, and what a failure leaves behind."""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.byok.conftest import ACME, ITEM, OTHER, PAIR, ROOT_KEY, MakeVault, activate, forms_of
from tests.byok.peers import AWS_ENVIRONMENT, Bao, Gate, Kms, running_kms
from tests.leaks import leaks
from vault_fields.backends.local import LocalVault
from vault_fields.byok.keyfile import KeyFile
from vault_fields.byok.openbao import OpenBaoTransit
from vault_fields.embedded.blob import EncryptedKeys, WrappedCopy
from vault_fields.embedded.customer import circuits
from vault_fields.embedded.customer.provider import KeyProvider
from vault_fields.embedded.keywrapper import KeyWrapper
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext

BOTH = KeyContext({"organization_id": "acme", "region": "eu"})


def key_file_at(path: Path) -> dict[str, Any]:
    path.touch(0o600)
    path.write_bytes(secrets.token_bytes(32))
    return {"provider": "file", "settings": {"path": str(path)}}


@pytest.fixture
def first(make_vault: MakeVault) -> LocalVault:
    return make_vault(unwrap="first")


def opens(vault: LocalVault, key: DataKey) -> bool:
    vault.purge()
    return vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_all_copies_must_open_unless_first_is_chosen(vault: LocalVault, first: LocalVault, tmp_path: Path) -> None:
    """The item that is first in the blob is revoked, then the other one, then both."""
    activate(vault, key_file_at(tmp_path / "one.key"), "organization_id", "acme")
    activate(vault, key_file_at(tmp_path / "two.key"), "region", "eu")
    key = vault.create_data_key(BOTH)
    assert opens(vault, key)
    assert opens(first, key)

    for name, value in (("organization_id", "acme"), ("region", "eu")):
        vault.byok.disable(name, value)
        with pytest.raises(KeyRevoked, match=f"'{name}' is disabled"):
            opens(vault, key)
        assert opens(first, key)
        vault.byok.enable(name, value)
    for path in ("one.key", "two.key"):
        (tmp_path / path).unlink()
        with pytest.raises(KeyRevoked):
            opens(vault, key)
    with pytest.raises(KeyRevoked, match="'organization_id'"):
        opens(first, key)


def test_first_wraps_under_every_key_all_the_same(first: LocalVault, tmp_path: Path) -> None:
    """Else a row that was written while a key was revoked would never come under it."""
    activate(first, key_file_at(tmp_path / "one.key"))
    first.byok.disable(*ITEM)

    with pytest.raises(KeyRevoked):
        first.create_data_key(PAIR)


def test_with_first_keys_are_asked_in_the_order_of_the_names(
    first: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the context was written."""
    items = {"region": "eu", "organization_id": "acme", "purpose": "care"}
    for name, value in items.items():
        activate(first, key_file_at(tmp_path / name), name, value)
    key = first.create_data_key(KeyContext(items))
    asked: list[str] = []
    original = KeyFile.unwrap

    def unwrap(provider: KeyFile, *args: Any, **kwargs: Any) -> bytes:
        asked.append(Path(provider._path).name)
        return original(provider, *args, **kwargs)

    monkeypatch.setattr(KeyFile, "unwrap", unwrap)
    for expected in (["organization_id"], ["organization_id", "purpose"], ["organization_id", "purpose", "region"]):
        asked.clear()
        assert opens(first, key)
        assert asked == expected
        (tmp_path / expected[-1]).unlink()
    with pytest.raises(KeyRevoked):
        opens(first, key)


def test_with_first_an_item_without_a_customers_key_keeps_the_data_open(
    vault: LocalVault, first: LocalVault, key_file: Path
) -> None:
    activate(vault, {"provider": "file", "settings": {"path": str(key_file)}})
    key = vault.create_data_key(PAIR)
    key_file.unlink()

    assert opens(first, key)
    with pytest.raises(KeyRevoked):
        opens(vault, key)


def test_managed_kek_that_is_disabled_is_passed_over_too(vault: LocalVault, first: LocalVault) -> None:
    key = vault.create_data_key(PAIR)
    vault.service.disable(*ITEM)

    with pytest.raises(KeyRevoked):
        opens(vault, key)
    assert opens(first, key)


def test_with_first_an_unreachable_key_may_come_back(
    make_vault: MakeVault, kms: Kms, gate: Callable[[str], Gate], tmp_path: Path
) -> None:
    vault, first = make_vault(timeout=5), make_vault(timeout=5, unwrap="first")
    before = gate(kms.url)
    activate(vault, key_file_at(tmp_path / "one.key"), "organization_id", "acme")
    activate(vault, {"provider": "aws", "settings": kms.settings(endpoint_url=before.url)}, "region", "eu")
    key = vault.create_data_key(BOTH)

    before.shut()
    assert opens(first, key)
    with pytest.raises(VaultUnavailable, match="'region'"):
        opens(vault, key)
    (tmp_path / "one.key").unlink()
    with pytest.raises(VaultUnavailable, match="'region'"):
        opens(first, key)
    with pytest.raises(KeyRevoked, match="'organization_id'"):
        opens(vault, key)
    before.unlock()
    assert opens(first, key)


@pytest.mark.parametrize("unwrap", ["all", "first"])
def test_altered_blob_is_refused_with_either(make_vault: MakeVault, key_file: Path, unwrap: str) -> None:
    vault = make_vault(unwrap=unwrap)
    activate(vault, {"provider": "file", "settings": {"path": str(key_file)}})
    key, sibling = vault.create_data_key(PAIR), vault.create_data_key(PAIR)
    blob = EncryptedKeys.decode(key.encrypted_keys)
    [one, two], [other, _] = blob.copies, EncryptedKeys.decode(sibling.encrypted_keys).copies
    flipped = WrappedCopy(one.kek_id, 0, bytes([one.wrapped[0] ^ 1]) + one.wrapped[1:], one.kind)
    stranger = WrappedCopy(bytes(16), 0, one.wrapped, one.kind)

    for copies in ([one], [two], [two, one], [other, two], [flipped, two], [stranger, two], [one, one]):
        with pytest.raises(VaultRefused, match="do not open in this vault") as caught:
            vault.decrypt_data_key(EncryptedKeys(blob.data_key_id, tuple(copies)).encode())
        assert type(caught.value) is VaultRefused


def test_copy_that_was_altered_is_refused_when_its_turn_comes(
    vault: LocalVault, first: LocalVault, key_file: Path
) -> None:
    """With ``first`` the second one has no turn while the first opens. What is said of copies is bound all the same."""
    activate(vault, {"provider": "file", "settings": {"path": str(key_file)}})
    key = vault.create_data_key(PAIR)
    blob = EncryptedKeys.decode(key.encrypted_keys)
    one, two = blob.copies
    flipped = WrappedCopy(two.kek_id, two.kek_version, bytes([two.wrapped[0] ^ 1]) + two.wrapped[1:], two.kind)
    altered = EncryptedKeys(blob.data_key_id, (one, flipped)).encode()

    assert first.decrypt_data_key(altered).plaintext == key.plaintext
    first.purge()
    vault.byok.disable(*ITEM)
    with pytest.raises(VaultRefused, match="do not open in this vault"):
        first.decrypt_data_key(altered)
    vault.byok.enable(*ITEM)
    with pytest.raises(VaultRefused, match="do not open in this vault"):
        vault.decrypt_data_key(altered)


def test_revoked_copy_cannot_be_cut_out(vault: LocalVault, first: LocalVault, key_file: Path) -> None:
    """With ``first`` neither: the copies that are left still name the one that is gone."""
    activate(vault, {"provider": "file", "settings": {"path": str(key_file)}})
    blob = EncryptedKeys.decode(vault.create_data_key(PAIR).encrypted_keys)
    vault.byok.disable(*ITEM)

    for each in (vault, first):
        with pytest.raises(VaultRefused, match="do not open in this vault"):
            each.decrypt_data_key(EncryptedKeys(blob.data_key_id, blob.copies[1:]).encode())


def test_key_that_is_known_to_be_revoked_costs_no_call_to_the_others(
    vault: LocalVault, bao: Bao, gate: Callable[[str], Gate], key_file: Path
) -> None:
    before = gate(bao.url)
    activate(vault, {"provider": "openbao", "settings": bao.settings(address=before.url)}, "organization_id", "acme")
    activate(vault, {"provider": "file", "settings": {"path": str(key_file)}}, "region", "eu")
    key = vault.create_data_key(BOTH)
    vault.byok.disable("region", "eu")
    before.shut()

    with pytest.raises(KeyRevoked):
        opens(vault, key)


def test_providers_of_one_operation_share_its_timeout(
    make_vault: MakeVault, bao: Bao, gate: Callable[[str], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuits, "PAUSE", 0.0)
    vault = make_vault()
    gates = [gate(bao.url), gate(bao.url)]
    for before, item in zip(gates, (ITEM, ("region", "eu")), strict=True):
        activate(vault, {"provider": "openbao", "settings": bao.settings(address=before.url)}, *item)
    key = vault.create_data_key(BOTH)
    vault = make_vault(timeout=2.0)
    for before in gates:
        before.hang()
    given: list[float] = []
    for name in ("wrap", "unwrap"):
        original = getattr(OpenBaoTransit, name)

        def noted(*args: Any, timeout: float, original: Any = original) -> Any:
            given.append(timeout)
            return original(*args, timeout=timeout)

        monkeypatch.setattr(OpenBaoTransit, name, noted)

    for call in (lambda: opens(vault, key), lambda: vault.create_data_key(BOTH)):
        given.clear()
        with pytest.raises(VaultUnavailable):
            call()
        assert given
        assert all(0 < seconds <= 1.0 for seconds in given)
        assert sum(given) <= 2.0


def test_nothing_is_locked_while_a_provider_is_asked(
    vault: LocalVault, make_vault: MakeVault, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, which would wait for no lock, changes the keystore in the middle of each call."""
    other = make_vault(timeout=0)
    made: list[DataKey] = []

    def busy(name: str) -> Any:
        original = getattr(KeyFile, name)

        def call(provider: KeyFile, *args: Any, **kwargs: Any) -> bytes:
            made.append(other.create_data_key(KeyContext({"organization_id": f"new {len(made)}"})))
            other.service.keks.disable("organization_id", f"new {len(made) - 1}")
            answer: bytes = original(provider, *args, **kwargs)
            return answer

        return call

    for name in ("wrap", "unwrap"):
        monkeypatch.setattr(KeyFile, name, busy(name))
    activate(vault, {"provider": "file", "settings": {"path": str(key_file)}})
    key = vault.create_data_key(PAIR)
    assert opens(vault, key)
    assert vault.rekey_data_key(key.encrypted_keys, ACME).plaintext == key.plaintext
    assert len(made) == 3 + 1 + 1 + 2


def test_page_of_keys_is_asked_for_at_once(vault: LocalVault, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(vault, {"provider": "file", "settings": {"path": str(key_file)}})
    keys = [vault.create_data_key(ACME if number % 2 else OTHER) for number in range(16)]
    original = KeyWrapper.open
    two_are_asked = threading.Barrier(2)

    def together(wrapper: KeyWrapper, encrypted_keys: str, **options: Any) -> Any:
        if wrapper.customer_keys_of(encrypted_keys):
            two_are_asked.wait(60)
        return original(wrapper, encrypted_keys, **options)

    monkeypatch.setattr(KeyWrapper, "open", together)
    vault.purge()
    outcomes = vault.decrypt_data_keys({**{key.encrypted_keys: None for key in keys}, "nonsense": None})

    assert not two_are_asked.broken
    assert [outcomes[key.encrypted_keys].plaintext for key in keys] == [key.plaintext for key in keys]  # type: ignore[union-attr]
    assert isinstance(outcomes["nonsense"], VaultRefused)


def test_provider_that_dies_midway_is_unavailable(make_vault: MakeVault, tmp_path: Path) -> None:
    """Its process is killed between two calls on one connection."""
    vault = make_vault(timeout=2.0)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in AWS_ENVIRONMENT.items():
            patch.setenv(name, value)
        # Its client takes the credentials that it finds when it is made.
        kms = stack.enter_context(running_kms(tmp_path))
        activate(vault, {"provider": "aws", "settings": kms.settings()})
        key, other = vault.create_data_key(PAIR), vault.create_data_key(OTHER)
        kms.process.kill()
        kms.process.wait()

        started = time.monotonic()
        for call in (lambda: opens(vault, key), lambda: vault.create_data_key(PAIR)):
            with pytest.raises(VaultUnavailable, match="'organization_id': AWS KMS cannot be asked"):
                call()
        assert time.monotonic() - started < 60
        assert opens(vault, other), "what has no part in it goes on"


def test_failed_rekey_leaves_no_data_key_in_the_traceback(vault: LocalVault, customer: dict) -> None:
    """The data key is open while its provider is asked to wrap it anew. Error reports show local variables."""
    activate(vault, customer)
    key = vault.create_data_key(OTHER)
    provider = vault.service._customer_keys._provider(vault.service._customer_keys.store.of_item("default", *ITEM))  # type: ignore[arg-type]

    def fail(*args: object, **kwargs: object) -> bytes:
        raise VaultUnavailable("away")

    provider.wrap = fail  # type: ignore[method-assign]
    with pytest.raises(VaultUnavailable) as caught:
        vault.rekey_data_key(key.encrypted_keys, PAIR)

    assert leaks(caught.value, [form.decode("latin-1") for form in forms_of(key.plaintext)]) == []


def test_no_log_and_no_answer_of_a_provider_ever_holds_a_data_key(
    vault: LocalVault, kms: Kms, bao: Bao, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(vault, {"provider": "aws", "settings": kms.settings()}, "organization_id", "acme")
    activate(vault, {"provider": "openbao", "settings": bao.settings()}, "region", "eu")
    exchanged: list[bytes] = []
    for kind in {type(vault.service._customer_keys._provider(record)) for record in _records(vault)}:
        _record_traffic(monkeypatch, kind, exchanged)
    with caplog.at_level(logging.DEBUG):
        key = vault.create_data_key(BOTH)
        assert opens(vault, key)

    logged = caplog.text.encode() + kms.log.read_bytes() + bao.log.read_bytes() + _audit(bao)
    assert len(exchanged) == 8
    for form in forms_of(key.plaintext):
        assert form not in logged
        assert not any(form in each for each in exchanged)
    assert ROOT_KEY.encode() not in logged


def _records(vault: LocalVault) -> list[Any]:
    return vault.service._customer_keys.store.of_environment("default")


def _audit(bao: Bao) -> bytes:
    return (bao.log.parent / "audit.log").read_bytes()


def _record_traffic(patch: pytest.MonkeyPatch, kind: type[KeyProvider], exchanged: list[bytes]) -> None:
    for operation in ("wrap", "unwrap"):
        original = getattr(kind, operation)

        def recorded(self: Any, sent: bytes, binding: Any, *, timeout: float, original: Any = original) -> bytes:
            received: bytes = original(self, sent, binding, timeout=timeout)
            exchanged.extend([sent, received])
            return received

        patch.setattr(kind, operation, recorded)
