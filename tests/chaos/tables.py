"""``python -m tests.chaos.tables create|drop``: the database of an experiment, with its tenants and some rows."""

import sys
from pathlib import Path

from django import setup
from django.conf import settings
from django.db import connection

__all__ = ["ORGANIZATIONS"]

ORGANIZATIONS = range(1, 7)

# A writer that comes before all others. Nobody changes its rows, but for their keys.
FIRST_SLOT, FIRST_ROWS = 900, 40


def create() -> None:
    from tests.chaos.calls import Calls
    from tests.chaos.writer import Writer
    from tests.testapp.models import Organization

    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    Organization.objects.bulk_create(Organization(pk=pk, workos_id=f"org_{pk}") for pk in ORGANIZATIONS)
    writer = Writer(Path(settings.WORLD["directory"]), FIRST_SLOT, 0, settings.WORLD["seed"], Calls())
    for _ in range(FIRST_ROWS):
        writer.create()


if __name__ == "__main__":
    setup()
    if sys.argv[1] == "create":
        create()
    else:
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
