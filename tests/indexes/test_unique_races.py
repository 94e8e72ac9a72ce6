"""Two processes that want the same unique value at the same time: one wins, and the other is told, or gets its row."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.test import override_settings

from tests.testapp.models import Athlete, League
from vault_fields.models import IndexKey

ROOT = Path(__file__).parents[2]
METHODS = ["create", "get_or_create", "update_or_create"]
TURNS = 10


@pytest.fixture
def shared_database(transactional_db, django_db_blocker, tmp_path) -> Iterator[tuple[dict[str, Any], str]]:
    """The settings of a database that several processes can open, and the alias of it in this one."""
    kept = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    if connection.vendor != "sqlite":
        yield {name: connection.settings_dict[name] for name in kept}, "default"
        return
    options = {"timeout": 60, "transaction_mode": "IMMEDIATE"}
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "race.sqlite3"), "OPTIONS": options}
    connections.databases["race"] = connections.databases["default"] | file
    with django_db_blocker.unblock():
        with connections["race"].schema_editor() as editor:
            for model in (League, Athlete, IndexKey):
                editor.create_model(model)
        yield file, "race"
        connections["race"].close()
    del connections["race"]
    del connections.databases["race"]


@pytest.mark.filterwarnings("ignore:No root key is configured")
def test_of_two_processes_one_makes_the_row(shared_database, tmp_path) -> None:
    database, alias = shared_database
    vault = str(tmp_path / "vault.sqlite3")
    vaults = {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": vault}}}
    with override_settings(VAULTS=vaults, DEBUG=True):
        # The index key is there; that two processes make the first one is tested elsewhere.
        League.objects.using(alias).create(pk=1, workos_id="league_a")
        Athlete(league_id=1, number="first").save(using=alias)
        chosen = json.dumps({"database": database, "vault": vault})
        racers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.racer", chosen, name, "values", str(TURNS * 3)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in ("one", "two")
        ]
        assert [told(racer) for racer in racers] == ["ready\n"] * 2
        for turn, method in enumerate(METHODS * TURNS):
            for racer in racers:
                assert racer.stdin
                racer.stdin.write(f"{method}\n")
                racer.stdin.flush()
            answers = [json.loads(told(racer)) for racer in racers]
            assert sorted(is_new for _, is_new in answers) == [False, True]
            (row,) = Athlete.objects.using(alias).filter(league_id=1, number=f"value {turn}")
            loser = None if method == "create" else row.pk
            assert sorted(answers, key=lambda answer: answer[1]) == [[loser, False], [row.pk, True]]
        for racer in racers:
            racer.communicate(timeout=60)
            assert racer.returncode == 0
        assert Athlete.objects.using(alias).count() == TURNS * 3 + 1


def told(racer: "subprocess.Popen[str]") -> str:
    assert racer.stdout
    return racer.stdout.readline()
