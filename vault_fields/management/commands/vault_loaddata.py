"""
Load fixtures whose tenants have other primary keys here.

    manage.py vault_loaddata clinic.json --accept-moved
"""

from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import loaddata

from vault_fields.fields.opening import accepting_moved
from vault_fields.runtime.frames import forgetful

__all__ = ["Command"]


class Command(loaddata.Command):
    help = (
        "Installs the named fixture(s) as loaddata does. With --accept-moved, values that were encrypted for another "
        "key context than that of the row which the fixture gives them are encrypted for that row."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--accept-moved",
            action="store_true",
            help="You vouch that nobody gave a value to the row of another tenant before the fixture was written.",
        )

    @forgetful
    def handle(self, *fixture_labels: Any, accept_moved: bool, **options: Any) -> None:
        if not accept_moved:
            super().handle(*fixture_labels, **options)
            return
        with accepting_moved():
            super().handle(*fixture_labels, **options)
