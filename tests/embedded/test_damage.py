"""Whatever stands in a keystore file, its readers get errors of this package, and no others."""

import os
import random
import secrets
import shutil
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.embedded.damaging import VALUES, columns, damage, filled, flipped, reads
from vault_fields.byok import build_provider
from vault_fields.embedded.customer.usable import CustomerKeys
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.objects import StoredObjects
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import VaultError, VaultRefused, VaultUnavailable

TYPED = VaultError, ImproperlyConfigured


@pytest.fixture
def sound(path: Path, root_key: RootKey, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A keystore in one file, and what its keys were."""
    key_file = tmp_path / "customer.key"
    key_file.touch(0o600)
    key_file.write_bytes(secrets.token_bytes(32))
    with closing(opened(path, root_key, must_exist=False)) as vault:
        held = filled(vault, key_file)
        vault.back_up(tmp_path / "sound")
    return tmp_path / "sound", held


def opened(path: Path, root_key: RootKey, *, must_exist: bool = True) -> EmbeddedVault:
    ring = KeyRing(KeyStore.at(path, timeout=0, must_exist=must_exist), root_key)
    return EmbeddedVault(ring, customer_keys=CustomerKeys(ring, build_provider))


def raw(vault: EmbeddedVault, held: dict[str, Any]) -> Iterator[str]:
    """What is raised that is no error of this package."""
    for name, read in reads(vault, held):
        try:
            read()
        except TYPED:
            pass
        except Exception as error:  # noqa: BLE001 - that is the question.
            where = traceback.extract_tb(error.__traceback__)[-1]
            yield f"{name}: {type(error).__name__} at {Path(where.filename).name}:{where.lineno} {error}"


def found(
    sound: Path, path: Path, root_key: RootKey, held: dict[str, Any], work: Callable[[Path], object]
) -> list[str]:
    """The same of a copy to which something was done. Of a name of its own: events may be noted when it is closed."""
    shutil.copyfile(sound, path)
    work(path)
    with closing(opened(path, root_key)) as vault:
        failures = list(raw(vault, held))
    # What cannot be stored there would be tried again for as long as this process lives.
    vault.store.events.reset_in_child()
    return failures


@pytest.mark.parametrize("value", VALUES)
def test_any_value_in_any_column(
    root_key: RootKey, sound: tuple[Path, dict[str, Any]], tmp_path: Path, value: str
) -> None:
    file, held = sound
    failures = []
    for table, column in columns(file):
        work = partial(damage, table=table, column=column, value=VALUES[value])
        failed = found(file, tmp_path / f"{table}.{column}.sqlite3", root_key, held, work)
        failures += [f"{table}.{column}: {each}" for each in failed]
    assert not failures, "\n".join(failures)


def test_bits_that_are_turned_over(root_key: RootKey, sound: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """A few files of one seed: set ``VAULT_TEST_SEED`` to any other, and ``VAULT_TEST_FILES`` to more of them."""
    file, held = sound
    seed = int(os.environ.get("VAULT_TEST_SEED", "20261128"))
    chance, content = random.Random(seed), file.read_bytes()
    print("VAULT_TEST_SEED =", seed)
    for number in range(int(os.environ.get("VAULT_TEST_FILES", "20"))):
        turned = flipped(content, chance)
        failed = found(file, tmp_path / f"{number}.sqlite3", root_key, held, partial(Path.write_bytes, data=turned))
        assert not failed, f"VAULT_TEST_SEED = {seed}, file {number}:\n" + "\n".join(failed)


@pytest.mark.parametrize("make", [KeyStore.in_memory, None], ids=["in memory", "in a file"])
def test_what_stands_in_no_keystore_is_refused(
    path: Path, root_key: RootKey, make: Callable[[], KeyStore] | None
) -> None:
    with closing(EmbeddedVault(KeyRing(make() if make else KeyStore.at(path), root_key))) as vault:
        objects = StoredObjects(vault)
        for call in (
            lambda: vault.keks.get("organization_id", "\ud800"),
            lambda: objects.read("\ud800"),
            lambda: vault.store.events.page("default", after="\ud800"),
            lambda: vault.store.find(bytes(16), 2**70),
        ):
            with pytest.raises(VaultRefused, match="stand in no keystore"):
                call()


@pytest.mark.parametrize("statement", ["UPDATE vault SET id = x'00'", "UPDATE kek_version SET wrapped = 1.5"])
def test_backup_with_values_of_other_types_is_refused(
    path: Path, root_key: RootKey, sound: tuple[Path, dict[str, Any]], statement: str
) -> None:
    file, _ = sound
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()

    with closing(opened(path, root_key)) as vault, pytest.raises(VaultUnavailable, match=r"sound .*is damaged"):
        vault.restore(file, force=True)
