"""``manage.py vault_objects``: what is done to all stored objects of an environment."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from vault_fields.embedded.objects import StoredObjects
from vault_fields.management.formats import add_format, as_json
from vault_fields.management.keystores import KeystoreCommand, require_environment
from vault_fields.server.bearers import DEFAULT_ENVIRONMENT
from vault_fields.wording import counted


class Command(KeystoreCommand):
    help = (
        "rewrap: opens every version of every stored object of an environment, and wraps its data key under the keys "
        "that wrap for its context now. After a KEK was rotated, before its older versions are retired. Values are not "
        "touched. Interrupted, it can be run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["rewrap"])
        parser.add_argument(
            "--environment", default=DEFAULT_ENVIRONMENT, help="The environment (default: %(default)s)."
        )
        super().add_arguments(parser)
        add_format(parser)

    def handle(self, *args: Any, vault: str, environment: str, **options: Any) -> None:
        with self.failures_told(vault):
            service = self.embedded(vault).service
            require_environment(service, environment)
            objects = StoredObjects(service.for_environment(environment))
            problems: list[str] = []
            done = objects.rewrap(progress=self.progress(), on_problem=problems.append)
            left = objects.number_of_versions() - done - len(problems)
            if options["format"] == "json":
                found = {"environment": environment, "wrapped": done, "left_alone": len(problems), "left_as_is": left}
                self.stdout.write(as_json(found))
            else:
                self.tell(environment, done, left)
        for problem in problems:
            self.stderr.write(problem)
        if problems:
            raise CommandError(
                f"{counted(len(problems), 'version of a stored object was', 'versions of stored objects were')} left "
                f"alone."
            )

    def tell(self, environment: str, done: int, left: int) -> None:
        place = f"in {environment!r}"
        wrapped = counted(done, f"version of a stored object {place} was", f"versions of stored objects {place} were")
        self.stdout.write(f"{wrapped} wrapped anew.")
        if left > 0:
            one = "was left as it is: a key of it is revoked, or it is new."
            many = "were left as they are: a key of theirs is revoked, or they are new."
            self.stdout.write(counted(left, one, many))
