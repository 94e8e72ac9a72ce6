"""Rows of a keystore that stand in the clear: who can write to the file, and has no root key, edits nothing unseen."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.managed.tags import RowsAltered
from vault_fields.embedded.objects import StoredObjects
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked
from vault_fields.keys import KeyContext

ACME = KeyContext({"organization_id": "acme"})
ITEM = "organization_id", "acme"
ALTERED = "is damaged or was tampered with: the row .* of the table '{}' is not as it was written"


@pytest.fixture
def vault(path: Path, open_vault: Callable[..., EmbeddedVault]) -> EmbeddedVault:
    vault = open_vault()
    vault.create(ACME)
    vault.create(KeyContext({"organization_id": "other"}))
    return vault


@pytest.fixture
def edit(path: Path, vault: EmbeddedVault) -> Callable[[str], None]:
    def edit(statement: str) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
            connection.commit()
        vault.forget()

    return edit


def altered(table: str) -> Any:
    return pytest.raises(RowsAltered, match=ALTERED.format(table))


def calls(vault: EmbeddedVault) -> list[Callable[[], object]]:
    return [
        lambda: vault.create(ACME),
        lambda: vault.disable(*ITEM),
        lambda: vault.enable(*ITEM),
        lambda: vault.keks.rotate(*ITEM),
        lambda: vault.keks.retire(*ITEM, before=1),
        lambda: vault.keks.cancel(*ITEM),
        lambda: vault.keks.destroy(*ITEM, after=timedelta(1)),
        lambda: vault.keks.get(*ITEM),
        lambda: list(vault.keks),
    ]


@pytest.mark.parametrize(
    "assignment",
    [
        "state = 'enabled'",
        "minimum_version = 1",
        "current_version = 1",
        "destroy_at = '2000-01-01T00:00:00.000Z'",
        "state = CAST('disabled' AS BLOB)",
        "tag = x''",
        "tag = 'text'",
        "tag = (SELECT tag FROM kek WHERE item_value = 'other')",
        "tagged_by = ''",
    ],
)
def test_edited_kek_is_refused_by_whatever_reads_it(
    vault: EmbeddedVault, edit: Callable[[str], None], assignment: str
) -> None:
    keys = vault.create(ACME).encrypted_keys
    vault.keks.rotate(*ITEM)
    vault.keks.retire(*ITEM, before=2)
    vault.disable(*ITEM)
    edit(f"UPDATE kek SET {assignment} WHERE item_value = 'acme'")

    for call in [*calls(vault), lambda: vault.decrypt(keys), lambda: vault.is_gone(keys)]:
        with altered("kek"):
            call()
    vault.create(KeyContext({"organization_id": "other"}))


def test_disabled_kek_is_not_enabled_by_an_edit(vault: EmbeddedVault, edit: Callable[[str], None]) -> None:
    keys = vault.create(ACME).encrypted_keys
    vault.disable(*ITEM)
    with pytest.raises(KeyRevoked):
        vault.decrypt(keys)
    edit("UPDATE kek SET state = 'enabled'")

    with altered("kek"):
        vault.decrypt(keys)


def test_version_that_a_kek_names_and_that_is_gone_is_damage(vault: EmbeddedVault, edit: Callable[[str], None]) -> None:
    """Else new data keys would be wrapped under one that was rotated away."""
    vault.keks.rotate(*ITEM)
    edit("DELETE FROM kek_version WHERE version = 2")

    with pytest.raises(Exception, match="does not open. Restore it from a backup"):
        vault.create(ACME)


def test_edit_neither_erases_a_key_nor_hides_one_that_is_due(vault: EmbeddedVault, edit: Callable[[str], None]) -> None:
    vault.create(KeyContext({"organization_id": "due"}))
    for value in ("acme", "due"):
        vault.keks.destroy("organization_id", value, after=timedelta(days=1))
    vault.keks._clock = lambda: datetime.now(UTC) + timedelta(days=2)
    edit("UPDATE kek SET destroy_at = '2999-01-01T00:00:00.000Z' WHERE item_value = 'acme'")
    edit("UPDATE kek SET state = 'pending destruction', destroy_at = '2000' WHERE item_value = 'other'")

    with altered("kek"):
        vault.keks.erase_due()

    assert vault.keks.get("organization_id", "due").state == "destroyed"
    with vault.store.connections.use() as connection:
        query = "SELECT item_value FROM kek JOIN kek_version ON kek_id = id WHERE wrapped <> x'' ORDER BY 1"
        assert connection.execute(query).fetchall() == [("acme",), ("other",)]


@pytest.mark.parametrize(
    "assignment", ["version_id = (SELECT min(id) FROM object_version)", "name = 'b'", "updated_at = 'now'"]
)
def test_edited_object_is_refused_by_whatever_reads_it(
    vault: EmbeddedVault, edit: Callable[[str], None], assignment: str
) -> None:
    objects = StoredObjects(vault)
    made = objects.create("a", "1", ACME)
    objects.update(made.id, "2")
    edit(f"UPDATE object SET {assignment}")

    for call in (
        lambda: objects.read(made.id),
        lambda: objects.describe(made.id),
        lambda: objects.versions(made.id),
        objects.page,
        lambda: objects.update(made.id, "3"),
        lambda: objects.delete(made.id),
    ):
        with altered("object"):
            call()
    with pytest.raises(Exception, match="damaged or was tampered with"):
        objects.rewrap()
    assert list(objects.claims()) == [None, None]


def test_root_key_rotation_tags_rows_anew(
    path: Path, vault: EmbeddedVault, root_key: RootKey, open_vault: Callable[..., EmbeddedVault]
) -> None:
    objects, new = StoredObjects(vault), RootKey(b"n" * 32)
    made = objects.create("a", "1", ACME)
    vault.disable("organization_id", "other")
    with closing(EmbeddedVault(KeyRing(KeyStore.at(path), new, former_root_keys=[root_key]))) as both:
        both.rotate_root_key()
    with pytest.raises(ImproperlyConfigured, match="wrong root key"):
        vault.keks.get(*ITEM)

    with closing(open_vault(new)) as after:
        assert StoredObjects(after).read(made.id).value == "1"
        assert [kek.state for kek in after.keks] == ["enabled", "disabled"]
        with after.store.connections.use() as connection:
            assert connection.execute("SELECT DISTINCT tagged_by FROM kek").fetchall() == [(new.id,)]


def test_root_key_rotation_and_backup_do_not_vouch_for_an_edit(
    tmp_path: Path, path: Path, vault: EmbeddedVault, edit: Callable[[str], None], root_key: RootKey
) -> None:
    vault.disable(*ITEM)
    backup = tmp_path / "backup"
    vault.back_up(backup)
    edit("UPDATE kek SET state = 'enabled'")

    with altered("kek"):
        vault.back_up(tmp_path / "another")
    with (
        closing(EmbeddedVault(KeyRing(KeyStore.at(path), RootKey(b"n" * 32), former_root_keys=[root_key]))) as both,
        altered("kek"),
    ):
        both.rotate_root_key()
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("UPDATE kek SET state = 'enabled'")
        connection.commit()
    with altered("kek"):
        vault.restore(backup, force=True)


def test_row_that_is_put_back_as_it_was_is_believed(
    path: Path, vault: EmbeddedVault, edit: Callable[[str], None], open_vault: Callable[..., EmbeddedVault]
) -> None:
    """What a keystore cannot notice by itself: it was like this once. Nor that a row is gone."""
    keys = vault.create(ACME).encrypted_keys
    with closing(sqlite3.connect(path)) as connection:
        enabled = connection.execute("SELECT state, tag FROM kek WHERE item_value = 'acme'").fetchone()
    vault.disable(*ITEM)
    with pytest.raises(KeyRevoked):
        vault.decrypt(keys)
    edit(f"UPDATE kek SET state = '{enabled[0]}', tag = x'{enabled[1].hex()}' WHERE item_value = 'acme'")
    assert vault.decrypt(keys)

    edit("DELETE FROM kek WHERE item_value = 'other'")
    assert [kek.item_value for kek in open_vault().keks] == ["acme"]


@pytest.mark.parametrize("edited", ["item_name = 'organization'", "item_value = 'acme '", "environment = 'other'"])
def test_kek_that_was_given_another_name_is_as_one_that_is_gone(
    vault: EmbeddedVault, edit: Callable[[str], None], edited: str
) -> None:
    """What the page on the embedded Vault says of it: a new key takes its place, and no old one opens again."""
    old = vault.create(ACME)
    vault.disable(*ITEM)
    edit(f"UPDATE kek SET {edited} WHERE item_value = 'acme'")
    assert vault.open_data_key(vault.create(ACME).encrypted_keys)
    with altered("kek"):
        vault.open_data_key(old.encrypted_keys)
    # Whoever lists the keys is told.
    if "environment" not in edited:
        with altered("kek"):
            list(vault.keks)


def test_row_that_is_gone_meanwhile_is_not_changed(vault: EmbeddedVault) -> None:
    with altered("byok_key"), vault.tags.transaction() as rows:
        rows.require("byok_key", bytes(16))


def test_kek_that_changed_while_it_was_rotated_is_looked_at_anew(vault: EmbeddedVault) -> None:
    before = vault._ring.current("default", *ITEM)
    assert before is not None
    vault.keks.rotate(*ITEM)
    vault.keks.retire(*ITEM, before=2)

    assert vault._ring.rotate(before).version == 2
    latest = vault._ring.current("default", *ITEM)
    vault.keks.retire(*ITEM, before=1)
    assert vault._ring.rotate(latest).version == 3
    assert vault.keks.get(*ITEM).minimum_version == 1
