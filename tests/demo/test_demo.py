"""The demo as a person runs it: in a process of its own, on a fresh database, from rows to the end of the story."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import airportsdata
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def demo(tmp_path):
    """A function that runs the demo with these arguments and returns the finished process."""

    def run(*arguments, **environment):
        environment = os.environ | {
            "DATABASE_URL": f"sqlite:///{tmp_path / 'clinic.sqlite3'}",
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "PYTHONUTF8": "1",
            "VAULT_URL": f"local://{tmp_path / 'vault.sqlite3'}",
            **environment,
        }
        return subprocess.run(
            [sys.executable, "manage.py", "demo", *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def stored(tmp_path, query):
    with sqlite3.connect(tmp_path / "clinic.sqlite3") as connection:
        rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def test_clinic_story_is_told_to_its_end(demo, tmp_path):
    done = demo("--patients", 200)
    assert done.returncode == 0, done.stderr
    assert "KeyContextMismatch" in done.stdout
    assert "runserver" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    # What it says is looked at once more, by other means.
    assert all(name.startswith("$vf$1$") for (name,) in stored(tmp_path, "SELECT name FROM clinic_patient"))


def test_public_table_is_encrypted_and_nothing_of_it_is_left(demo, tmp_path):
    """28,000 airports with names in many languages: each country is a tenant."""
    path = Path(airportsdata.__file__).parent / "airports.csv"
    done = demo(path, "--tenant", "country", "--secret", "name", "--secret", "city")
    assert done.returncode == 0, done.stderr
    assert "KeyContextMismatch" in done.stdout
    raw = (tmp_path / "clinic.sqlite3").read_bytes()
    assert b"Heathrow" in path.read_bytes()
    assert b"Heathrow" not in raw
    [(rows, tenants)] = stored(tmp_path, "SELECT COUNT(*), COUNT(DISTINCT tenant) FROM own_table")
    assert rows > 20_000
    assert tenants > 200


def test_small_table_with_short_values_and_one_tenant_says_what_it_did_not_do(demo, tmp_path):
    (tmp_path / "people.csv").write_text("org,sex,class,Größe!\nx,M,,1\nx,F,,\n,M,,\nx\n", encoding="utf-8")
    done = demo(tmp_path / "people.csv", "--tenant=org", "--secret=sex", "--secret=class", "--secret=Größe!")
    assert done.returncode == 0, done.stderr
    assert "only one tenant" in done.stdout
    assert "without a tenant" in done.stdout
    assert "shorter values" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["people.csv"], "Say which column is the tenant"),
        (["--tenant", "org"], "name columns of a file"),
        (["people.csv", "--tenant", "org", "--secret", "nam"], "It has: 'org', 'name'"),
        (["nothing.csv", "--tenant", "org", "--secret", "name"], "cannot be read"),
    ],
)
def test_wrong_arguments_are_told_and_nothing_is_made(demo, tmp_path, arguments, message):
    (tmp_path / "people.csv").write_text("org,name\nx,Ann\n", encoding="utf-8")
    done = demo(*[tmp_path / argument if argument.endswith(".csv") else argument for argument in arguments])
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "clinic.sqlite3").exists()


def test_database_with_tables_in_it_is_left_alone(demo, tmp_path):
    with sqlite3.connect(tmp_path / "clinic.sqlite3") as connection:
        connection.execute("CREATE TABLE precious (id)")
    connection.close()
    done = demo("--patients", 20)
    assert done.returncode == 1
    assert "needs an empty one" in done.stderr
    assert stored(tmp_path, "SELECT name FROM sqlite_master") == [("precious",)]
