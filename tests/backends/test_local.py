import pickle
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from vault_fields.backends.local import LocalVault
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.keys import KeyContext
from vault_fields.vaults import VaultHandler, vault_config

ACME = KeyContext({"organization_id": "acme"})
ROOT_KEY = generate_root_key()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.sqlite3"


@pytest.fixture
def vault(path: Path) -> Iterator[LocalVault]:
    with closing(LocalVault("tenants", path=path, root_key=ROOT_KEY)) as vault:
        vault.service.create_keystore()
        yield vault


def test_building_one_touches_no_file(tmp_path: Path) -> None:
    LocalVault(path=tmp_path / "missing" / "vault.sqlite3")

    assert list(tmp_path.iterdir()) == []


def test_path_may_be_a_string(path: Path) -> None:
    with closing(LocalVault(path=str(path), root_key=ROOT_KEY)) as vault:
        vault.service.create_keystore()
        assert vault.path == path
        assert vault.create_data_key(ACME)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "vault.sqlite3"}, 'path must be absolute, for example BASE_DIR / "vault.sqlite3"'),
        ({"path": None}, "path must be a string or a Path, not NoneType"),
        ({"path": b"/vault.sqlite3"}, "path must be a string or a Path, not bytes"),
        ({"root_key": "nonsense"}, "root_key cannot be used: it must be the base64 of 32 bytes"),
        ({"root_key": ""}, "root_key cannot be used"),
        ({"root_key": b"nonsense"}, "root_key cannot be used: it must be a string, not bytes"),
        ({"timeout": -1}, "timeout must be a number of at least 0"),
        ({"unwrap": "any"}, "unwrap must be 'all' or 'first'"),
        ({"record_key_events": 1}, "record_key_events must be True or False, not 1"),
        ({"event_retention_days": 0}, "event_retention_days must be a whole number of at least 1, not 0"),
        ({"event_retention_days": 1.5}, "event_retention_days must be a whole number of at least 1, not 1.5"),
        ({"event_retention_days": 40_000}, "event_retention_days must be at most 36525"),
        ({"timeout": float("inf")}, "timeout must be at most 300 seconds"),
        ({"tiemout": 1}, "unknown OPTIONS: tiemout"),
        ({"service": 1}, "unknown OPTIONS: service"),
    ],
)
def test_wrong_option_names_the_setting(path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        LocalVault("tenants", **{"path": path, "root_key": ROOT_KEY, **options})  # type: ignore[arg-type]

    assert str(caught.value).startswith("VAULTS['tenants']: ")
    assert message in str(caught.value)
    assert "nonsense" not in str(caught.value)


def test_term_of_events_is_that_of_the_option(path: Path) -> None:
    assert LocalVault(path=path).service.store.events.retention is None
    configured = vault_config(f"local://{path}?event_retention_days=30")["OPTIONS"]
    assert LocalVault(**configured).service.store.events.retention == timedelta(days=30)


def test_root_key_of_the_environment_counts_without_an_option(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ROOT_KEY", ROOT_KEY)
    with closing(LocalVault(path=path)) as from_environment:
        from_environment.service.create_keystore()
        key = from_environment.create_data_key(ACME)

    with closing(LocalVault(path=path, root_key=ROOT_KEY)) as with_option:
        assert with_option.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_development_key_is_known_without_being_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_ROOT_KEY", raising=False)

    assert LocalVault(path=path).uses_development_key
    assert not LocalVault(path=path, root_key=ROOT_KEY).uses_development_key
    assert list(path.parent.iterdir()) == []
    monkeypatch.setenv("VAULT_ROOT_KEY", ROOT_KEY)
    assert not LocalVault(path=path).uses_development_key


def test_without_a_root_key_a_development_key_is_generated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_ROOT_KEY", raising=False)

    with closing(LocalVault(path=path)) as vault, pytest.warns(RuntimeWarning, match="development root key"):
        key = vault.create_data_key(ACME)
    with closing(LocalVault(path=path)) as again:
        assert again.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_wrong_root_key_names_setting_and_file(vault: LocalVault, path: Path) -> None:
    key = vault.create_data_key(ACME)

    with closing(LocalVault("tenants", path=path, root_key=generate_root_key())) as wrong:
        for call in (lambda: wrong.create_data_key(ACME), lambda: wrong.decrypt_data_key(key.encrypted_keys)):
            with pytest.raises(ImproperlyConfigured) as caught:
                call()
            assert str(caught.value).startswith(f"VAULTS['tenants']: wrong root key: the keystore {path} was made with")


def test_failing_keystore_names_setting_and_file(vault: LocalVault, path: Path) -> None:
    vault.create_data_key(ACME)
    vault.close()
    path.unlink()
    path.mkdir()

    with pytest.raises(VaultUnavailable) as caught:
        vault.create_data_key(ACME)

    assert str(caught.value).startswith(f"VAULTS['tenants']: The keystore {path} cannot be opened.")
    assert caught.value.alias == "tenants"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_nothing_secret_is_shown(vault: LocalVault) -> None:
    vault.create_data_key(ACME)

    assert repr(vault) == "<LocalVault 'tenants'>"
    assert ROOT_KEY not in repr(vars(vault)) + repr(vars(vault.service)) + repr(vars(vault.service._ring))


def test_purge_looks_at_the_state_of_keks_anew(vault: LocalVault, path: Path) -> None:
    """So that a webhook that says "revoked" takes effect at once, and not after a cache's age."""
    key = vault.create_data_key(ACME)
    with closing(LocalVault(path=path, root_key=ROOT_KEY)) as other:
        other.service.disable("organization_id", "acme")
    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext

    vault.purge({"organization_id": "acme"})

    with pytest.raises(KeyRevoked) as caught:
        vault.decrypt_data_key(key.encrypted_keys)
    assert caught.value.alias == "tenants"


def test_a_cached_key_may_be_one_that_a_restored_backup_does_not_open(
    vault: LocalVault, path: Path, tmp_path: Path
) -> None:
    """Until it is purged, as the page on operations says."""
    vault.service.back_up(tmp_path / "backup")
    key = vault.create_data_key(ACME)
    with closing(LocalVault(path=path, root_key=ROOT_KEY)) as other:
        other.service.restore(tmp_path / "backup", force=True)
    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
    vault.purge()
    with pytest.raises(VaultRefused):
        vault.decrypt_data_key(key.encrypted_keys)


def test_a_running_process_goes_on_when_the_root_key_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has it in memory; nobody who starts afterwards has."""
    with closing(LocalVault(path=path, root_key=ROOT_KEY)) as first:
        first.service.create_keystore()
    monkeypatch.setenv("VAULT_ROOT_KEY", ROOT_KEY)
    with closing(LocalVault(path=path)) as running:
        key = running.create_data_key(ACME)
        monkeypatch.delenv("VAULT_ROOT_KEY")
        running.purge()
        assert running.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
        with closing(LocalVault(path=path)) as later, pytest.raises(ImproperlyConfigured):
            later.decrypt_data_key(key.encrypted_keys)


def test_close_leaves_only_the_keystore(vault: LocalVault, path: Path) -> None:
    vault.create_data_key(ACME)

    vault.close()

    assert [file.name for file in path.parent.iterdir()] == ["vault.sqlite3"]


def test_cost_of_a_key_is_no_write(vault: LocalVault, path: Path) -> None:
    vault.create_data_key(ACME)
    with closing(sqlite3.connect(path)) as other:
        before = other.execute("PRAGMA data_version").fetchone()
        for _ in range(100):
            vault.decrypt_data_key(vault.create_data_key(ACME).encrypted_keys)
        assert other.execute("PRAGMA data_version").fetchone() == before


def test_handler_builds_it(path: Path, settings: object) -> None:
    options = {"path": path, "root_key": ROOT_KEY, "timeout": 1}
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": options}}  # type: ignore[attr-defined]

    vault = VaultHandler()["default"]

    assert isinstance(vault, LocalVault)
    vault.service.create_keystore()
    assert vault.create_data_key(ACME)
    vault.close()


# A keystore that is not there.


def test_missing_keystore_is_no_reason_to_begin_with_an_empty_one(vault: LocalVault, path: Path) -> None:
    """As in a container that was deployed anew, with the root key but without the volume."""
    key = vault.create_data_key(ACME)
    vault.close()
    path.unlink()

    with closing(LocalVault("tenants", path=path, root_key=ROOT_KEY)) as anew:
        for call in (lambda: anew.create_data_key(ACME), lambda: anew.decrypt_data_key(key.encrypted_keys)):
            with pytest.raises(VaultUnavailable) as caught:
                call()
            assert str(caught.value).startswith(f"VAULTS['tenants']: The keystore {path} is missing.")
            assert "manage.py vault_keystore restore FILE" in str(caught.value)
            assert "manage.py vault_keystore create" in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_directory_that_is_missing_is_told_in_the_same_way(tmp_path: Path) -> None:
    with (
        closing(LocalVault(path=tmp_path / "volume" / "vault.sqlite3", root_key=ROOT_KEY)) as vault,
        pytest.raises(VaultUnavailable, match="is missing"),
    ):
        vault.create_data_key(ACME)


def test_keystore_that_comes_back_is_used_without_a_restart(vault: LocalVault, path: Path) -> None:
    key = vault.create_data_key(ACME)
    vault.close()
    aside = path.rename(path.with_name("aside"))
    with pytest.raises(VaultUnavailable):
        vault.decrypt_data_key(key.encrypted_keys)

    aside.rename(path)

    assert vault.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext


def test_under_a_development_key_a_keystore_is_made_on_first_use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_ROOT_KEY", raising=False)
    for _ in range(2):
        with closing(LocalVault(path=path)) as vault, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            assert vault.create_data_key(ACME)
        path.unlink()
