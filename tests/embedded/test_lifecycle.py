import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.embedded.killing import killed_at_every_step
from vault_fields.embedded.blob import EncryptedKeys
from vault_fields.embedded.managed import lifecycle
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.lifecycle import Keks
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext

ACME = KeyContext({"organization_id": "acme"})
OTHER = KeyContext({"organization_id": "other"})
ITEM = ("organization_id", "acme")
PERIOD = timedelta(days=30)


class Clock:
    """What the time is, for those who ask."""

    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keks(vault: EmbeddedVault, clock: Clock) -> Keks:
    return Keks(vault._ring, "default", clock=clock)


def version(key: DataKey) -> int:
    return EncryptedKeys.decode(key.encrypted_keys).copies[0].kek_version


def stored(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def wrapped(path: Path) -> list[bytes]:
    """The material of acme's key, by version."""
    query = "SELECT wrapped FROM kek JOIN kek_version ON kek_id = id WHERE item_value = 'acme' ORDER BY version"
    with closing(sqlite3.connect(path)) as connection:
        return [wrapped for (wrapped,) in connection.execute(query)]


# Versions.


def test_rotated_key_wraps_under_a_new_version_and_opens_what_older_ones_wrapped(
    vault: EmbeddedVault, keks: Keks
) -> None:
    old = vault.create(ACME)
    before = keks.get(*ITEM)

    after = keks.rotate(*ITEM)

    new = vault.create(ACME)
    assert (version(old), version(new), after.version) == (1, 2, 2)
    assert after.id == before.id
    assert vault.decrypt(old.encrypted_keys).plaintext == old.plaintext
    assert vault.decrypt(new.encrypted_keys).plaintext == new.plaintext


def test_versions_of_a_key_have_nothing_in_common(path: Path, vault: EmbeddedVault, keks: Keks) -> None:
    """A copy under one does not open under another, whatever its entry says."""
    old = vault.create(ACME)
    keks.rotate(*ITEM)
    text = bytearray(EncryptedKeys.decode(old.encrypted_keys).encode().encode())

    blob = EncryptedKeys.decode(text.decode())
    [copy] = blob.copies
    forged = EncryptedKeys(blob.data_key_id, (type(copy)(copy.kek_id, 2, copy.wrapped, copy.kind),)).encode()
    with pytest.raises(VaultRefused, match="do not open in this vault"):
        vault.decrypt(forged)


def test_other_process_wraps_under_the_new_version_within_a_second(
    path: Path, vault: EmbeddedVault, keks: Keks
) -> None:
    now = 0.0
    ring = KeyRing(KeyStore.at(path), vault._ring.configured.obtain(), clock=lambda: now)
    with closing(EmbeddedVault(ring)) as other:
        other.create(ACME)
        keks.rotate(*ITEM)
        now = 1.0
        assert version(other.create(ACME)) == 2


def test_two_who_rotate_at_once_make_one_version(vault: EmbeddedVault, keks: Keks) -> None:
    vault.create(ACME)
    record = vault._ring.record_for("default", *ITEM)

    assert vault._ring.rotate(record) == vault._ring.rotate(record)
    assert keks.get(*ITEM).version == 2


def test_retired_versions_are_refused_until_the_minimum_is_lowered(vault: EmbeddedVault, keks: Keks) -> None:
    keys = [vault.create(ACME)]
    for _ in range(2):
        keks.rotate(*ITEM)
        keys.append(vault.create(ACME))

    assert keks.retire(*ITEM, before=3).minimum_version == 3

    for key in keys[:2]:
        with pytest.raises(KeyRevoked, match=r"Version \d of the key .*'organization_id' is retired; .* opens is 3"):
            vault.decrypt(key.encrypted_keys)
    assert vault.decrypt(keys[2].encrypted_keys).plaintext == keys[2].plaintext
    assert vault.rekey(keys[2].encrypted_keys, ACME)

    keks.retire(*ITEM, before=2)
    assert vault.decrypt(keys[1].encrypted_keys).plaintext == keys[1].plaintext


def test_rekeyed_data_keys_survive_the_retirement(vault: EmbeddedVault, keks: Keks) -> None:
    old = vault.create(ACME)
    keks.rotate(*ITEM)
    assert not vault.is_current(old.encrypted_keys, ACME)
    moved = vault.rekey(old.encrypted_keys, ACME)

    keks.retire(*ITEM, before=2)

    assert vault.is_current(moved.encrypted_keys, ACME)
    assert vault.decrypt(moved.encrypted_keys).plaintext == old.plaintext


@pytest.mark.parametrize("before", [0, 2, -1])
def test_minimum_is_a_version_that_there_is(vault: EmbeddedVault, keks: Keks, before: int) -> None:
    key = vault.create(ACME)

    with pytest.raises(VaultRefused, match=f"1 to 1, and not {before}"):
        keks.retire(*ITEM, before=before)
    assert vault.decrypt(key.encrypted_keys)


# States.


def test_keys_are_listed_in_the_order_of_their_items(
    vault: EmbeddedVault, keks: Keks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_AFTER", lifecycle._AFTER.replace("LIMIT 1000", "LIMIT 2"))
    for value in ("b", "", "c", "a", "d"):
        vault.create(KeyContext({"organization_id": value, "purpose": "care"}))
    vault.for_environment("staging").create(ACME)

    listed = [(kek.item_name, kek.item_value) for kek in keks]

    assert listed == [*[("organization_id", value) for value in ("", "a", "b", "c", "d")], ("purpose", "care")]
    assert [kek.environment for kek in vault.for_environment("staging").keks] == ["staging"]


def test_item_without_a_key_is_refused(keks: Keks) -> None:
    for call in (keks.get, keks.rotate, keks.enable, keks.cancel, lambda *item: keks.destroy(*item, after=PERIOD)):
        with pytest.raises(VaultRefused, match="'organization_id' has no key of this value in 'default'"):
            call(*ITEM)
    assert list(keks) == []


def test_destroyed_key_is_refused_at_once_and_erased_when_its_time_has_come(
    path: Path, vault: EmbeddedVault, keks: Keks, clock: Clock
) -> None:
    key, other = vault.create(ACME), vault.create(OTHER)
    [material] = wrapped(path)

    pending = keks.destroy(*ITEM, after=PERIOD)
    assert (pending.state, pending.destroy_at) == ("pending destruction", clock.now + PERIOD)
    for call in (lambda: vault.decrypt(key.encrypted_keys), lambda: vault.create(ACME)):
        with pytest.raises(KeyRevoked, match="is pending destruction"):
            call()
    assert material in stored(path)

    clock.now += PERIOD - timedelta(seconds=1)
    assert keks.erase_due() == 0
    clock.now += timedelta(seconds=1)
    shown: list[object] = []

    @contextmanager
    def tell(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], object]]:
        shown.extend([title, count()])
        yield shown.append

    assert keks.erase_due(progress=tell) == 1
    assert shown == ["Looking at keys", 2, 1, 1]

    assert keks.get(*ITEM).state == "destroyed"
    assert material not in stored(path), "neither in the file nor in its log"
    with pytest.raises(KeyRevoked, match="is destroyed"):
        vault.decrypt(key.encrypted_keys)
    with pytest.raises(KeyRevoked, match="is destroyed"):
        vault.create(ACME)
    assert vault.decrypt(other.encrypted_keys).plaintext == other.plaintext


def test_every_version_is_erased(path: Path, vault: EmbeddedVault, keks: Keks) -> None:
    vault.create(ACME)
    keks.rotate(*ITEM)
    materials = wrapped(path)
    assert all(len(material) == 72 and material in stored(path) for material in materials)

    assert keks.destroy(*ITEM, after=timedelta(0)).state == "destroyed"

    assert not any(material in stored(path) for material in materials)
    assert wrapped(path) == [b"", b""]


def test_events_tell_of_the_end(vault: EmbeddedVault, keks: Keks) -> None:
    vault.create(ACME)
    keks.destroy(*ITEM, after=timedelta(0))

    events = [(event.name, event.data) for event in vault.store.events.page("default").items]

    data = {"key_name": "organization_id=acme", "key_id": str(keks.get(*ITEM).id)}
    assert events == [("vault.kek.created", data), ("vault.kek.deleted", data)]


def test_cancelled_key_is_disabled_and_opens_once_it_is_enabled(vault: EmbeddedVault, keks: Keks, clock: Clock) -> None:
    key = vault.create(ACME)
    keks.destroy(*ITEM, after=PERIOD)
    clock.now += PERIOD - timedelta(seconds=1)

    cancelled = keks.cancel(*ITEM)

    assert (cancelled.state, cancelled.destroy_at) == ("disabled", None)
    with pytest.raises(KeyRevoked, match="is disabled"):
        vault.decrypt(key.encrypted_keys)
    keks.enable(*ITEM)
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext
    clock.now += PERIOD
    assert keks.erase_due() == 0


def test_nothing_is_cancelled_after_the_waiting_period(vault: EmbeddedVault, keks: Keks, clock: Clock) -> None:
    """Also if nobody has erased it yet."""
    vault.create(ACME)
    keks.destroy(*ITEM, after=PERIOD)
    clock.now += PERIOD

    with pytest.raises(VaultRefused, match="waiting period .* is over"):
        keks.cancel(*ITEM)
    assert keks.erase_due() == 1


def test_waiting_period_is_not_negative(vault: EmbeddedVault, keks: Keks) -> None:
    vault.create(ACME)

    with pytest.raises(ValueError, match="not negative"):
        keks.destroy(*ITEM, after=timedelta(seconds=-1))
    assert keks.get(*ITEM).state == "enabled"


PENDING = r"it is pending destruction until 2026-01-31 00:00 UTC; cancel that first\."
FINAL = r"it is destroyed, which cannot be undone\."


@pytest.mark.parametrize(
    ("after", "refused", "reason"),
    [
        (None, "cancel", r"cannot be kept: it is enabled\."),
        (PERIOD, "enable", f"cannot be enabled: {PENDING}"),
        (PERIOD, "disable", f"cannot be disabled: {PENDING}"),
        (PERIOD, "rotate", f"cannot be rotated: {PENDING}"),
        (PERIOD, "retire", f"cannot be changed: {PENDING}"),
        (PERIOD, "destroy", f"cannot be destroyed: {PENDING}"),
        (timedelta(0), "enable", f"cannot be enabled: {FINAL}"),
        (timedelta(0), "disable", f"cannot be disabled: {FINAL}"),
        (timedelta(0), "rotate", f"cannot be rotated: {FINAL}"),
        (timedelta(0), "retire", f"cannot be changed: {FINAL}"),
        (timedelta(0), "destroy", f"cannot be destroyed: {FINAL}"),
        (timedelta(0), "cancel", f"cannot be kept: {FINAL}"),
    ],
)
def test_state_forbids(vault: EmbeddedVault, keks: Keks, after: timedelta | None, refused: str, reason: str) -> None:
    vault.create(ACME)
    if after is not None:
        keks.destroy(*ITEM, after=after)
    before = keks.get(*ITEM)
    more = {"retire": {"before": 1}, "destroy": {"after": PERIOD}}.get(refused, {})

    with pytest.raises(VaultRefused, match=reason):
        getattr(keks, refused)(*ITEM, **more)
    assert keks.get(*ITEM) == before


def test_waiting_period_is_not_cut_short(vault: EmbeddedVault, keks: Keks) -> None:
    vault.create(ACME)
    pending = keks.destroy(*ITEM, after=PERIOD)

    with pytest.raises(VaultRefused, match=f"cannot be destroyed: {PENDING}"):
        keks.destroy(*ITEM, after=timedelta(0))
    assert keks.get(*ITEM) == pending


def test_log_that_others_read_is_emptied_by_the_next_run(
    path: Path, keks: Keks, open_vault: Callable[..., EmbeddedVault], clock: Clock
) -> None:
    """The key is refused in any case; what is not certain is said."""
    impatient = open_vault(timeout=0.05)
    impatient.create(ACME)
    [material] = wrapped(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM kek").fetchall()
        with pytest.raises(VaultUnavailable, match="is in use by another process and could not be emptied.*Run this"):
            impatient.keks.destroy(*ITEM, after=timedelta(0))
        assert keks.get(*ITEM).state == "destroyed"

    assert impatient.keks.destroy(*ITEM, after=timedelta(0)).state == "destroyed", "this, as the error says"
    assert material not in stored(path)
    assert keks.erase_due() == 0


def test_disabled_key_is_not_rotated(vault: EmbeddedVault, keks: Keks) -> None:
    keks.disable(*ITEM)

    with pytest.raises(VaultRefused, match="cannot be rotated: it is disabled; enable it first"):
        keks.rotate(*ITEM)


def test_key_that_is_disabled_while_it_is_rotated_gets_no_version(
    vault: EmbeddedVault, keks: Keks, open_vault: Callable[..., EmbeddedVault]
) -> None:
    vault.create(ACME)
    record = vault._ring.record_for("default", *ITEM)
    open_vault().keks.disable(*ITEM)

    with pytest.raises(KeyRevoked, match="is disabled"):
        vault._ring.rotate(record)
    assert keks.get(*ITEM).version == 1


def test_messages_do_not_show_values_of_items(vault: EmbeddedVault, keks: Keks) -> None:
    vault.create(ACME)
    keks.destroy(*ITEM, after=PERIOD)

    for call in (lambda: keks.rotate(*ITEM), lambda: vault.create(ACME), lambda: keks.get("organization_id", "acme2")):
        with pytest.raises(VaultRefused) as caught:
            call()
        assert "acme" not in str(caught.value)


# Interruptions.


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kill_9_at_any_step_of_erasing_leaves_the_rest_to_the_next_run(
    path: Path, open_vault: Callable[..., EmbeddedVault]
) -> None:
    before = open_vault()
    other = before.create(OTHER)
    before.create(ACME)
    [material] = wrapped(path)
    before.keks.destroy(*ITEM, after=timedelta(microseconds=1))
    before.close()
    due = path.read_bytes()

    steps = 0
    for step in killed_at_every_step(lambda: open_vault().keks.erase_due()):  # noqa: PLW0108 - a new one each.
        vault = open_vault()
        assert vault.keks.get(*ITEM).state in ("pending destruction", "destroyed")
        vault.keks.erase_due()
        assert material not in stored(path)
        assert vault.decrypt(other.encrypted_keys).plaintext == other.plaintext
        vault.close()
        path.write_bytes(due)
        steps = step
    assert steps > 10


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kill_9_at_any_step_of_making_a_key_leaves_nothing_that_blocks(
    path: Path, open_vault: Callable[..., EmbeddedVault]
) -> None:
    """Between the insert and the answer too: whoever comes next uses the key that is there."""
    first = open_vault()
    first.create(OTHER)
    first.close()

    item = 0
    for _ in killed_at_every_step(lambda: open_vault().create(KeyContext({"item": str(item)}))):  # noqa: B023
        with closing(sqlite3.connect(path)) as connection:
            left = connection.execute("SELECT id FROM kek WHERE item_value = ?", [str(item)]).fetchall()
        vault = open_vault()
        key = vault.create(KeyContext({"item": str(item)}))
        assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext
        if left:
            assert left == [(EncryptedKeys.decode(key.encrypted_keys).copies[0].kek_id,)]
        vault.close()
        item += 1
    assert item > 10


CHANGES: dict[str, Callable[[Keks], object]] = {
    "rotate": lambda keks: keks.rotate(*ITEM),
    "retire": lambda keks: keks.retire(*ITEM, before=2),
    "disable": lambda keks: keks.disable(*ITEM),
    "destroy": lambda keks: keks.destroy(*ITEM, after=PERIOD),
    "destroy at once": lambda keks: keks.destroy(*ITEM, after=timedelta(0)),
    "enable": lambda keks: keks.enable(*ITEM),
    "cancel": lambda keks: keks.cancel(*ITEM),
}
BEFORE = {"enable": "disable", "cancel": "destroy"}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_killed_at_any_step_is_done_or_can_be_asked_for_again(
    path: Path, open_vault: Callable[..., EmbeddedVault], change: str
) -> None:
    def told(vault: EmbeddedVault) -> tuple[str, int, int]:
        kek = vault.keks.get(*ITEM)
        return kek.state, kek.version, kek.minimum_version

    first = open_vault()
    first.create(ACME)
    other = first.create(OTHER)
    first.keks.rotate(*ITEM)
    if change in BEFORE:
        CHANGES[BEFORE[change]](first.keks)
    undone = told(first)
    first.close()
    before = path.read_bytes()
    CHANGES[change](first.keks)
    done = told(first)
    first.close()
    path.write_bytes(before)

    kills = 0
    for _ in killed_at_every_step(lambda: CHANGES[change](open_vault().keks)):
        vault = open_vault()
        found = told(vault)
        halfway = {("pending destruction", *done[1:])} if change == "destroy at once" else set()
        assert found in {undone, done, *halfway}
        if found != done:
            CHANGES[change](vault.keks)
        assert told(vault) == done
        assert vault.decrypt(other.encrypted_keys).plaintext == other.plaintext
        vault.close()
        path.write_bytes(before)
        kills += 1
    assert kills > 5


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kill_9_at_any_step_of_making_a_keystore_leaves_a_whole_one_or_none(
    path: Path, open_vault: Callable[..., EmbeddedVault]
) -> None:
    kills = 0
    for _ in killed_at_every_step(lambda: open_vault().create_keystore()):
        vault = open_vault()
        if not path.exists():
            vault.create_keystore()
        assert vault.create(ACME)
        vault.close()
        for file in path.parent.iterdir():
            file.unlink()
        kills += 1
    assert kills > 5


def test_record_hides_its_material(vault: EmbeddedVault) -> None:
    assert "wrapped" not in repr(vault._ring.record_for("default", *ITEM))
