"""What stands in a column and is none of what is written there, is damage: to the parser, and to who reads the log."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from vault_fields.embedded.database.columns import Malformed, json_object, moment
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import VaultUnavailable
from vault_fields.keys import KeyContext

ACME = KeyContext({"organization_id": "acme"})


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000], ids=["empty", "open", "list", "null", "deep"])
def test_json_that_is_no_object_is_damage(text: str) -> None:
    with pytest.raises(Malformed):
        json_object(text)


@pytest.mark.parametrize("stored", ["", "damaged", "2026-11-28T25:00:00.000+00:00", b"2026-11-28", 1.5, None])
def test_moment_that_is_none_is_damage(stored: object) -> None:
    with pytest.raises(Malformed):
        moment(stored)


@pytest.mark.parametrize("data", ["damaged", "[1]"])
def test_event_whose_details_are_no_json_object_is_damage(path: Path, vault: EmbeddedVault, data: str) -> None:
    vault.create(ACME)
    edit(path, "UPDATE event SET data = ?", data)
    with pytest.raises(VaultUnavailable, match=r"The keystore .* is damaged"):
        vault.store.events.page("default")


@pytest.mark.parametrize(
    "read",
    [
        lambda vault: list(vault.keks),
        lambda vault: vault.keks.get("organization_id", "acme"),
        lambda vault: vault.keks.disable("organization_id", "acme"),
    ],
    ids=["list", "get", "change"],
)
def test_key_that_was_created_at_no_moment_is_damage(
    path: Path, vault: EmbeddedVault, read: Callable[[EmbeddedVault], object]
) -> None:
    vault.create(ACME)
    edit(path, "UPDATE kek SET created_at = ?", "damaged")
    with pytest.raises(VaultUnavailable, match=r"The keystore .* is damaged"):
        read(vault)


def edit(path: Path, statement: str, value: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, [value])
        connection.commit()
