"""``manage.py vault_events``: what happened in an embedded Vault, one event as JSON on each line."""

import json
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_datetime

from vault_fields.embedded.events.event import PAYLOADS
from vault_fields.embedded.events.log import EventLog, UnknownCursor
from vault_fields.exceptions import VaultUnavailable
from vault_fields.management.keystores import interruption_told, require_environment, require_meant
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar
from vault_fields.server.apikeys import DEFAULT_ENVIRONMENT
from vault_fields.server.configuration import served_vault
from vault_fields.text.counting import counted

PAGE = 1000
# It stands for the setting of the vault.
CONFIGURED = -1


class Command(BaseCommand):
    help = (
        "Prints the events of an embedded Vault, the oldest first, each as JSON on a line. To continue, pass the id "
        "of the last one as --after."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--vault", help="The alias in VAULTS (default: that of VAULT_SERVER, or 'default').")
        parser.add_argument("--environment", help=f"The environment (default: {DEFAULT_ENVIRONMENT}).")
        parser.add_argument(
            "--event", action="append", default=[], choices=sorted(PAYLOADS), metavar="NAME", help="Only these."
        )
        parser.add_argument("--after", metavar="ID", help="Only events stored after this one.")
        parser.add_argument("--since", type=_moment, metavar="MOMENT", help="Only events after this moment.")
        parser.add_argument(
            "--prune-days",
            nargs="?",
            const=CONFIGURED,
            type=_days,
            metavar="DAYS",
            help="Print nothing, and delete the events of all environments that are older than this many days "
            "(default: event_retention_days of the vault).",
        )

    @forgetful
    def handle(self, *args: Any, vault: str | None, prune_days: int | None, **options: Any) -> None:
        if prune_days is not None:
            require_meant("--prune-days", options, (), ["environment", "event", "after", "since"])
        environment = options["environment"] or DEFAULT_ENVIRONMENT
        try:
            served = served_vault(vault)
            events = served.store.events
            if prune_days is not None:
                self.prune(events, prune_days)
                return
            require_environment(served, environment)
            after, more = options["after"], True
            with interruption_told():
                while more:
                    page = events.page(
                        environment, names=options["event"], after=after, limit=PAGE, since=options["since"]
                    )
                    for event in page.items:
                        self.stdout.write(json.dumps(event.as_json(), ensure_ascii=False))
                    after, more = page.after, page.after is not None
        except UnknownCursor as error:
            raise CommandError(f"--after {options['after']}: {error} It may have been pruned.") from None
        except (VaultUnavailable, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    def prune(self, events: EventLog, days: int) -> None:
        retention = timedelta(days=days) if days != CONFIGURED else events.retention
        if retention is None:
            raise CommandError("--prune-days needs a number of days: the vault has no event_retention_days.")
        until, deleted = datetime.now(UTC) - retention, 0

        def advance(number: int) -> None:
            nonlocal deleted
            deleted += number
            show(number)

        try:
            with progress_bar("Deleting events", lambda: events.count(until)) as show:
                events.prune(until, advance=advance)
        except KeyboardInterrupt:
            # The status of a process that SIGINT ended, for scripts that run this.
            raise CommandError(
                f"Interrupted. {counted(deleted, 'event is', 'events are')} deleted; run this again for the others.",
                returncode=130,
            ) from None
        self.stdout.write(f"{counted(deleted, 'event', 'events')} deleted.")


def _moment(text: str) -> datetime:
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError("must be a moment in ISO 8601, such as 2024-01-01T00:00:00Z")
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ArgumentTypeError("must be a whole number of days")
    return int(text)
