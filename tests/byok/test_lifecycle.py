"""The life of a customer key: what each step does, and which may follow which."""

import secrets
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.byok.conftest import ACME, ITEM, OTHER, PAIR, MakeVault, activate
from vault_fields.backends.local import LocalVault
from vault_fields.backends.memory import InMemoryVault
from vault_fields.embedded.blob import EncryptedKeys, KeyKind
from vault_fields.embedded.customer.provider import Binding, KeyProvider
from vault_fields.embedded.customer.usable import CustomerKeys
from vault_fields.embedded.events.event import Event
from vault_fields.embedded.keywrapper import KeyWrapper
from vault_fields.embedded.maintenance.restore import RestoreRefused
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyContextError, KeyRevoked, VaultError, VaultRefused, VaultUnavailable
from vault_fields.keys import KeyContext
from vault_fields.runtime.lru import SharedLRU

MANAGED, CUSTOMER = KeyKind.MANAGED, KeyKind.CUSTOMER


@pytest.fixture
def file(key_file: Path) -> dict[str, object]:
    return {"provider": "file", "settings": {"path": str(key_file)}}


def kinds(vault: LocalVault | InMemoryVault, context: KeyContext) -> list[KeyKind]:
    key = vault.create_data_key(context)
    return [copy.kind for copy in EncryptedKeys.decode(key.encrypted_keys).copies]


def told(vault: LocalVault) -> list[tuple[str, dict]]:
    events = vault.service.store.events.page("default").items
    return [(event.name, dict(event.data)) for event in events if "byok" in event.name]


def test_whole_life(vault: LocalVault, customer: dict) -> None:
    """Configured → verified → active → disabled → active → deleted, and what new data keys are wrapped under."""
    states = []
    old = vault.create_data_key(ACME)
    states.append(vault.byok.configure(*ITEM, **customer).state)
    assert kinds(vault, ACME) == [MANAGED]
    states.append(vault.byok.verify(*ITEM).state)
    assert kinds(vault, ACME) == [MANAGED]
    states.append(vault.byok.activate(*ITEM).state)
    assert kinds(vault, ACME) == [CUSTOMER]
    new = vault.create_data_key(PAIR)
    vault.purge()
    assert vault.decrypt_data_key(new.encrypted_keys).plaintext == new.plaintext
    assert vault.decrypt_data_key(old.encrypted_keys).plaintext == old.plaintext

    states.append(vault.byok.disable(*ITEM).state)
    for call in (lambda: vault.create_data_key(PAIR), lambda: vault.decrypt_data_key(new.encrypted_keys)):
        with pytest.raises(KeyRevoked, match="'organization_id' is disabled"):
            call()
    states.append(vault.byok.enable(*ITEM).state)
    assert vault.decrypt_data_key(new.encrypted_keys).plaintext == new.plaintext
    vault.byok.delete(*ITEM)

    assert states == ["configured", "verified", "active", "disabled", "active"]
    with pytest.raises(KeyRevoked, match="'organization_id' is deleted"):
        vault.decrypt_data_key(new.encrypted_keys)
    assert vault.byok.get(*ITEM) is None
    assert [key.state for key in vault.byok.all()] == ["deleted"]
    assert kinds(vault, ACME) == [MANAGED]
    provider = {"file": "LOCAL_FILE", "aws": "AWS_KMS", "openbao": "OPENBAO_TRANSIT"}[customer["provider"]]
    assert told(vault) == [
        (
            "vault.byok_key.verification_completed",
            {"organization_id": "acme", "key_provider": provider, "verified": True},
        ),
        ("vault.byok_key.deleted", {"organization_id": "acme", "key_provider": provider}),
    ]


@pytest.mark.parametrize(
    ("provider", "settings"),
    [
        ("file", {"path": "/no such directory/customer.key"}),
        ("aws", {"key_id": "alias/none", "region": "eu-west-3", "endpoint_url": "http://127.0.0.1:1"}),
        ("openbao", {"address": "http://127.0.0.1:1", "key": "none", "token_env": "NO_SUCH_VARIABLE"}),
    ],
)
def test_configuring_asks_no_provider(vault: LocalVault, provider: str, settings: dict) -> None:
    """None of these could answer."""
    assert vault.byok.configure(*ITEM, provider=provider, settings=settings).state == "configured"
    assert kinds(vault, ACME) == [MANAGED]


@pytest.mark.parametrize("steps", [[], ["verify"], ["verify", "activate"], ["verify", "disable"]])
def test_key_is_verified_in_any_state_and_stays_in_it(vault: LocalVault, file: dict, steps: list[str]) -> None:
    vault.byok.configure(*ITEM, **file)
    for step in steps:
        getattr(vault.byok, step)(*ITEM)
    before = vault.byok.get(*ITEM)

    after = vault.byok.verify(*ITEM)

    assert after == (before if steps else replace(before, state="verified"))  # type: ignore[type-var]


@pytest.mark.parametrize("steps", [["verify"], ["verify", "activate"], ["verify", "activate", "deactivate"]])
def test_enabled_key_is_active_whatever_it_was_before(vault: LocalVault, file: dict, steps: list[str]) -> None:
    vault.byok.configure(*ITEM, **file)
    for step in [*steps, "disable"]:
        getattr(vault.byok, step)(*ITEM)

    assert vault.byok.enable(*ITEM).state == "active"
    assert kinds(vault, ACME) == [CUSTOMER]


def test_exact_item_alone_has_the_key(vault: LocalVault, file: dict) -> None:
    activate(vault, file)

    assert kinds(vault, PAIR) == [CUSTOMER, MANAGED]
    for context in (
        OTHER,
        KeyContext({"organization_id": "ACME"}),
        KeyContext({"organization_id": "acme "}),
        KeyContext({"organization": "acme"}),
        KeyContext({"purpose": "acme"}),
    ):
        assert kinds(vault, context) == [MANAGED]


def test_two_items_of_one_context_may_have_keys_of_two_customers(vault: LocalVault, file: dict, tmp_path: Path) -> None:
    second = tmp_path / "second.key"
    second.touch(0o600)
    second.write_bytes(secrets.token_bytes(32))
    activate(vault, file)
    activate(vault, {"provider": "file", "settings": {"path": str(second)}}, "purpose", "care")
    key = vault.create_data_key(PAIR)
    vault.purge()

    assert kinds(vault, PAIR) == [CUSTOMER, CUSTOMER]
    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
    second.unlink()
    vault.purge()
    with pytest.raises(KeyRevoked, match="'purpose'"):
        vault.decrypt_data_key(key.encrypted_keys)


def test_rekey_moves_a_data_key_between_managed_and_customers_keys(vault: LocalVault, customer: dict) -> None:
    key = vault.create_data_key(ACME)
    activate(vault, customer)
    assert not vault.is_current(key.encrypted_keys, ACME)

    moved = vault.rekey_data_key(key.encrypted_keys, ACME)
    back = vault.rekey_data_key(moved.encrypted_keys, OTHER)
    vault.purge()

    assert vault.is_current(moved.encrypted_keys, ACME)
    assert moved.id == key.id
    for each in (key, moved, back):
        assert vault.decrypt_data_key(each.encrypted_keys).plaintext == key.plaintext
    vault.byok.delete(*ITEM)
    assert vault.decrypt_data_key(back.encrypted_keys).plaintext == key.plaintext
    with pytest.raises(VaultRefused):
        vault.is_current("nonsense", ACME)


@pytest.mark.parametrize("how", ["retired", "destroyed"])
def test_copies_from_before_are_closed_with_the_managed_key(vault: LocalVault, file: dict, how: str) -> None:
    """Not sooner: rekeying reaches what is stored, and no copy of it that somebody has kept."""
    old = vault.create_data_key(ACME)
    activate(vault, file)
    moved = vault.rekey_data_key(old.encrypted_keys, ACME)
    vault.purge()
    assert vault.decrypt_data_key(old.encrypted_keys).plaintext == old.plaintext

    if how == "retired":
        vault.service.keks.rotate(*ITEM)
        vault.service.keks.retire(*ITEM, before=2)
    else:
        vault.service.keks.destroy(*ITEM, after=timedelta())
    vault.purge()
    with pytest.raises(KeyRevoked):
        vault.decrypt_data_key(old.encrypted_keys)
    assert vault.decrypt_data_key(moved.encrypted_keys).plaintext == old.plaintext
    assert kinds(vault, ACME) == [CUSTOMER]


def test_data_can_be_given_back_to_the_managed_key(vault: LocalVault, customer: dict) -> None:
    activate(vault, customer)
    key = vault.create_data_key(ACME)

    assert vault.byok.deactivate(*ITEM).state == "verified"
    assert kinds(vault, ACME) == [MANAGED]
    vault.purge()
    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
    assert not vault.is_current(key.encrypted_keys, ACME)
    back = vault.rekey_data_key(key.encrypted_keys, ACME)
    assert vault.byok.disable(*ITEM).state == "disabled"
    with pytest.raises(KeyRevoked):
        vault.decrypt_data_key(key.encrypted_keys)
    vault.byok.delete(*ITEM)

    vault.purge()
    assert vault.decrypt_data_key(back.encrypted_keys).plaintext == key.plaintext


@pytest.mark.parametrize(
    ("steps", "wrong", "message"),
    [
        ([], "activate", "cannot be activated: it is configured; verify it first"),
        ([], "disable", "cannot be disabled: it is configured; verify it first"),
        ([], "enable", "cannot be enabled: it is configured; verify it first"),
        (["verify"], "deactivate", "cannot be deactivated: it is verified."),
        (["verify"], "enable", "cannot be enabled: it is verified; activate it first"),
        (["verify", "activate", "disable"], "deactivate", "cannot be deactivated: it is disabled; enable it first"),
        (["verify", "activate"], "activate", "cannot be activated: it is active."),
        (["verify", "activate"], "enable", "cannot be enabled: it is active."),
        (["verify", "activate", "disable"], "activate", "cannot be activated: it is disabled; enable it first"),
        (["verify", "activate", "disable"], "disable", "cannot be disabled: it is disabled."),
    ],
)
def test_wrong_step_is_refused_and_changes_nothing(
    vault: LocalVault, file: dict, steps: list[str], wrong: str, message: str
) -> None:
    vault.byok.configure(*ITEM, **file)
    for step in steps:
        getattr(vault.byok, step)(*ITEM)
    before = vault.byok.get(*ITEM)

    with pytest.raises(VaultRefused, match=message.replace(".", r"\.")):
        getattr(vault.byok, wrong)(*ITEM)
    assert vault.byok.get(*ITEM) == before


@pytest.mark.parametrize("step", ["verify", "activate", "deactivate", "disable", "enable", "delete"])
def test_item_without_a_key_is_refused(vault: LocalVault, step: str) -> None:
    with pytest.raises(VaultRefused, match="no customer key of this value"):
        getattr(vault.byok, step)(*ITEM)


def test_item_has_one_key_at_a_time(vault: LocalVault, file: dict) -> None:
    vault.byok.configure(*ITEM, **file)

    with pytest.raises(VaultRefused, match="has a customer key already, which is configured"):
        vault.byok.configure(*ITEM, **file)
    vault.byok.delete(*ITEM)
    vault.byok.delete(*ITEM)
    activate(vault, file)
    assert [key.state for key in vault.byok.all()] == ["deleted", "active"]
    assert [name for name, _ in told(vault)].count("vault.byok_key.deleted") == 1


def test_key_of_a_former_configuration_opens_nothing_of_the_next(vault: LocalVault, file: dict) -> None:
    """Though the customer's key is the same: the inner key of the deleted one is gone."""
    activate(vault, file)
    key = vault.create_data_key(ACME)
    vault.byok.delete(*ITEM)
    activate(vault, file)

    with pytest.raises(KeyRevoked):
        vault.decrypt_data_key(key.encrypted_keys)


@pytest.mark.parametrize(
    ("name", "value", "settings", "error"),
    [
        ("", "acme", {"path": "/x"}, KeyContextError),
        ("n" * 121, "acme", {"path": "/x"}, KeyContextError),
        ("organization_id", "v" * 501, {"path": "/x"}, KeyContextError),
        ("organization_id", "acme", {}, ValueError),
    ],
)
def test_what_cannot_be_is_not_configured(
    vault: LocalVault, name: str, value: str, settings: dict, error: type[Exception]
) -> None:
    with pytest.raises(error):
        vault.byok.configure(name, value, provider="file", settings=settings)
    assert vault.byok.all() == []


def test_failed_verification_is_an_event_and_leaves_the_state(vault: LocalVault, file: dict, key_file: Path) -> None:
    key = vault.byok.configure(*ITEM, **file)
    material = key_file.read_bytes()
    key_file.unlink()
    with pytest.raises(KeyRevoked, match="customer key for the context item 'organization_id'"):
        vault.byok.verify(*ITEM)
    assert vault.byok.get(*ITEM) == key

    key_file.touch(0o600)
    key_file.write_bytes(material)
    vault.byok.verify(*ITEM)
    vault.byok.activate(*ITEM)
    assert vault.byok.verify(*ITEM).state == "active"
    assert [data["verified"] for _, data in told(vault)] == [False, True, True]


def test_failed_verification_drops_what_is_cached(vault: LocalVault, file: dict, key_file: Path) -> None:
    activate(vault, file)
    key = vault.create_data_key(ACME)
    other = vault.create_data_key(OTHER)
    key_file.unlink()
    with pytest.raises(KeyRevoked):
        vault.byok.verify(*ITEM)

    with pytest.raises(KeyRevoked):
        vault.decrypt_data_key(key.encrypted_keys)
    vault.decrypt_data_key(other.encrypted_keys)
    assert vault.calls["decrypt"] == 1, "another tenant's keys stay cached"


class Careless(KeyProvider):
    """Does not authenticate its binding, or does not give back what it got."""

    name = "CARELESS"

    def __init__(self, returned: bytes | None, length: int = 1) -> None:
        self.returned = returned
        self.length = length

    def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes:
        self.sealed = sealed
        return b"w" * self.length

    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        return self.returned if self.returned is not None else self.sealed


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        (Careless(None), "does not authenticate what a copy is bound to"),
        (Careless(b"something else"), "does not give back what it wrapped"),
        (Careless(None, 4097), "made a copy of 4097 bytes; 4096 are the most"),
        (Careless(None, 0), "made a copy of 0 bytes"),
    ],
)
def test_careless_provider_does_not_verify(provider: KeyProvider, message: str) -> None:
    vault = InMemoryVault()
    vault.service._customer_keys._build = lambda kind, settings: provider
    vault.byok.configure(*ITEM, provider="any", settings={})

    with pytest.raises(VaultRefused, match=message):
        vault.byok.verify(*ITEM)
    vault.close()


def test_each_verification_has_a_probe_of_its_own() -> None:
    vault, probes = InMemoryVault(), set()
    for _ in range(3):
        provider = Careless(None)
        vault.service._customer_keys._providers.clear()
        vault.service._customer_keys._build = lambda kind, settings, provider=provider: provider
        vault.byok.configure(*ITEM, provider="any", settings={})
        with pytest.raises(VaultRefused):
            vault.byok.verify(*ITEM)
        probes.add(provider.sealed)
        vault.byok.delete(*ITEM)
    vault.close()

    assert [len(probe) for probe in probes] == [32, 32, 32]


def test_events_of_other_items_name_no_organization(vault: LocalVault, file: dict) -> None:
    vault.byok.configure("region", "eu", **file)
    vault.byok.verify("region", "eu")

    assert told(vault)[0][1]["organization_id"] == ""


def test_other_processes_wrap_new_keys_under_it_at_once(make_vault: MakeVault, file: dict) -> None:
    one, other = make_vault(), make_vault()
    other.service._ring._clock = lambda: 100.0
    assert kinds(other, ACME) == [MANAGED]

    activate(one, file)
    assert kinds(other, ACME) == [CUSTOMER], "before the second is over for which it believes what it holds"
    one.byok.disable(*ITEM)
    with pytest.raises(KeyRevoked):
        other.create_data_key(ACME)
    one.byok.enable(*ITEM)
    one.byok.deactivate(*ITEM)
    assert kinds(other, ACME) == [MANAGED], "what ends the use of a key is followed at once"


def test_row_that_was_edited_is_unavailable(vault: LocalVault, file: dict) -> None:
    """Else whoever can write the keystore could lead new data keys to a key of their own."""
    activate(vault, file)
    key = vault.create_data_key(ACME)
    with vault.service.store.connections.use() as connection:
        connection.execute('UPDATE byok_key SET settings = \'{"path":"/tmp/mine"}\'')
    vault.purge()

    for call in (lambda: vault.create_data_key(ACME), lambda: vault.decrypt_data_key(key.encrypted_keys)):
        with pytest.raises(VaultUnavailable, match="damaged or was tampered with"):
            call()
    with vault.service.store.connections.use() as connection:
        connection.execute("UPDATE byok_key SET root_key_id = 'another'")
    with pytest.raises(VaultUnavailable, match="damaged or was tampered with"):
        vault.create_data_key(ACME)


@pytest.mark.parametrize("state", ["configured", "verified", "deleted", "active"])
def test_state_that_was_edited_is_unavailable(vault: LocalVault, file: dict, state: str) -> None:
    """Neither comes a key back that its owner withdrew, nor does the managed KEK take its place."""
    activate(vault, file)
    key = vault.create_data_key(ACME)
    vault.byok.disable(*ITEM)
    with vault.service.store.connections.use() as connection:
        connection.execute("UPDATE byok_key SET state = ?", [state])
    vault.purge()

    for call in (
        lambda: vault.create_data_key(ACME),
        lambda: vault.decrypt_data_key(key.encrypted_keys),
        lambda: vault.byok.get(*ITEM),
        vault.byok.all,
        lambda: vault.byok.enable(*ITEM),
        lambda: vault.byok.delete(*ITEM),
    ):
        with pytest.raises(VaultUnavailable, match="row .* of the table 'byok_key' is not as it was written"):
            call()


@pytest.mark.parametrize("part", [{"wrapped": bytes(60)}, {"root_key_id": "another"}])
def test_inner_key_that_does_not_open_is_unavailable(vault: LocalVault, file: dict, part: dict) -> None:
    """Whatever vouches for its row: a release that wrote it wrongly would have done that too."""
    activate(vault, file)
    keys = vault.service._customer_keys
    record = keys.store.of_item("default", *ITEM)
    assert record is not None

    with pytest.raises(VaultUnavailable, match="the context item 'organization_id' does not open. Restore it"):
        keys.usable(replace(record, **part))


def test_provider_that_this_process_cannot_build_is_unavailable(vault: LocalVault, file: dict) -> None:
    """As where a library is missing. The vault's other keys go on."""
    activate(vault, file)
    vault.close()

    def refuse(kind: str, settings: object) -> KeyProvider:
        raise ValueError("no such provider.")

    vault.service._customer_keys._build = refuse

    with pytest.raises(VaultUnavailable, match="'organization_id' cannot be asked: no such provider"):
        vault.create_data_key(ACME)
    assert kinds(vault, OTHER) == [MANAGED]
    vault.byok.delete(*ITEM)
    assert told(vault)[-1] == ("vault.byok_key.deleted", {"organization_id": "acme", "key_provider": "file"})


def test_environments_share_no_key(vault: LocalVault, file: dict) -> None:
    activate(vault, file)
    key = vault.create_data_key(ACME)
    staging = vault.service.for_environment("staging")

    assert staging.byok.all() == []
    with pytest.raises(VaultRefused) as caught:
        staging.decrypt(key.encrypted_keys)
    assert not isinstance(caught.value, KeyRevoked)


@pytest.mark.parametrize(
    ("before", "since"),
    [(["activate"], ["disable"]), (["activate"], ["delete"]), (["activate", "deactivate"], ["disable"])],
    ids=["disabled", "deleted", "disabled after it was deactivated"],
)
def test_a_backup_brings_no_withdrawn_key_back_unasked(
    vault: LocalVault, file: dict, tmp_path: Path, before: list[str], since: list[str]
) -> None:
    """What a key has wrapped opens too while it is deactivated."""
    vault.byok.configure(*ITEM, **file)
    vault.byok.verify(*ITEM)
    key = None
    for step in before:
        getattr(vault.byok, step)(*ITEM)
        key = key or vault.create_data_key(ACME)
    assert key is not None
    # That the item has a managed KEK too is not what is lost.
    vault.create_data_key(OTHER)
    vault.service.back_up(tmp_path / "backup")
    for step in since:
        getattr(vault.byok, step)(*ITEM)

    with pytest.raises(RestoreRefused, match="1 key was disabled, retired or destroyed since"):
        vault.service.restore(tmp_path / "backup")
    with pytest.raises(KeyRevoked):
        vault.decrypt_data_key(key.encrypted_keys)
    vault.service.restore(tmp_path / "backup", force=True)
    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_a_disabled_managed_key_closes_nothing_that_the_customers_key_wrapped(vault: LocalVault, file: dict) -> None:
    managed = vault.create_data_key(ACME)
    activate(vault, file)
    customers = vault.create_data_key(ACME)
    vault.service.keks.disable(*ITEM)
    vault.purge()

    with pytest.raises(KeyRevoked):
        vault.decrypt_data_key(managed.encrypted_keys)
    assert vault.decrypt_data_key(customers.encrypted_keys).plaintext == customers.plaintext


def test_root_key_may_be_changed_meanwhile(vault: LocalVault, file: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is not stored under a root key that has just been replaced."""
    monkeypatch.setattr(vault.service._customer_keys.store, "add", lambda *args: False)

    with pytest.raises(VaultUnavailable, match="root key of the keystore is being changed"):
        vault.byok.configure(*ITEM, **file)


def test_deleted_inner_key_is_not_left_in_the_files(vault: LocalVault, file: dict) -> None:
    vault.byok.configure(*ITEM, **file)
    store = vault.service._customer_keys.store
    record = store.of_item("default", *ITEM)
    assert record is not None
    files = [vault.path, vault.path.with_name(vault.path.name + "-wal")]
    assert any(record.wrapped in path.read_bytes() for path in files if path.exists())

    vault.byok.delete(*ITEM)

    assert not any(record.wrapped in path.read_bytes() for path in files if path.exists())
    assert store.find(record.id).wrapped == b""  # type: ignore[union-attr]
    assert "wrapped" not in repr(record)


def test_of_two_who_delete_at_once_one_does(vault: LocalVault, file: dict) -> None:
    vault.byok.configure(*ITEM, **file)
    store = vault.service._customer_keys.store
    record = store.of_item("default", *ITEM)
    assert record is not None
    event = Event.now("default", "vault.byok_key.deleted", organization_id="acme", key_provider="LOCAL_FILE")

    assert [store.delete(record.id, event) for _ in range(2)] == [True, False]
    assert len(told(vault)) == 1


def test_more_customers_than_providers_are_held_for(vault: LocalVault, file: dict, tmp_path: Path) -> None:
    vault.service._customer_keys._providers = SharedLRU(max_entries=2)
    for number in range(4):
        path = tmp_path / f"{number}.key"
        path.touch(0o600)
        path.write_bytes(secrets.token_bytes(32))
        activate(vault, {"provider": "file", "settings": {"path": str(path)}}, "organization_id", str(number))
    keys = [vault.create_data_key(KeyContext({"organization_id": str(number)})) for number in range(4)]
    vault.purge()

    assert [vault.decrypt_data_key(key.encrypted_keys).plaintext for key in keys] == [key.plaintext for key in keys]


def test_errors_of_byok_carry_the_alias_of_no_vault_but_calls_do(vault: LocalVault, file: dict) -> None:
    activate(vault, file)
    vault.byok.disable(*ITEM)

    with pytest.raises(VaultError, match=r"^VAULTS\['tested'\]: The customer key"):
        vault.create_data_key(ACME)


def test_policy_that_does_not_exist_is_an_error(vault: LocalVault) -> None:
    ring = vault.service._ring

    with pytest.raises(ValueError, match=r"unwrap must be 'all' or 'first'\.$"):
        KeyWrapper(ring, CustomerKeys(ring), "default", unwrap="any")


def test_embedded_vault_without_providers_refuses_rather_than_goes_on_with_the_managed_key(
    vault: LocalVault, file: dict, make_vault: MakeVault
) -> None:
    activate(vault, file)
    ring = KeyRing(KeyStore.at(vault.path), make_vault().service._ring.configured.obtain())
    bare = EmbeddedVault(ring)

    with pytest.raises(VaultUnavailable, match="this vault has no provider 'file'"):
        bare.create(ACME)
    bare.close()
