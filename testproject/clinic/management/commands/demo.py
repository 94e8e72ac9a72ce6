"""``manage.py demo``: run the main job where one can watch it."""

import warnings
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from testproject.demo.clinic import ClinicStory
from testproject.demo.csv_table import TableError, read_table
from testproject.demo.own_table import OwnTableStory
from testproject.demo.report import DemoFailed, Report
from testproject.demo.story import Story
from testproject.settings import DATABASES, DEMO_DATABASE, DEMO_VAULT
from vault_fields.exceptions import VaultFieldsError
from vault_fields.keys import KeyContext
from vault_fields.vaults import vaults


class Command(BaseCommand):
    help = "Encrypt generated rows, or a table of your own, and check what comes of it."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="a CSV file of your own; without it, rows are made up")
        parser.add_argument("--tenant", metavar="COLUMN", help="the column that says whose row it is")
        parser.add_argument("--secret", metavar="COLUMN", action="append", help="a column to encrypt; may be repeated")
        parser.add_argument("--encoding", help="of the file, where it is not UTF-8")
        parser.add_argument("--patients", type=int, default=2_000, help="how many to make up (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        # The log says the same in one line.
        warnings.filterwarnings("ignore", "No root key is configured", RuntimeWarning)
        report = Report(self.stdout.write)
        try:
            story = self.story(report, options)
            self.start_afresh()
            story.tell()
        except (DemoFailed, VaultFieldsError) as error:
            raise CommandError(f"The demo failed. This does not hold: {error}") from error

    def story(self, report: Report, options: dict[str, Any]) -> Story:
        path, tenant, secrets = options["file"], options["tenant"], options["secret"]
        if path is None:
            if tenant or secrets:
                raise CommandError(
                    "--tenant and --secret name columns of a file: demo people.csv --tenant … --secret …"
                )
            return ClinicStory(report, patients=options["patients"])
        if not tenant or not secrets:
            raise CommandError("Say which column is the tenant and which to encrypt: --tenant COLUMN --secret COLUMN")
        try:
            return OwnTableStory(report, read_table(path, tenant=tenant, secrets=secrets, encoding=options["encoding"]))
        except TableError as error:
            raise CommandError(str(error)) from None

    def start_afresh(self) -> None:
        """An empty database: the demo's own is made anew, any other must be empty already."""
        database = Path(DATABASES["default"]["NAME"])
        if database == DEMO_DATABASE:
            for path in (database, DEMO_VAULT):
                for file in path.parent.glob(f"{path.name}*"):
                    file.unlink()
        elif connection.introspection.table_names():
            raise CommandError("The database of DATABASE_URL has tables in it; the demo needs an empty one.")
        # The first key makes a root key, which the Vault is loud about: better here than between the steps.
        vaults["default"].create_data_key(KeyContext({"demo": "start"}))
