"""Rows move from any vault to any other, without a change to a model; interrupted with SIGKILL, and resumed."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import transaction

from tests.backends.conftest import KINDS
from tests.testapp.models import Letter, Organization, Patient
from vault_fields.exceptions import VaultUnavailable
from vault_fields.stored import companion as companion_format
from vault_fields.vaults import vaults

ROOT = Path(__file__).parent.parent.parent


def vaults_of(model: Any, keys: str) -> set[str]:
    texts = model.objects.values_list(keys, flat=True)
    return {companion_format.decode(text).vault for text in texts if text}


@pytest.mark.parametrize(("old", "new"), [(old, new) for old in KINDS for new in KINDS if old != new])
def test_rows_move(settings: Any, db: None, entry: Callable[[str], dict[str, Any]], old: str, new: str) -> None:
    settings.VAULTS = {"default": {**entry(old), "SUCCESSOR": "next"}, "next": entry(new)}
    # A change of the setting would drop what a vault in memory holds, so the time before SUCCESSOR is played.
    vaults._writers["default"] = "default"
    organizations = [Organization.objects.create(workos_id=f"org_{number}") for number in range(2)]
    Patient.objects.bulk_create(
        Patient(organization=organizations[number % 2], ssn=str(number), history=[number]) for number in range(20)
    )
    Letter.objects.create(organization=organizations[0], subject="s", text={"a": 1})
    assert vaults_of(Patient, "ssn_keys") == {"default"}
    vaults._writers.clear()

    later = Patient.objects.create(organization=organizations[0], ssn="later")
    changed = Patient.objects.get(ssn_keys__isnull=False, pk=Patient.objects.order_by("pk")[0].pk)
    changed.ssn = "changed"
    changed.save()
    vaults["default"].purge()
    vaults["next"].purge()
    expected = ["changed", *map(str, range(1, 20)), "later"]
    assert [row.ssn for row in Patient.objects.order_by("pk")] == expected, "one page, two vaults"

    call_command("vault_rekey", "testapp.Patient", verbosity=0)
    call_command("vault_rekey", "testapp.Letter", verbosity=0)

    assert vaults_of(Patient, "ssn_keys") == vaults_of(Letter, "vault_keys") == {"next"}
    before = vaults["default"].calls.copy()
    vaults["next"].purge()
    assert [row.ssn for row in Patient.objects.order_by("pk")] == expected
    assert Letter.objects.get().text == {"a": 1}
    assert vaults["default"].calls == before, "the old vault is not asked any more"
    assert later.pk


def due(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the pages have people look at: what is left to do for any column. Rows that cannot move would raise."""
    capsys.readouterr()
    call_command("vault_rekey", "--all", "--dry-run")
    return re.findall(r"[1-9]\d* would be re(?:keyed|-encrypted)", capsys.readouterr().out)


def test_the_old_vault_can_be_dropped_afterwards(
    settings: Any, db: None, entry: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = entry("local"), entry("openbao")
    settings.VAULTS = {"default": old}
    organization = Organization.objects.create(workos_id="org_1")
    Patient.objects.create(organization=organization, ssn="1")
    settings.VAULTS = {"default": {**old, "SUCCESSOR": "next"}, "next": new}
    assert due(capsys) == ["1 would be re-encrypted"] * 2, "of each of its companions"
    call_command("vault_rekey", "--all", verbosity=0)
    assert due(capsys) == []
    settings.VAULTS = {"default": {"SUCCESSOR": "next"}, "next": new}

    assert Patient.objects.get().ssn == "1"
    Patient.objects.create(organization=organization, ssn="2")
    call_command("check")
    with pytest.raises(ImproperlyConfigured, match=r"^VAULTS\['default'\]: this vault was left for 'next'"):
        vaults["default"]
    held = len(vaults["next"].cache)
    assert held
    assert vaults.purge({"organization_id": str(organization.pk)}) == held
    assert len(vaults["next"].cache) == 0


def test_while_the_new_vault_is_away_nothing_changes(
    settings: Any, db: None, entry: Callable[[str], dict[str, Any]], stored: Callable[..., tuple[Any, ...]]
) -> None:
    old, new = entry("local"), entry("openbao")
    settings.VAULTS = {"default": old}
    organization = Organization.objects.create(workos_id="org_1")
    patient = Patient.objects.create(organization=organization, ssn="1")
    before = stored(patient, "ssn", "ssn_keys")
    away = {**new, "OPTIONS": {**new["OPTIONS"], "addresses": ["http://127.0.0.1:1"], "max_retries": 0}}
    settings.VAULTS = {"default": {**old, "SUCCESSOR": "next"}, "next": away}

    with pytest.raises(CommandError, match="cannot be reached"), transaction.atomic():
        call_command("vault_rekey", "testapp.Patient", verbosity=0)
    with pytest.raises(VaultUnavailable), transaction.atomic():
        Patient.objects.create(organization=organization, ssn="2")
    assert stored(patient, "ssn", "ssn_keys") == before
    assert Patient.objects.get().ssn == "1"


SETTINGS = """
from tests.settings import *

DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r}}}}}
VAULTS = {vaults!r}
"""

FILL = """
import django
django.setup()
from tests.testapp.models import Organization, Patient
organizations = [Organization.objects.create(workos_id=f"org_{number}") for number in range(40)]
for number in range(400):
    Patient.objects.create(organization=organizations[number % 40], ssn=str(number))
"""

READ = """
import django
django.setup()
from tests.testapp.models import Patient
assert [row.ssn for row in Patient.objects.order_by("pk")] == [str(number) for number in range(400)]
"""


@pytest.mark.parametrize(("old", "new"), [("local", "openbao"), ("openbao", "workos")])
def test_killed_while_rows_move_the_rest_moves_afterwards(
    entry: Callable[[str], dict[str, Any]], tmp_path: Path, old: str, new: str
) -> None:
    database = tmp_path / "db.sqlite3"

    def start(command: list[str], configured: dict[str, Any]) -> "subprocess.Popen[bytes]":
        (tmp_path / "moving_settings.py").write_text(
            SETTINGS.format(database=str(database), vaults=configured), "utf-8"
        )
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "moving_settings",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        }
        return subprocess.Popen([sys.executable, *command], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)

    def moved() -> int:
        with closing(sqlite3.connect(database)) as connection:
            count = 'SELECT count(*) FROM testapp_patient WHERE ssn_keys LIKE \'%"vault":"next"%\''
            found: int = connection.execute(count).fetchone()[0]
            return found

    first, second = entry(old), entry(new)
    both = {"default": {**first, "SUCCESSOR": "next"}, "next": second}
    rekey = ["-m", "django", "vault_rekey", "testapp.Patient", "--batch-size", "10"]
    assert start(["-m", "django", "migrate", "--run-syncdb", "-v0"], {"default": first}).wait() == 0
    assert start(["-c", FILL], {"default": first}).wait() == 0
    process = start(rekey, both)
    while moved() < 30:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < moved() < 400
    assert start(["-c", READ], both).wait() == 0, "both vaults are asked"

    assert start(rekey, both).wait() == 0
    assert moved() == 400
    assert start(["-c", READ], {"default": {"SUCCESSOR": "next"}, "next": second}).wait() == 0
