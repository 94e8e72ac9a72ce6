"""The KEKs that one operation needs are made in one transaction, and nothing else about them changes."""

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.embedded.killing import killed_at_every_step
from tests.embedded.test_durability import start
from tests.testapp.models import Organization, Patient
from vault_fields.backends.local import LocalVault
from vault_fields.backends.memory import InMemoryVault
from vault_fields.embedded.blob import EncryptedKeys
from vault_fields.embedded.managed import keyring
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey, generate_root_key
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.keys import KeyContext
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults


def contexts(number: int, **more: str) -> list[KeyContext]:
    return [KeyContext({"organization_id": f"org {index}", **more}) for index in range(number)]


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for every transaction that was committed to a keystore; its statements are in between."""
    seen: list[str] = []
    connect = sqlite3.connect

    def connected(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[call-overload]
        connection.set_trace_callback(lambda statement: seen.append(statement) if statement == "COMMIT" else None)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connected)
    return seen


@pytest.fixture
def ready(commits: list[str], vault: EmbeddedVault) -> EmbeddedVault:
    """With a root key, so that what is committed from now on are KEKs."""
    vault.unlock()
    commits.clear()
    return vault


def kek_ids(*encrypted_keys: str) -> set[bytes]:
    return {copy.kek_id for each in encrypted_keys for copy in EncryptedKeys.decode(each).copies}


def test_new_keks_are_made_in_as_few_transactions_as_they_fit_in(
    ready: EmbeddedVault, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "MAX_AT_ONCE", 10)

    ready.prepare(contexts(25, kind="shared by all"))
    assert len(commits) == 3  # 26 items
    created = [ready.create(context) for context in contexts(25, kind="shared by all")]

    assert len(commits) == 3
    assert len(kek_ids(*[key.encrypted_keys for key in created])) == 26
    events = ready.store.events.page("default").items
    assert [event.name for event in events] == ["vault.kek.created"] * 26
    assert {event.data["key_name"] for event in events} == {
        "kind=shared by all",
        *(f"organization_id=org {number}" for number in range(25)),
    }
    assert [ready.decrypt(key.encrypted_keys).plaintext for key in created] == [key.plaintext for key in created]


def test_what_was_made_while_the_keystore_changed_is_read_anew(
    ready: EmbeddedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = ready._ring
    add_all = ring.store.add_all

    def adding(*args: object) -> frozenset[bytes]:
        stored = add_all(*args)  # type: ignore[arg-type]
        ring.forget()
        return stored

    monkeypatch.setattr(ring.store, "add_all", adding)
    ready.prepare(contexts(3))
    assert not len(ring._keks)
    assert len(kek_ids(*[ready.create(context).encrypted_keys for context in contexts(3)])) == 3


def test_what_is_there_is_not_made_again(ready: EmbeddedVault, commits: list[str]) -> None:
    first = ready.create(contexts(1)[0])
    commits.clear()

    for _ in range(2):
        ready.prepare(contexts(1))
    assert commits == []
    ready.prepare(contexts(2))
    assert len(commits) == 1
    assert kek_ids(first.encrypted_keys) == kek_ids(ready.create(contexts(1)[0]).encrypted_keys)


def test_one_context_of_several_new_items_is_one_transaction(ready: EmbeddedVault, commits: list[str]) -> None:
    key = ready.create(KeyContext({"a": "1", "b": "2", "c": "3"}))

    assert len(commits) == 1
    assert len(kek_ids(key.encrypted_keys)) == 3


def test_environments_have_keks_of_their_own(ready: EmbeddedVault) -> None:
    ready.prepare(contexts(2))
    ready.for_environment("staging").prepare(contexts(3))

    assert len(ready.keks) == 2
    assert len(ready.for_environment("staging").keks) == 3


def test_an_item_that_is_refused_leaves_the_others_alone(ready: EmbeddedVault) -> None:
    ready.disable("organization_id", "org 1")

    ready.prepare(contexts(3))

    assert ready.create(contexts(3)[0])
    with pytest.raises(KeyRevoked):
        ready.create(contexts(3)[1])
    assert ready.create(contexts(3)[2])


def test_a_keystore_that_is_locked_is_told_once(path: Path, open_vault: Callable[..., EmbeddedVault]) -> None:
    vault = open_vault(timeout=0.01)
    vault.unlock()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(VaultUnavailable, match="is locked by another process"):
            vault.prepare(contexts(3))
    assert len(vault.keks) == 0


def test_a_root_key_that_was_replaced_meanwhile_wraps_them(
    path: Path, open_vault: Callable[..., EmbeddedVault]
) -> None:
    """What was wrapped under the former one is not stored; each key is then made by itself, as ever."""
    old, new = RootKey(bytes(range(32))), RootKey(bytes(range(1, 33)))

    def with_both() -> EmbeddedVault:
        return EmbeddedVault(KeyRing(KeyStore.at(path), new, former_root_keys=[old], max_age=3600))

    open_vault(old).create(KeyContext({"organization_id": "old"}))
    with closing(with_both()) as slow, closing(with_both()) as other:
        slow.create(KeyContext({"organization_id": "old"}))
        other.rotate_root_key()
        slow.prepare(contexts(3))
        assert len(slow.keks) == 1
        created = [slow.create(context) for context in contexts(3)]
        assert len(slow.keks) == 4
    with closing(open_vault(new)) as vault:
        assert [vault.decrypt(key.encrypted_keys).plaintext for key in created] == [key.plaintext for key in created]


def test_kill_9_at_any_step_leaves_all_of_a_transaction_or_nothing(
    path: Path, vault: EmbeddedVault, open_vault: Callable[..., EmbeddedVault]
) -> None:
    vault.unlock()
    vault.close()
    found = set()

    def work() -> None:
        with closing(EmbeddedVault(KeyRing(KeyStore.at(path), RootKey(bytes(range(32)))))) as other:
            other.prepare(contexts(4))

    for _ in killed_at_every_step(work):
        with closing(sqlite3.connect(path)) as connection:
            (number,) = connection.execute("SELECT count(*) FROM kek").fetchone()
        found.add(number)
    assert found <= {0, 4}
    assert [vault.create(context) for context in contexts(4)]
    assert len(vault.keks) == 4


RACE = """
sys.stdin.read()
wanted = [KeyContext({"organization_id": f"org {number}"}) for number in range(40)]
if int(sys.argv[2]) % 2:
    wanted.reverse()
vault.prepare(wanted)
for context in wanted:
    key = vault.create(context)
    print(context["organization_id"], key.encrypted_keys, key.plaintext.hex(), sep="|")
"""


def test_processes_that_prepare_the_same_items_at_once_make_one_kek_of_each(path: Path, vault: EmbeddedVault) -> None:
    racers = [start(path, RACE.replace("sys.argv[2]", str(number))) for number in range(6)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    told: dict[str, set[bytes]] = {}
    for racer in racers:
        for item, encrypted_keys, plaintext in lines(racer):
            told.setdefault(item, set()).update(kek_ids(encrypted_keys))
            assert vault.decrypt(encrypted_keys).plaintext.hex() == plaintext

    assert len(told) == 40
    assert {len(keks) for keks in told.values()} == {1}
    assert len(vault.store.events.page("default").items) == 40


def lines(process: "subprocess.Popen[str]") -> list[list[str]]:
    assert process.stdout is not None
    with process.stdout as stdout:
        found = [line.strip().split("|") for line in stdout]
    assert process.wait() == 0
    return found


# From where operations begin.


@pytest.fixture
def local(tmp_path: Path, commits: list[str]) -> LocalVault:
    vault = LocalVault(path=tmp_path / "local.sqlite3", root_key=generate_root_key())
    vault.service.create_keystore()
    commits.clear()
    return vault


def test_an_item_with_a_customers_key_gets_no_kek_beside_it(local: LocalVault, tmp_path: Path) -> None:
    file = tmp_path / "customer.key"
    file.touch(0o600)
    file.write_bytes(bytes(range(32)))
    local.byok.configure("organization_id", "org 1", provider="file", settings={"path": str(file)})
    local.byok.verify("organization_id", "org 1")
    local.byok.activate("organization_id", "org 1")

    local.prepare(contexts(3))

    assert [kek.item_value for kek in local.service.keks] == ["org 0", "org 2"]
    local.close()


def test_rewrapping_for_new_contexts_is_one_transaction(local: LocalVault, commits: list[str]) -> None:
    made = [local.create_data_key(KeyContext({"organization_id": "org 0"})) for _ in range(5)]
    commits.clear()

    rewrapped = local.rewrap_data_keys(
        {key.encrypted_keys: context for key, context in zip(made, contexts(5, kind="new"), strict=True)}
    )

    assert len(commits) == 1
    assert all(isinstance(each, str) for each in rewrapped.values())
    assert local.calls == {"create": 5, "rekey": 5}
    local.close()


def test_rewrapping_where_keks_cannot_be_made_is_an_error_of_each(local: LocalVault) -> None:
    made = [local.create_data_key(context) for context in contexts(2)]
    local.path.rename(local.path.with_name("away"))

    rewrapped = local.rewrap_data_keys({key.encrypted_keys: KeyContext({"organization_id": "new"}) for key in made})

    assert [type(error) for error in rewrapped.values()] == [VaultUnavailable] * 2
    assert {error.alias for error in rewrapped.values() if isinstance(error, VaultUnavailable)} == {"default"}
    local.close()


def test_what_a_test_makes_fail_fails_where_it_is_asked_for() -> None:
    vault = InMemoryVault()
    with vault.fail_with(VaultRefused("no")):
        vault.prepare(contexts(3))
        with pytest.raises(VaultRefused):
            vault.create_data_key(contexts(3)[0])
    assert len(vault.service.keks) == 0


@pytest.mark.django_db
def test_rows_of_many_new_tenants_cost_one_transaction_of_the_keystore() -> None:
    vault = vaults["default"]
    assert isinstance(vault, InMemoryVault)
    organizations = Organization.objects.bulk_create(
        [Organization(workos_id=f"preparing {number}") for number in range(30)]
    )
    vault.service.unlock()
    commits: list[str] = []
    with vault.service.store.connections.use() as connection:
        connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)

    with assert_vault_calls(create=30):
        Patient.objects.bulk_create([Patient(organization=each, ssn="123-45-6789") for each in organizations])

    with vault.service.store.connections.use() as connection:
        connection.set_trace_callback(None)
    assert commits == ["COMMIT"]


@pytest.mark.django_db
def test_an_error_on_the_way_names_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    organizations = Organization.objects.bulk_create(
        [Organization(workos_id=f"failing {number}") for number in range(2)]
    )

    def fail(contexts: object) -> None:
        raise VaultUnavailable("The keystore is locked.")

    monkeypatch.setattr(vaults["default"], "_prepare", fail)
    with pytest.raises(VaultUnavailable, match=r"Patient.ssn \(.*\): .*The keystore is locked"):
        Patient.objects.bulk_create([Patient(organization=each, ssn="123-45-6789") for each in organizations])
    assert not Patient.objects.filter(organization__in=organizations).exists()
