"""Processes that write to the same rows at once: what one was told is written is not undone by another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection, connections
from django.test import override_settings

from tests.testapp.models import Letter, Organization

ROOT = Path(__file__).parents[2]
TURNS = 60


@pytest.fixture
def shared_database(transactional_db, django_db_blocker, tmp_path):
    """The settings of a database that several processes can open, and the alias of it in this one."""
    kept = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    if connection.vendor != "sqlite":
        yield {name: connection.settings_dict[name] for name in kept}, "default"
        return
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "race.sqlite3"), "OPTIONS": {"timeout": 60}}
    connections.databases["race"] = connections.databases["default"] | file
    with django_db_blocker.unblock():
        with connections["race"].schema_editor() as editor:
            editor.create_model(Organization)
            editor.create_model(Letter)
        yield file, "race"
        connections["race"].close()
    del connections["race"]
    del connections.databases["race"]


@pytest.mark.filterwarnings("ignore:No root key is configured")
def test_processes_that_write_different_columns_lose_nothing(shared_database, tmp_path) -> None:
    database, alias = shared_database
    vault = str(tmp_path / "vault.sqlite3")
    vaults = {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": vault}}}
    with override_settings(VAULTS=vaults, DEBUG=True):
        for pk in (1, 2):
            Organization.objects.using(alias).create(pk=pk, workos_id=f"org_{pk}")
        for pk in range(1, 5):
            Letter(pk=pk, organization_id=1, subject="first", text=["first"]).save(using=alias)
        chosen = json.dumps({"database": database, "vault": vault})
        racers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.racer", chosen, way, way, str(TURNS)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for way in ("save", "bulk_update", "move")
        ]
        written = {}
        for racer in racers:
            output, _ = racer.communicate(timeout=300)
            assert racer.returncode == 0
            written |= json.loads(output)
        assert {column.split()[1] for column in written} == {"subject", "text"}
        for letter in Letter.objects.using(alias).order_by("pk"):
            # One process writes to each of the columns: its last acknowledged value is the one that is stored.
            assert letter.subject == written.get(f"{letter.pk} subject", ["first"])[-1]
            assert letter.text == written.get(f"{letter.pk} text", [["first"]])[-1]
