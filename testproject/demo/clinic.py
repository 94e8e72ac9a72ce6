"""The story of the clinic: the migrations of the example project, on generated rows."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from testproject.clinic.generate import generate
from testproject.demo.report import Report
from testproject.demo.story import Column, Story

__all__ = ["ClinicStory"]

TABLES = ("organization", "patient", "note", "document", "referral")
ENCRYPTED = {
    "patient": ("name", "ssn", "history"),
    "note": ("text",),
    "document": ("title", "content"),
    "referral": ("letter",),
}
USER = "demo"


class ClinicStory(Story):
    """Four tables, three scripts, contexts of every kind."""

    def __init__(self, report: Report, **size: int) -> None:
        super().__init__(report)
        self.rows = generate(**size)

    def fill(self) -> None:
        call_command("migrate", "clinic", "0001", verbosity=0)
        # Django's own tables first: a word that they hold too is then known to stand in the clear.
        for app in ("admin", "auth", "contenttypes", "sessions"):
            call_command("migrate", app, verbosity=0)
        before = MigrationLoader(connection).project_state(("clinic", "0001_initial")).apps
        for name in TABLES:
            model = before.get_model("clinic", name)
            rows = getattr(self.rows, name)
            model._default_manager.bulk_create([model(**row) for row in rows], batch_size=500)
            self.report.fact(f"clinic_{name}", len(rows))

    def encrypt(self) -> None:
        call_command("migrate", verbosity=0)

    def columns(self) -> Iterator[Column]:
        for name, fields in ENCRYPTED.items():
            rows: list[dict[str, Any]] = getattr(self.rows, name)
            for field in fields:
                yield Column(apps.get_model("clinic", name), field, {row["id"]: row[field] for row in rows})

    def two_tenants(self) -> tuple[Column, int, int] | None:
        column = next(column for column in self.columns() if column.name == "text")
        organization = {row["id"]: row["organization_id"] for row in self.rows.note}
        other = next(pk for pk, tenant in organization.items() if tenant != organization[1])
        return column, 1, other

    def what_next(self) -> None:
        get_user_model()._default_manager.create_superuser(USER, password=USER)
        self.report.section("See for yourself")
        self.report.text("The database stays. Its admin shows and edits the plaintext:")
        self.report.line()
        self.report.line(f"{self.python} manage.py runserver")
        self.report.line()
        self.report.text(f"then open http://127.0.0.1:8000/ and log in as {USER} with the password {USER}.")
        self.report.text("With a table of your own:")
        self.report.line()
        self.report.line(".venv/bin/tox run -e demo -- people.csv --tenant COLUMN --secret COLUMN")
