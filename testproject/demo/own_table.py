"""The story of anybody's table: the same steps on rows that the demo has never seen."""

import keyword
import re
from collections.abc import Iterator, Sequence
from itertools import count as counting
from typing import Any

from django.apps.registry import Apps
from django.db import connection, models
from django.db.migrations import Migration
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState

from testproject.demo.csv_table import Table
from testproject.demo.report import Report
from testproject.demo.story import Column, Story
from vault_fields.fields import CompanionField, EncryptedTextField
from vault_fields.keys import MAX_VALUE_LENGTH
from vault_fields.operations import EncryptField

__all__ = ["OwnTableStory"]

APP = "own"
TABLE = "own_table"
MODEL = "Row"


class OwnTableStory(Story):
    """One table, one tenant column, a context of one item, and one data key per row for all its secrets."""

    def __init__(self, report: Report, table: Table) -> None:
        super().__init__(report)
        self.table = table
        self.names = _column_names(table.secrets)
        self.state = ProjectState()

    def fill(self) -> None:
        self._migrate(_plain(self.names))
        model = self.state.apps.get_model(APP, MODEL)
        names = ("tenant", *self.names)
        rows = (model(pk=pk, **dict(zip(names, row, strict=True))) for pk, row in enumerate(self.table.rows, start=1))
        model._default_manager.bulk_create(rows, batch_size=500)
        self.report.fact("rows", len(self.table.rows))
        self.report.fact(f"tenants in {self.table.tenant}", len(self.table.tenants))
        for reason, count in self.table.left_out.items():
            self.report.fact(f"left out, from line {self.table.first_line[reason]} on: {reason}", count)

    def encrypt(self) -> None:
        # As a project does it: what makemigrations finds, the encrypting operations, what makemigrations finds then.
        self._migrate(
            _encrypted(self.names, migrating=True), *(EncryptField(model_name=MODEL, name=name) for name in self.names)
        )
        self._migrate(_encrypted(self.names, migrating=False))

    def columns(self) -> Iterator[Column]:
        model = _encrypted(self.names, migrating=False)
        for position, name in enumerate(self.names, start=1):
            yield Column(model, name, {pk: row[position] for pk, row in enumerate(self.table.rows, start=1)})

    def two_tenants(self) -> tuple[Column, int, int] | None:
        tenants = [row[0] for row in self.table.rows]
        other = next((pk for pk, tenant in enumerate(tenants, start=1) if tenant != tenants[0]), None)
        return None if other is None else (next(self.columns()), 1, other)

    def what_next(self) -> None:
        self.report.section("Next")
        self.report.text("README.md shows the few lines that do this to a column of your own project.")

    def _migrate(self, model: type[models.Model], *further: Any) -> None:
        """Bring the table to the state of ``model`` with the operations that makemigrations would write."""
        after = self.state.clone()
        after.models[APP, MODEL.lower()] = ModelState.from_model(model)
        detector = MigrationAutodetector(self.state, after, MigrationQuestioner(specified_apps={APP}))
        changes = detector.changes(graph=MigrationGraph(), trim_to_apps={APP})
        operations = [operation for migration in changes[APP] for operation in migration.operations]
        migration = type("Migration", (Migration,), {"operations": [*operations, *further]})("migration", APP)
        with connection.schema_editor(atomic=migration.atomic) as editor:
            self.state = migration.apply(self.state, editor)


def _plain(names: Sequence[str]) -> type[models.Model]:
    return _model({name: models.TextField() for name in names})


def _encrypted(names: Sequence[str], *, migrating: bool) -> type[models.Model]:
    secrets: dict[str, models.Field[Any, Any]] = {
        name: EncryptedTextField(key_context=["tenant"], keys_field="vault_keys", migrating=migrating) for name in names
    }
    return _model({**secrets, "vault_keys": CompanionField()})


def _model(fields: "dict[str, models.Field[Any, Any]]") -> type[models.Model]:
    meta = type("Meta", (), {"app_label": APP, "db_table": TABLE, "apps": Apps()})
    tenant = models.CharField(max_length=MAX_VALUE_LENGTH)
    return type(MODEL, (models.Model,), {"__module__": __name__, "Meta": meta, "tenant": tenant, **fields})


def _column_names(headers: Sequence[str]) -> tuple[str, ...]:
    """Names for model fields that look like the headers."""
    taken = {"", "id", "pk", "tenant", "objects", "vault_keys"}
    names: list[str] = []
    for number, header in enumerate(headers, start=1):
        name = re.sub(r"[^a-z0-9]+", "_", header.lower()).strip("_")[:50].strip("_")
        if name in taken or keyword.iskeyword(name) or name[0].isdigit() or hasattr(models.Model, name):
            name = next(other for n in counting(number) if (other := f"column_{n}") not in taken)
        taken.add(name)
        names.append(name)
    return tuple(names)
