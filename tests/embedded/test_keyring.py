import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.lifecycle import Keks
from vault_fields.embedded.managed.rootkey import DevelopmentRootKey, RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, VaultUnavailable
from vault_fields.keys import KeyContext

ITEM = ("default", "organization_id", "acme")


def disable(ring: KeyRing) -> None:
    Keks(ring, "default").disable(*ITEM[1:])


class CountingStore(KeyStore):
    reads = looks = 0
    after_reading: Callable[[], None] | None = None

    def current(self, *item: str):  # type: ignore[no-untyped-def, override]
        self.reads += 1
        record = super().current(*item)
        after_reading, self.after_reading = self.after_reading, None
        if after_reading is not None:
            after_reading()
        return record

    def mark(self):  # type: ignore[no-untyped-def, override]
        self.looks += 1
        return super().mark()

    def find(self, *name):  # type: ignore[no-untyped-def, override]
        self.reads += 1
        return super().find(*name)


@pytest.fixture
def store(path: Path) -> Iterator[CountingStore]:
    with closing(CountingStore.at(path)) as store:
        yield store


def test_kek_is_read_once_while_the_keystore_stays_as_it_is(store: CountingStore, root_key: RootKey) -> None:
    """That it does is looked at every max_age seconds. KEKs of other items, however many are made, change nothing."""
    now = 100.0
    store.adopt_root_key(root_key.id)
    ring = KeyRing(store, root_key, max_age=10, clock=lambda: now)
    kek = ring.for_item(*ITEM)
    assert store.reads == store.looks == 1

    now = 109.9
    assert ring.for_item(*ITEM) is kek
    ring.for_item("default", "organization_id", "other")
    now = 110.1
    assert ring.for_item(*ITEM) is kek
    assert store.reads == store.looks == 2


def test_kek_that_was_read_before_a_change_is_not_held_after_it(
    path: Path, store: CountingStore, root_key: RootKey
) -> None:
    """Between reading a KEK and holding it another process disables it, and another thread notices that."""
    now = 0.0
    ring = KeyRing(store, root_key, max_age=10, clock=lambda: now)
    ring.for_item(*ITEM)
    ring.forget()

    def meanwhile() -> None:
        nonlocal now
        with closing(KeyStore.at(path)) as other:
            disable(KeyRing(other, root_key))
        now += 10
        ring.for_item("default", "organization_id", "other")

    store.after_reading = meanwhile
    assert ring.for_item(*ITEM), "this call began before"
    with pytest.raises(KeyRevoked):
        ring.for_item(*ITEM)


def test_kek_by_id_is_held_too(store: CountingStore, root_key: RootKey) -> None:
    ring = KeyRing(store, root_key)
    kek = ring.for_item(*ITEM)

    assert ring.find(kek.id, kek.version) is ring.find(kek.id, kek.version)
    assert store.reads == 2


def test_unknown_kek_is_none_and_asked_for_again(store: CountingStore, root_key: RootKey) -> None:
    ring = KeyRing(store, root_key)

    assert ring.find(bytes(16), 1) is None
    assert ring.find(bytes(16), 1) is None
    assert store.reads == 2


def test_least_recently_used_keks_go_first(store: CountingStore, root_key: RootKey) -> None:
    ring = KeyRing(store, root_key, max_keks=2)
    for value in ("a", "b", "a", "c"):
        ring.for_item("default", "item", value)
    assert store.reads == 3

    ring.for_item("default", "item", "a")
    assert store.reads == 3
    ring.for_item("default", "item", "b")
    assert store.reads == 4
    assert len(ring._keks) == 2


def test_other_process_that_disables_is_noticed_after_max_age(
    path: Path, store: CountingStore, root_key: RootKey
) -> None:
    now = 0.0
    ring = KeyRing(store, root_key, max_age=10, clock=lambda: now)
    ring.for_item(*ITEM)

    with closing(KeyStore.at(path)) as other:
        disable(KeyRing(other, root_key))

    assert ring.for_item(*ITEM)
    now = 10.0
    with pytest.raises(KeyRevoked):
        ring.for_item(*ITEM)


def test_other_process_that_disables_is_noticed_at_once_after_forget(
    path: Path, store: CountingStore, root_key: RootKey
) -> None:
    ring = KeyRing(store, root_key)
    ring.for_item(*ITEM)
    with closing(KeyStore.at(path)) as other:
        disable(KeyRing(other, root_key))

    ring.forget()

    with pytest.raises(KeyRevoked):
        ring.for_item(*ITEM)


def test_state_that_this_release_does_not_know_counts_as_disabled(store: CountingStore, root_key: RootKey) -> None:
    ring = KeyRing(store, root_key)
    kek = ring.for_item(*ITEM)
    with ring.tags.transaction() as rows:
        rows.connection.execute("UPDATE kek SET state = 'quarantined'")
        rows.tag("kek", kek.id)
    ring.forget()

    with pytest.raises(KeyRevoked, match="is quarantined"):
        ring.for_item(*ITEM)


@pytest.mark.parametrize(
    "statement",
    [
        """
        UPDATE kek_version SET wrapped = (
            SELECT wrapped FROM kek JOIN kek_version ON kek_id = id WHERE item_value = 'other'
        )
        """,
        "UPDATE kek SET item_value = CASE item_value WHEN 'acme' THEN 'taken' ELSE 'acme' END",
        "UPDATE kek SET item_name = 'tenant', item_value = 'acme' WHERE item_value = 'acme'",
        "UPDATE kek SET environment = 'staging' WHERE item_value = 'acme'",
        "UPDATE kek_version SET version = 2",
        """
        UPDATE kek_version SET kek_id = zeroblob(16) WHERE kek_id = (SELECT id FROM kek WHERE item_value = 'acme');
        UPDATE kek SET id = zeroblob(16) WHERE item_value = 'acme';
        """,
        "UPDATE kek_version SET wrapped = x'00'",
        "UPDATE kek_version SET wrapped = x''",
        "UPDATE kek_version SET root_key_id = 'another'",
        "UPDATE vault SET id = 'another'",
    ],
)
def test_rows_cannot_be_swapped_or_edited(path: Path, open_vault: Callable[..., EmbeddedVault], statement: str) -> None:
    before = open_vault()
    for value in ("acme", "other"):
        before.create(KeyContext({"organization_id": value}))
    before.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statement)
        environment, name = connection.execute(
            "SELECT environment, item_name FROM kek WHERE item_value = 'acme'"
        ).fetchone()

    with pytest.raises(VaultUnavailable, match=r"vault.sqlite3 is damaged or was tampered with"):
        open_vault(environment=environment).create(KeyContext({name: "acme"}))


def test_wrong_root_key_says_so_and_writes_nothing(path: Path, open_vault: Callable[..., EmbeddedVault]) -> None:
    right, wrong = RootKey(b"r" * 32), RootKey(b"w" * 32)
    key = open_vault(right).create(KeyContext({"organization_id": "acme"}))
    vault = open_vault(wrong)

    for call in (
        vault.unlock,
        lambda: vault.create(KeyContext({"organization_id": "acme"})),
        lambda: vault.create(KeyContext({"organization_id": "new"})),
        lambda: vault.decrypt(key.encrypted_keys),
    ):
        with pytest.raises(
            ImproperlyConfigured, match=f"^wrong root key: the keystore {path} .*{right.id}.*{wrong.id}"
        ):
            call()

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT item_value FROM kek").fetchall() == [("acme",)]
        assert connection.execute("SELECT id FROM root_key").fetchall() == [(right.id,)]


def test_development_key_opens_what_it_made(path: Path) -> None:
    def vault() -> EmbeddedVault:
        return EmbeddedVault(KeyRing(KeyStore.at(path), DevelopmentRootKey(path)))

    with closing(vault()) as first, pytest.warns(RuntimeWarning, match="development root key"):
        key = first.create(KeyContext({"organization_id": "acme"}))
    with closing(vault()) as second:
        assert second.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_no_development_key_is_generated_beside_a_keystore_with_a_root_key(path: Path, vault: EmbeddedVault) -> None:
    """A deployment that loses its setting stops, rather than to start over with keys that open nothing."""
    vault.create(KeyContext({"organization_id": "acme"}))

    with (
        closing(EmbeddedVault(KeyRing(KeyStore.at(path), DevelopmentRootKey(path)))) as without,
        pytest.raises(ImproperlyConfigured, match="no root key is configured, but the keystore"),
    ):
        without.unlock()


def test_child_starts_with_an_empty_ring_and_a_free_lock(store: CountingStore, root_key: RootKey) -> None:
    """What runs in a forked child, run here: a child leaves no trace of which lines it ran."""
    ring = KeyRing(store, root_key)
    ring.for_item(*ITEM)
    ring._lock.acquire()

    ring.reset_in_child()

    ring.for_item(*ITEM)
    assert store.reads == 2
