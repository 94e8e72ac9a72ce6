import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.embedded.killing import killed_at_every_step
from vault_fields.embedded.maintenance.rootrotation import rotate_root_key
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import DevelopmentRootKey, RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import VaultUnavailable
from vault_fields.keys import DataKey, KeyContext

OLD, NEW, NEWER = RootKey(b"o" * 32), RootKey(b"n" * 32), RootKey(b"N" * 32)

Open = Callable[..., EmbeddedVault]


@pytest.fixture
def open_with(path: Path) -> Iterator[Open]:
    """A vault over the one keystore with a root key and former ones, as another process would have it."""
    opened = []

    def open_with(root_key: RootKey | DevelopmentRootKey, *former: RootKey, **options: float) -> EmbeddedVault:
        vault = EmbeddedVault(KeyRing(KeyStore.at(path), root_key, former_root_keys=former, **options))
        opened.append(vault)
        return vault

    yield open_with
    for vault in opened:
        vault.close()


@pytest.fixture
def keys(open_with: Open) -> list[DataKey]:
    """Data keys of a vault under the old root key."""
    vault = open_with(OLD)
    made = [vault.create(KeyContext({"organization_id": str(number)})) for number in range(5)]
    vault.close()
    return made


def root_key_ids(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [each for (each,) in connection.execute("SELECT DISTINCT root_key_id FROM kek_version")]


def opens_all(vault: EmbeddedVault, keys: list[DataKey]) -> bool:
    return [vault.decrypt(key.encrypted_keys).plaintext for key in keys] == [key.plaintext for key in keys]


def test_root_key_is_replaced_and_former_one_opens_nothing(path: Path, open_with: Open, keys: list[DataKey]) -> None:
    done = open_with(NEW, OLD).rotate_root_key()

    assert (done.former, done.current, done.rewrapped) == ([OLD.id], NEW.id, 5)
    assert root_key_ids(path) == [NEW.id]
    assert opens_all(open_with(NEW), keys)
    with pytest.raises(ImproperlyConfigured, match=f"wrong root key: .* of id {NEW.id}, and this one has the id"):
        open_with(OLD).unlock()


def test_nothing_is_left_of_the_copies_under_the_former_root_key(
    path: Path, open_with: Open, keys: list[DataKey]
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        former = [wrapped for (wrapped,) in connection.execute("SELECT wrapped FROM kek_version")]

    open_with(NEW, OLD).rotate_root_key()

    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert not any(wrapped in stored for wrapped in former)


def test_until_it_is_rotated_a_keystore_keeps_its_root_key(path: Path, open_with: Open, keys: list[DataKey]) -> None:
    """So all processes can be given both keys, one after the other, while those that were not yet still work."""
    both, old = open_with(NEW, OLD), open_with(OLD)

    made = both.create(KeyContext({"organization_id": "new"}))

    assert root_key_ids(path) == [OLD.id]
    assert opens_all(old, [*keys, made])
    assert opens_all(both, keys)


def test_running_processes_that_have_both_go_on(path: Path, open_with: Open, keys: list[DataKey]) -> None:
    running = open_with(NEW, OLD)
    opens_all(running, keys)

    open_with(NEW, OLD).rotate_root_key()

    assert opens_all(running, keys)
    made = running.create(KeyContext({"organization_id": "new"}))
    assert root_key_ids(path) == [NEW.id], "the new key too, though the process has not looked since"
    assert opens_all(open_with(NEW), [*keys, made])


def test_running_process_that_lacks_the_new_one_says_so(open_with: Open, keys: list[DataKey]) -> None:
    running = open_with(OLD, max_keks=0)
    running.decrypt(keys[0].encrypted_keys)
    open_with(NEW, OLD).rotate_root_key()

    with pytest.raises(ImproperlyConfigured, match=f"wrong root key: .* {NEW.id}"):
        running.decrypt(keys[0].encrypted_keys)
    with pytest.raises(ImproperlyConfigured, match=f"wrong root key: .* {NEW.id}"):
        running.create(KeyContext({"organization_id": "new"}))


def test_second_rotation_has_nothing_to_do(open_with: Open, keys: list[DataKey]) -> None:
    vault = open_with(NEW, OLD)
    vault.rotate_root_key()

    done = vault.rotate_root_key()

    assert (done.former, done.current, done.rewrapped) == ([], NEW.id, 0)


def test_without_the_former_key_nothing_is_changed(path: Path, open_with: Open, keys: list[DataKey]) -> None:
    with pytest.raises(ImproperlyConfigured, match="to replace it by this one, add it to former_root_keys or VAULT_F"):
        open_with(NEW).rotate_root_key()

    assert root_key_ids(path) == [OLD.id]
    assert opens_all(open_with(OLD), keys)


def test_destroyed_keys_are_left_alone(open_with: Open, keys: list[DataKey]) -> None:
    vault = open_with(NEW, OLD)
    vault.keks.destroy("organization_id", "0", after=timedelta(0))

    assert vault.rotate_root_key().rewrapped == 4
    assert opens_all(open_with(NEW), keys[1:])


def test_key_that_does_not_open_stops_the_rotation(path: Path, open_with: Open, keys: list[DataKey]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE kek_version SET wrapped = zeroblob(72) WHERE kek_id = (SELECT max(id) FROM kek)")
        connection.commit()

    with pytest.raises(VaultUnavailable, match="is damaged or was tampered with: the key for the context item 'organ"):
        open_with(NEW, OLD).rotate_root_key()


def test_inner_keys_of_customers_are_wrapped_again_too(path: Path, open_with: Open) -> None:
    """Only their record is looked at here: what a provider wraps does not change."""
    vault = open_with(OLD)
    record = vault._customer_keys.add("default", "organization_id", "acme", "keyfile", "{}", "active")
    assert record is not None

    assert open_with(NEW, OLD).rotate_root_key().rewrapped == 1

    moved = open_with(NEW)
    after = moved._customer_keys.store.find(record.id)
    assert after is not None
    assert after.root_key_id == NEW.id
    vault_id = moved.store.vault_id()
    assert NEW.wrapping.unwrap(after.wrapped, after.associated_data(vault_id)) == OLD.wrapping.unwrap(
        record.wrapped, record.associated_data(vault_id)
    )


def test_key_is_not_made_under_a_root_key_that_keeps_changing(
    open_with: Open, keys: list[DataKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = open_with(OLD)
    monkeypatch.setattr(vault.store, "add", lambda record, tag: None)

    with pytest.raises(VaultUnavailable, match="root key of the keystore .* is being changed. Try again"):
        vault.create(KeyContext({"organization_id": "new"}))


def test_development_key_can_be_replaced(path: Path, open_with: Open) -> None:
    development = DevelopmentRootKey(path)
    with pytest.warns(RuntimeWarning, match="development root key"):
        key = open_with(development).create(KeyContext({"organization_id": "acme"}))

    open_with(NEW, development.obtain(generate=False)).rotate_root_key()

    assert opens_all(open_with(NEW), [key])


def test_way_back_is_open_in_the_middle(path: Path, open_with: Open, keys: list[DataKey]) -> None:
    interrupt(open_with(NEW, OLD))
    assert root_key_ids(path) != [OLD.id]

    assert open_with(OLD, NEW).rotate_root_key().former == [NEW.id]

    assert root_key_ids(path) == [OLD.id]
    assert opens_all(open_with(OLD), keys)


def test_progress_has_a_total(open_with: Open, keys: list[DataKey]) -> None:
    told: list[object] = []

    @contextmanager
    def tell(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
        told.extend([title, count()])
        yield told.append

    vault = open_with(NEW, OLD)
    keks = list(vault.keks)
    done = rotate_root_key(vault._ring, batch_size=2, progress=tell)

    second = told.index("Tagging rows")
    for (title, total, *steps), expected in [
        (told[:second], ("Wrapping keys", done.rewrapped)),
        (told[second:], ("Tagging rows", len(keks))),
    ]:
        assert (title, total) == expected
        assert len(steps) > 1
        assert sum(steps) == total  # type: ignore[arg-type]


def test_third_key_can_take_over_in_the_middle(path: Path, open_with: Open, keys: list[DataKey]) -> None:
    interrupt(open_with(NEW, OLD))

    assert open_with(NEWER, OLD, NEW).rotate_root_key().former == [OLD.id, NEW.id]

    assert opens_all(open_with(NEWER), keys)


@pytest.mark.parametrize("step", ["Wrapping keys", "Tagging rows"])
def test_two_rotations_to_different_keys_do_not_mix(
    path: Path, open_with: Open, keys: list[DataKey], step: str
) -> None:
    @contextmanager
    def meanwhile(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
        yield lambda done: open_with(NEWER, NEW, OLD).rotate_root_key() if title == step else None

    with pytest.raises(ImproperlyConfigured, match="was changed by another process meanwhile"):
        rotate_root_key(open_with(NEW, OLD)._ring, batch_size=2, progress=meanwhile)

    assert opens_all(open_with(NEWER), keys)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kill_9_at_any_step_leaves_a_keystore_that_both_open(path: Path, open_with: Open, keys: list[DataKey]) -> None:
    before = path.read_bytes()
    steps = halfway = 0

    for step in killed_at_every_step(lambda: rotate_root_key(open_with(NEW, OLD)._ring, batch_size=2)):
        vault = open_with(NEW, OLD)
        assert opens_all(vault, keys)
        vault.create(KeyContext({"organization_id": "meanwhile"}))
        vault.close()
        if len(root_key_ids(path)) == 2:
            halfway += 1
            with pytest.raises(ImproperlyConfigured, match=f"missing root key: .* {OLD.id} is not configured"):
                open_with(NEW).unlock()
        again = open_with(NEW, OLD)
        again.rotate_root_key()
        again.close()
        alone = open_with(NEW)
        assert opens_all(alone, keys)
        alone.close()
        path.write_bytes(before)
        steps = step

    assert steps > 30
    assert halfway > 5


class Interrupted(Exception):
    pass


def interrupt(vault: EmbeddedVault) -> None:
    def raise_interrupted(rewrapped: int) -> None:
        raise Interrupted

    @contextmanager
    def stop(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
        yield raise_interrupted

    with pytest.raises(Interrupted):
        rotate_root_key(vault._ring, batch_size=2, progress=stop)
