"""``manage.py vault_objects``."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from vault_fields.embedded.objects import StoredObjects
from vault_fields.exceptions import KeyRevoked
from vault_fields.vaults import vaults

ITEM = ("organization_id", "acme")
CONTEXT = dict([ITEM])


@pytest.fixture(autouse=True)
def vault(settings: Any) -> Any:
    """One of its own, with an environment that is served."""
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}
    return vaults["default"].service.for_environment("staging")  # type: ignore[attr-defined]


def rewrapped(capsys: pytest.CaptureFixture[str], environment: str = "staging") -> str:
    call_command("vault_objects", "rewrap", "--environment", environment)
    return capsys.readouterr().out


def test_objects_of_any_environment_outlive_the_keys_that_wrapped_them(
    vault: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = StoredObjects(vault)
    first = objects.create("name", "value", CONTEXT)
    objects.update(first.id, "another value")
    vault.keks.rotate(*ITEM)

    assert rewrapped(capsys) == "2 versions of stored objects in 'staging' were wrapped anew.\n"

    vault.keks.retire(*ITEM, before=2)
    assert objects.read(first.id).value == "another value"
    assert objects.read(first.id, version_id=first.version_id).value == "value"


def test_what_is_revoked_is_left_as_it_is_and_counted(vault: Any, capsys: pytest.CaptureFixture[str]) -> None:
    objects = StoredObjects(vault)
    stored = objects.create("name", "value", CONTEXT)
    objects.create("other", "value", {"organization_id": "other"})
    vault.keks.disable(*ITEM)

    assert rewrapped(capsys).splitlines() == [
        "1 version of a stored object in 'staging' was wrapped anew.",
        "1 was left as it is: a key of it is revoked, or it is new.",
    ]
    with pytest.raises(KeyRevoked):
        objects.read(stored.id)


def test_what_a_customers_key_does_not_open_is_named_and_the_others_are_wrapped(
    vault: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "customer.key"
    path.touch(0o600)
    path.write_bytes(os.urandom(32))
    vault.byok.configure(*ITEM, provider="file", settings={"path": str(path)})
    vault.byok.verify(*ITEM)
    vault.byok.activate(*ITEM)
    objects = StoredObjects(vault)
    stored = objects.create("name", "value", CONTEXT)
    objects.create("other", "value", {"organization_id": "other"})
    path.write_bytes(b"not a key")

    with pytest.raises(CommandError, match="1 version of a stored object was left alone"):
        call_command("vault_objects", "rewrap", "--environment", "staging")
    told = capsys.readouterr()
    assert told.out == "1 version of a stored object in 'staging' was wrapped anew.\n"
    assert told.err.startswith(f"version {stored.version_id} of a stored object: The customer key for")


def test_version_that_was_edited_is_told_after_the_others_are_done(
    vault: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = StoredObjects(vault)
    for name in ("first", "second", "third"):
        objects.create(name, "value", CONTEXT)
    with vault.store.connections.use() as connection:
        connection.execute("UPDATE object SET context = '{\"organization_id\":\"evil\"}' WHERE name = 'second'")
    vault.keks.rotate(*ITEM)

    with pytest.raises(CommandError, match="damaged or was tampered with"):
        rewrapped(capsys)

    vault.keks.retire(*ITEM, before=2)
    assert {objects.read_by_name(name).value for name in ("first", "third")} == {"value"}


def test_environment_that_nobody_uses_is_refused(vault: Any, capsys: pytest.CaptureFixture[str]) -> None:
    StoredObjects(vault).create("name", "value", CONTEXT)

    with pytest.raises(CommandError, match="There is no environment 'stagin' in this vault. Did you mean staging"):
        rewrapped(capsys, "stagin")


def pruned(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("vault_objects", "prune", "--environment", "staging", *arguments)
    return capsys.readouterr().out


def test_older_versions_are_deleted_by_number_and_by_age(vault: Any, capsys: pytest.CaptureFixture[str]) -> None:
    objects = StoredObjects(vault)
    made = objects.create("name", "1", CONTEXT)
    for number in range(2, 6):
        objects.update(made.id, str(number))
    last_but_one = objects.versions(made.id)[1].id
    with vault.store.connections.use() as connection:
        update = "UPDATE object_version SET created_at = '2024-01-01T00:00:00.000Z' WHERE id < ?"
        connection.execute(update, [last_but_one])

    assert pruned(capsys, "--keep", "4") == "1 older version of a stored object in 'staging' deleted.\n"
    assert pruned(capsys, "--keep", "1", "--replaced-days", "1") == (
        "1 older version of a stored object in 'staging' deleted.\n"
    )
    assert pruned(capsys, "--replaced-days", "1").startswith("0 older")
    told = json.loads(pruned(capsys, "--replaced-days", "1", "--format", "json"))
    assert told == {"environment": "staging", "deleted": 0}
    assert [objects.read(made.id, version_id=each.id).value for each in objects.versions(made.id)] == ["5", "4", "3"]


def test_an_interrupted_pruning_says_so(vault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def prune(*args: object, **options: object) -> int:
        raise KeyboardInterrupt

    StoredObjects(vault).create("name", "value", CONTEXT)
    monkeypatch.setattr(StoredObjects, "prune", prune)
    with pytest.raises(CommandError, match="Interrupted. The versions deleted so far are gone") as caught:
        call_command("vault_objects", "prune", "--environment", "staging", "--keep", "1")
    assert caught.value.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "prune needs --keep or --replaced-days: which versions are to stay?"),
        (["prune", "--keep=0"], "must be a whole number of at least 1"),
        (["prune", "--keep=many"], "must be a whole number of at least 1"),
        (["prune", "--replaced-days=0"], "must be a whole number of at least 1"),
        (["prune", "--replaced-days=123456"], "must be a whole number of at least 1"),
        (["rewrap", "--keep=1"], "--keep means nothing for rewrap"),
        (["rewrap", "--replaced-days=1"], "--replaced-days means nothing for rewrap"),
    ],
)
def test_what_is_not_meant_is_refused(vault: Any, arguments: list[str], message: str) -> None:
    StoredObjects(vault).create("name", "value", CONTEXT)

    with pytest.raises(CommandError) as caught:
        call_command("vault_objects", *arguments, "--environment=staging")

    assert message in str(caught.value)
