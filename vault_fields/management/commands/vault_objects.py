"""``manage.py vault_objects``: operations on all stored objects of an environment."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from vault_fields.embedded.objects import StoredObjects
from vault_fields.management.formats import add_format, as_json
from vault_fields.management.keystores import KeystoreCommand, require_environment, require_meant
from vault_fields.server.apikeys import DEFAULT_ENVIRONMENT
from vault_fields.text.counting import counted


class Command(KeystoreCommand):
    help = (
        "rewrap: opens every version of every stored object of an environment, and wraps its data key under the keys "
        "that wrap for its context now. Run it after a KEK was rotated, before its older versions are retired. Values "
        "are not touched. prune: deletes older versions, by --keep, --replaced-days or what both allow, and never a "
        "current "
        "one. Interrupted, either can be run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["prune", "rewrap"])
        parser.add_argument(
            "--environment", default=DEFAULT_ENVIRONMENT, help="The environment (default: %(default)s)."
        )
        parser.add_argument(
            "--keep", type=_number, metavar="NUMBER", help="Keep this many versions of each object, the newest."
        )
        parser.add_argument(
            "--replaced-days",
            type=_number,
            metavar="DAYS",
            help="Keep versions that another one replaced less than this many days ago.",
        )
        super().add_arguments(parser)
        add_format(parser)

    def handle(self, *args: Any, action: str, vault: str, environment: str, **options: Any) -> None:
        meant = {"prune": ("keep", "replaced_days"), "rewrap": ()}[action]
        require_meant(action, options, meant, ["keep", "replaced_days"])
        with self.failures_told(vault):
            service = self.embedded(vault).service
            require_environment(service, environment)
            objects = StoredObjects(service.for_environment(environment))
            if action == "prune":
                self.prune(objects, environment, options)
            else:
                self.rewrap(objects, environment, options["format"])

    def rewrap(self, objects: StoredObjects, environment: str, form: str) -> None:
        problems: list[str] = []
        done = objects.rewrap(progress=self.progress(), on_problem=problems.append)
        left = objects.number_of_versions() - done - len(problems)
        if form == "json":
            found = {"environment": environment, "wrapped": done, "left_alone": len(problems), "left_as_is": left}
            self.stdout.write(as_json(found))
        else:
            self.tell_wrapped(environment, done, left)
        for problem in problems:
            self.stderr.write(problem)
        if problems:
            raise CommandError(
                f"{counted(len(problems), 'version of a stored object was', 'versions of stored objects were')} left "
                f"alone."
            )

    def tell_wrapped(self, environment: str, done: int, left: int) -> None:
        place = f"in {environment!r}"
        wrapped = counted(done, f"version of a stored object {place} was", f"versions of stored objects {place} were")
        self.stdout.write(f"{wrapped} wrapped anew.")
        if left > 0:
            one = "was left as it is: a key of it is revoked, or it is new."
            many = "were left as they are: a key of theirs is revoked, or they are new."
            self.stdout.write(counted(left, one, many))

    def prune(self, objects: StoredObjects, environment: str, options: dict[str, Any]) -> None:
        keep, days = options["keep"], options["replaced_days"]
        if keep is None and days is None:
            raise CommandError("prune needs --keep or --replaced-days: which versions are to stay?")
        replaced_before = None if days is None else datetime.now(UTC) - timedelta(days=days)
        try:
            deleted = objects.prune(keep=keep, replaced_before=replaced_before, progress=self.progress())
        except KeyboardInterrupt:
            # The status of a process that SIGINT ended, for scripts that run this.
            raise CommandError(
                "Interrupted. The versions deleted so far are gone; run this again for the others.", returncode=130
            ) from None
        if options["format"] == "json":
            self.stdout.write(as_json({"environment": environment, "deleted": deleted}))
        else:
            older = counted(deleted, "older version of a stored object", "older versions of stored objects")
            self.stdout.write(f"{older} in {environment!r} deleted.")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and text.strip("0")):
        raise ArgumentTypeError("must be a whole number of at least 1")
    return int(text)
