"""``manage.py vault_events``."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from vault_fields.embedded.events.event import IN_PROCESS, Event, timestamp
from vault_fields.embedded.objects import StoredObjects
from vault_fields.exceptions import VaultUnavailable
from vault_fields.keys import KeyContext
from vault_fields.management.commands import vault_events
from vault_fields.vaults import vaults


@pytest.fixture(autouse=True)
def vault(settings: Any) -> Any:
    """One of its own: what it tells is what happened here."""
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}
    return vaults["default"].service  # type: ignore[attr-defined]


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    call_command("vault_events", *arguments)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_events_are_printed_page_by_page(
    vault: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_events, "PAGE", 2)
    for number in range(5):
        vault.create(KeyContext({"organization_id": str(number)}))

    found = lines(capsys)

    assert [each["data"]["key_name"] for each in found] == [f"organization_id={number}" for number in range(5)]
    assert lines(capsys, "--after", found[1]["id"]) == found[2:]
    assert lines(capsys, "--after", found[4]["id"]) == []


def test_events_are_chosen(vault: Any, capsys: pytest.CaptureFixture[str]) -> None:
    StoredObjects(vault).create("name", "", {"a": "b"})
    StoredObjects(vault.for_environment("staging")).create("name", "", {"a": "b"})

    assert [each["event"] for each in lines(capsys)] == ["vault.kek.created", "vault.data.created"]
    assert len(lines(capsys, "--event", "vault.data.created")) == 1
    assert len(lines(capsys, "--environment", "staging")) == 2
    assert len(lines(capsys, "--since", "2024-01-01T00:00:00")) == 2
    assert lines(capsys, "--since", "2999-01-01T00:00:00Z") == []


def test_old_events_are_deleted(vault: Any, capsys: pytest.CaptureFixture[str]) -> None:
    vault.create(KeyContext({"a": "b"}))
    old = timestamp(datetime(2024, 1, 1, tzinfo=UTC))
    vault.store.events.add(Event("default", "vault.names.listed", {}, IN_PROCESS, created_at=old))

    call_command("vault_events", "--prune-days", "30")

    assert capsys.readouterr().out == "1 event deleted.\n"
    assert [each["event"] for each in lines(capsys)] == ["vault.kek.created"]


def test_the_term_of_the_vault_is_the_default(vault: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for days in (1, 40, 400):
        moment = timestamp(datetime.now(UTC) - timedelta(days=days))
        vault.store.events.add(Event("default", "vault.names.listed", {}, IN_PROCESS, created_at=moment))
    with pytest.raises(CommandError, match="--prune-days needs a number of days: the vault has no event_retention"):
        call_command("vault_events", "--prune-days")
    vault.store.events.retention = timedelta(days=30)

    call_command("vault_events", "--prune-days", "100")
    call_command("vault_events", "--prune-days")

    assert capsys.readouterr().out == "1 event deleted.\n" * 2


def test_an_interruption_says_what_was_done(vault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def prune(until: datetime, *, advance: Any) -> None:
        advance(3)
        raise KeyboardInterrupt

    monkeypatch.setattr(vault.store.events, "prune", prune)
    with pytest.raises(
        CommandError, match=r"Interrupted. 3 events are deleted; run this again for the others"
    ) as caught:
        call_command("vault_events", "--prune-days", "1")
    assert caught.value.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--after", "event_x"], "--after event_x: There is no such event. It may have been pruned."),
        (["--environment", "defalt"], "There is no environment 'defalt' in this vault. Did you mean default?"),
        (["--since", "yesterday"], "must be a moment in ISO 8601"),
        (["--since", "2024-13-01T00:00:00Z"], "must be a moment in ISO 8601"),
        (["--prune-days", "-1"], "must be a whole number of days"),
        (["--prune-days", "9999999"], "must be a whole number of days"),
        (["--event", "vault.guessed"], "invalid choice"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("vault_events", *[f"{arguments[0]}={arguments[1]}"])

    assert message in str(caught.value)


def test_pruning_chooses_by_age_alone() -> None:
    with pytest.raises(CommandError, match="--environment, --event means nothing for --prune-days"):
        call_command("vault_events", "--prune-days", "1", "--environment", "default", "--event", "vault.data.created")


def test_keystore_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, vault: Any) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise VaultUnavailable("/srv/vault.sqlite3 is on a full disk")

    monkeypatch.setattr(vault.store.events, "page", fail)
    with pytest.raises(CommandError, match="full disk"):
        call_command("vault_events")
