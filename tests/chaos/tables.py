"""The database of an experiment, with its tenants and some rows."""

from pathlib import Path

from django.conf import settings
from django.db import connection

from tests.chaos.calls import Calls
from tests.chaos.writer import ORGANIZATIONS, Writer
from tests.testapp.models import Organization

__all__ = ["create", "drop"]

# A writer that comes before all others. Nobody changes its rows, but for their keys.
FIRST_SLOT, FIRST_ROWS = 900, 40


def create(directory: Path) -> None:
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    Organization.objects.bulk_create(Organization(pk=pk, workos_id=f"org_{pk}") for pk in ORGANIZATIONS)
    writer = Writer(directory, FIRST_SLOT, 0, settings.WORLD["seed"], Calls())
    for _ in range(FIRST_ROWS):
        writer.create()


def drop(directory: Path) -> None:
    connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
