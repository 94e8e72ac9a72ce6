"""``manage.py vault_objects``: what is done to all stored objects of an environment."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from vault_fields.embedded.objects import StoredObjects
from vault_fields.management.keystores import KeystoreCommand, require_environment, require_meant
from vault_fields.server.bearers import DEFAULT_ENVIRONMENT


class Command(KeystoreCommand):
    help = (
        "rewrap: opens every version of every stored object of an environment, and wraps its data key under the keys "
        "that wrap for its context now. After a KEK was rotated, before its older versions are retired. Values are not "
        "touched. prune: deletes older versions, by --keep, --replaced-days or what both allow, and never a current "
        "one. Interrupted, either can be run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["prune", "rewrap"])
        parser.add_argument(
            "--environment", default=DEFAULT_ENVIRONMENT, help="The environment (default: %(default)s)."
        )
        parser.add_argument(
            "--keep", type=_number, metavar="NUMBER", help="Leave so many versions of each object, the newest."
        )
        parser.add_argument(
            "--replaced-days",
            type=_number,
            metavar="DAYS",
            help="Leave versions that another one replaced less than so many days ago.",
        )
        super().add_arguments(parser)

    def handle(self, *args: Any, action: str, vault: str, environment: str, **options: Any) -> None:
        meant = {"prune": ("keep", "replaced_days"), "rewrap": ()}[action]
        require_meant(action, options, meant, ["keep", "replaced_days"])
        with self.failures_told(vault):
            service = self.embedded(vault).service
            require_environment(service, environment)
            objects = StoredObjects(service.for_environment(environment))
            if action == "prune":
                self.prune(objects, environment, options["keep"], options["replaced_days"])
            else:
                self.rewrap(objects, environment)

    def rewrap(self, objects: StoredObjects, environment: str) -> None:
        done, total = objects.rewrap(progress=self.progress()), objects.number_of_versions()
        self.stdout.write(f"{done} versions of stored objects in {environment!r} were wrapped anew.")
        if done < total:
            self.stdout.write(f"{total - done} were left as they are: a key of theirs is revoked, or they are new.")

    def prune(self, objects: StoredObjects, environment: str, keep: int | None, days: int | None) -> None:
        if keep is None and days is None:
            raise CommandError("prune needs --keep or --replaced-days: which versions are to stay?")
        replaced_before = None if days is None else datetime.now(UTC) - timedelta(days=days)
        try:
            deleted = objects.prune(keep=keep, replaced_before=replaced_before, progress=self.progress())
        except KeyboardInterrupt:
            # The status of a process that SIGINT ended, for who runs this in a script.
            raise CommandError(
                "Interrupted. What was deleted until then is gone; run this again for the others.", returncode=130
            ) from None
        self.stdout.write(f"{deleted} older versions of stored objects in {environment!r} deleted.")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and text.strip("0")):
        raise ArgumentTypeError("must be a whole number of at least 1")
    return int(text)
