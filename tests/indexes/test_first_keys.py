"""Processes that write the first value of a tenant at once use one index key, in every way of writing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Never

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models import QuerySet
from django.test import override_settings

from tests.testapp.models import Contact, Organization
from vault_fields.fields import make_index_keys
from vault_fields.fields.indexkeys import Wanted, make_key, stored_key
from vault_fields.keys import KeyContext
from vault_fields.models import IndexKey

ROOT = Path(__file__).parents[2]
PROCESSES = 6
TENANTS_EACH = 3

# The options of a connection with the isolation levels, or the modes, of the database.
LEVELS: dict[str, list[dict[str, Any]]] = {
    "sqlite": [{}, {"transaction_mode": "IMMEDIATE"}],
    "postgresql": [{"isolation_level": 2}, {"isolation_level": 3}],
    "mysql": [{"isolation_level": "read committed"}, {"isolation_level": "repeatable read"}],
}


@pytest.fixture
def shared_database(transactional_db, django_db_blocker, tmp_path) -> Iterator[tuple[dict[str, Any], str]]:
    """The settings of a database that several processes can open, and the alias of it in this one."""
    kept = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    if connection.vendor != "sqlite":
        yield {name: connection.settings_dict[name] for name in kept}, "default"
        return
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "race.sqlite3"), "OPTIONS": {"timeout": 60}}
    connections.databases["race"] = connections.databases["default"] | file
    with django_db_blocker.unblock():
        with connections["race"].schema_editor() as editor:
            for model in (Organization, Contact, IndexKey):
                editor.create_model(model)
        yield file, "race"
        connections["race"].close()
    del connections["race"]
    del connections.databases["race"]


@pytest.mark.filterwarnings("ignore:No root key is configured")
def test_processes_that_write_the_first_values_of_a_tenant_use_one_index_key(shared_database, tmp_path) -> None:
    database, alias = shared_database
    vault = str(tmp_path / "vault.sqlite3")
    vaults = {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": vault}}}
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    with override_settings(VAULTS=vaults, DEBUG=True):
        # In SQLite's other mode, transactions that have read do not let each other write: their errors are its own.
        levels = LEVELS[connection.vendor]
        ways = [(False, level) for level in levels]
        ways += [(True, level) for level in levels if level]
        rounds = []
        prepared = Organization.objects.using(alias).create(workos_id="org_prepared")
        # It makes the keystore, too, before there are several processes.
        make_index_keys(Contact(organization=prepared), using=alias)
        for atomic, level in ways:
            tenants = [
                Organization.objects.using(alias).create(workos_id=f"org_{len(rounds)}_{number}").pk
                for number in range(TENANTS_EACH)
            ]
            rounds.append({"atomic": atomic, "options": level, "tenants": tenants})
        rounds.append({"atomic": True, "options": levels[-1], "tenants": [prepared.pk]})
        chosen = json.dumps(
            {
                "database": database,
                "vault": vault,
                "meeting": str(meeting),
                "processes": PROCESSES,
                "rounds": rounds,
            }
        )
        racers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.indexes.firstkey", chosen, str(number)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        broken_off = []
        for racer in racers:
            output, _ = racer.communicate(timeout=300)
            assert racer.returncode == 0
            broken_off.append(json.loads(output))
        names = [str(number) for number in range(PROCESSES)]
        tenants = [tenant for each in rounds for tenant in each["tenants"]]
        # One for each tenant, and the one of the global index.
        assert IndexKey.objects.using(alias).count() == len(tenants) + 1
        for tenant in tenants:
            found = Contact.objects.using(alias).filter(organization=tenant, ssn__in=names)
            assert sorted(contact.ssn for contact in found) == names
    total = dict(zip([*map(str, ways), "prepared"], map(sum, zip(*broken_off, strict=True)), strict=True))
    # PostgreSQL does not let an old snapshot wait for the key that another transaction makes.
    total.pop("(True, {'isolation_level': 3})", None)
    assert set(total.values()) == {0}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_atomic", [False, True])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_statement_that_is_broken_off_by_another_makers_key_reads_it(monkeypatch, is_there, is_atomic) -> None:
    # When a statement waits for another transaction is not for a test to say: the race above meets it by chance.
    organization = Organization.objects.create(workos_id="org_broken_off")
    wanted = Wanted("default", KeyContext({"organization_id": str(organization.pk)}))
    other, key = stored_key(wanted, 1)
    if is_there:
        other.save()

    def broken_off(*args: object, **kwargs: object) -> Never:
        raise OperationalError("could not serialize access due to concurrent update")

    monkeypatch.setattr(QuerySet, "bulk_create", broken_off)
    with transaction.atomic() if is_atomic else nullcontext():
        if is_there and not is_atomic:
            assert make_key(wanted, "default").plaintext == key.plaintext
        else:
            with pytest.raises(OperationalError):
                make_key(wanted, "default")
    assert IndexKey.objects.count() == is_there
