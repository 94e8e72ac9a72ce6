"""Small projects of one app, whose migrations are written to files and run as ``manage.py migrate`` runs them."""

import io
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection, migrations
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.writer import MigrationWriter
from django.test import override_settings

_numbers = itertools.count(1)


class Project:
    def __init__(self, path: Path, label: str) -> None:
        self.label = label
        self._directory = path / label / "migrations"
        self._directory.mkdir(parents=True)
        for directory in (self._directory.parent, self._directory):
            (directory / "__init__.py").touch()
        self._last: str | None = None
        self._others = set(connection.introspection.table_names())

    def write(self, name: str, *operations: Any, atomic: bool = True, **options: Any) -> None:
        """A migration after those that were written before."""
        body = {"operations": list(operations), "dependencies": [(self.label, self._last)] if self._last else []}
        body |= options
        migration = type("Migration", (migrations.Migration,), body)(name, self.label)
        text = MigrationWriter(migration).as_string()
        if not atomic:
            text = text.replace("    dependencies = ", "    atomic = False\n\n    dependencies = ")
        (self._directory / f"{name}.py").write_text(text)
        self._last = name

    def migrate(self, name: str | None = None, **options: Any) -> str:
        out = io.StringIO()
        arguments = [self.label] if name is None else [self.label, name]
        call_command("migrate", *arguments, verbosity=0, stdout=out, skip_checks=True, **options)
        return out.getvalue()

    def models(self, name: str | None = None) -> Any:
        """The models as the migrations have them after the last one that is applied, or another."""
        executor = MigrationExecutor(connection)
        if name is None:
            applied = [each for label, each in executor.loader.applied_migrations if label == self.label]
            name = max(applied)
        return executor.loader.project_state((self.label, name)).apps

    def model(self, model: str, name: str | None = None) -> Any:
        return self.models(name).get_model(self.label, model)

    def tables(self) -> dict[str, Any]:
        """The whole of the app as the database has it: columns with their types, and all rows."""
        found = {}
        with connection.cursor() as cursor:
            for table in sorted(connection.introspection.table_names(cursor)):
                if table.startswith(f"{self.label}_"):
                    columns = connection.introspection.get_table_description(cursor, table)
                    names = ", ".join(connection.ops.quote_name(column.name) for column in columns)
                    cursor.execute(f"SELECT {names} FROM {connection.ops.quote_name(table)} ORDER BY 1")
                    found[table] = ([(each.name, each.type_code) for each in columns], cursor.fetchall())
        return found

    def column(self, table: str, column: str) -> list[Any]:
        with connection.cursor() as cursor:
            quote = connection.ops.quote_name
            cursor.execute(f"SELECT {quote(column)} FROM {quote(f'{self.label}_{table}')} ORDER BY id")
            return [row[0] for row in cursor.fetchall()]

    def drop(self) -> None:
        with connection.cursor() as cursor:
            tables = sorted(set(connection.introspection.table_names(cursor)) - self._others)
            cursor.execute("SET FOREIGN_KEY_CHECKS = 0" if connection.vendor == "mysql" else "SELECT 1")
            for table in tables:
                cascade = " CASCADE" if connection.vendor == "postgresql" else ""
                cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}{cascade}")
            cursor.execute("SET FOREIGN_KEY_CHECKS = 1" if connection.vendor == "mysql" else "SELECT 1")
            cursor.execute("DELETE FROM django_migrations WHERE app = %s", [self.label])


@pytest.fixture
def project(transactional_db, tmp_path, monkeypatch):
    label = f"changed{next(_numbers)}"
    made = Project(tmp_path, label)
    monkeypatch.syspath_prepend(tmp_path)
    # Django makes the models of an app without migrations, as that of this suite is, anew for each state.
    others = [name for name in settings.INSTALLED_APPS if name != "tests.testapp"]
    with override_settings(INSTALLED_APPS=[*others, label]):
        apps.clear_cache()
        yield made
        made.drop()
    for name in [name for name in sys.modules if name.split(".")[0] == label]:
        del sys.modules[name]
