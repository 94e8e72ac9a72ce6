"""The demo as a person runs it: in a process of its own, on a fresh database, from rows to the end of the story."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import airportsdata
import environ
import pytest
from django.core.management import CommandError
from django.db import connection
from django.db.utils import ConnectionHandler

from testproject.clinic.management.commands.demo import Command
from testproject.demo.report import Report

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def database_url(tmp_path, django_db_blocker):
    """The URL of an empty database, of the kind that the suite runs on."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{tmp_path / 'demo.sqlite3'}"
        return
    name = f"{connection.settings_dict['TEST']['NAME']}_demo"
    charset = " CHARACTER SET utf8mb4" if connection.vendor == "mysql" else ""
    with django_db_blocker.unblock():
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
            cursor.execute(f"CREATE DATABASE {name}{charset}")
        yield f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{name}"
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture
def demo(tmp_path, database_url):
    """A function that runs the demo with these arguments and returns the finished process."""

    def run(*arguments, options=""):
        environment = os.environ | {
            "DATABASE_URL": database_url,
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "PYTHONUTF8": "1",
            "VAULT_URL": f"local://{tmp_path / 'vault.sqlite3'}{options}",
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


@pytest.fixture
def sql(database_url, django_db_blocker):
    """A function that runs a statement in the demo's database, by no other means than SQL, and returns its rows."""
    database = ConnectionHandler({"default": environ.Env.db_url_config(database_url)})["default"]

    def run(statement):
        with django_db_blocker.unblock(), database.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    yield run
    database.close()


def test_clinic_story_is_told_to_its_end(demo, sql) -> None:
    done = demo("--patients", 200)
    assert done.returncode == 0, done.stderr
    assert "KeyContextMismatch" in done.stdout
    assert "runserver" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    # What it says is looked at once more, by other means.
    names = [name for (name,) in sql("SELECT name FROM clinic_patient")]
    assert len(names) == 200
    assert all(name.startswith("$vf$1$") for name in names)


def test_public_table_is_encrypted_and_nothing_of_it_is_left(demo, sql, tmp_path) -> None:
    """Airports of all countries, each country a tenant: names in many languages, of every length, some empty."""
    with (Path(airportsdata.__file__).parent / "airports.csv").open(encoding="utf-8", newline="") as file:
        header, *airports = csv.reader(file)
    airports = airports[::5]
    with (tmp_path / "airports.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *airports])
    done = demo(tmp_path / "airports.csv", "--tenant", "country", "--secret", "name", "--secret", "city")
    assert done.returncode == 0, done.stderr
    assert "KeyContextMismatch" in done.stdout
    rows = sql("SELECT tenant, name, city FROM own_table ORDER BY id")
    assert [tenant for tenant, _, _ in rows] == [airport[header.index("country")] for airport in airports]
    assert all(value.startswith("$vf$1$") for _, *values in rows for value in values)


def test_small_table_says_what_was_not_done_with_it(demo, sql, tmp_path) -> None:
    (tmp_path / "people.csv").write_text("org,sex,class,Größe!\nx,M,,1\nx,F,,\n,M,,\nx\n", encoding="utf-8")
    done = demo(tmp_path / "people.csv", "--tenant=org", "--secret=sex", "--secret=class", "--secret=Größe!")
    assert done.returncode == 0, done.stderr
    assert "only one tenant" in done.stdout
    assert "from line 4 on: no tenant" in done.stdout
    assert "from line 5 on: too many or too few cells" in done.stdout
    assert "3 shorter values" in done.stdout
    assert sql("SELECT COUNT(*) FROM own_table") in ([(2,)], ((2,),))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "reading again asks the Vault for nothing"),
        ("?max_cached_keys=10", "fewer keys are kept than that, or for a shorter time"),
        ("?key_max_age=0", "fewer keys are kept than that, or for a shorter time"),
    ],
)
def test_more_keys_than_are_kept_are_no_failure(demo, tmp_path, options, told) -> None:
    rows = "".join(f"user {number},secret value {number}\n" for number in range(40))
    (tmp_path / "people.csv").write_text(f"user,secret\n{rows}", encoding="utf-8")
    done = demo(tmp_path / "people.csv", "--tenant=user", "--secret=secret", options=options)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


def test_columns_whose_names_are_taken_get_others(demo, tmp_path) -> None:
    text = "t,column_2,id\na,first value,second value\nb,first 2 value,second 2 value\n"
    (tmp_path / "people.csv").write_text(text, encoding="utf-8")
    done = demo(tmp_path / "people.csv", "--tenant=t", "--secret=column_2", "--secret=id")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["people.csv"], "Say which column is the tenant"),
        (["--tenant", "org"], "name columns of a file"),
        (["people.csv", "--tenant", "org", "--secret", "nam"], "It has: 'org', 'name'"),
        (["nothing.csv", "--tenant", "org", "--secret", "name"], "cannot be read"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_made(tmp_path, arguments, message) -> None:
    (tmp_path / "people.csv").write_text("org,name\nx,Ann\n", encoding="utf-8")
    command = Command()
    paths = [str(tmp_path / argument) if argument.endswith(".csv") else argument for argument in arguments]
    options = vars(command.create_parser("manage.py", "demo").parse_args(paths))
    with pytest.raises(CommandError, match=re.escape(message)):
        command.story(Report(print), options)


def test_database_with_tables_in_it_is_left_alone(demo, sql) -> None:
    sql("CREATE TABLE precious (id integer)")
    sql("INSERT INTO precious VALUES (7)")
    done = demo("--patients", 20)
    assert done.returncode == 1
    assert "needs an empty one" in done.stderr
    assert sql("SELECT id FROM precious")[0] == (7,)
