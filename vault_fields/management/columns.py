"""The base of the commands that work on the encrypted columns of one model, or of all."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError, IntegrityError, connections
from django.db.models import Model

from vault_fields.audit.places import tables
from vault_fields.exceptions import VaultFieldsError
from vault_fields.fields.groups import Group, encrypted_fields, group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.management.formats import add_format, as_json
from vault_fields.rows.backfill import BackfillReport
from vault_fields.rows.reindex import ReindexReport
from vault_fields.rows.rekey import RekeyReport
from vault_fields.rows.rotation import RotationReport
from vault_fields.rows.walk import BATCH_SIZE
from vault_fields.text.counting import counted

__all__ = ["ColumnCommand", "LeftAlone"]

# The database, the model of the table and the primary key.
LeftAlone = tuple[str, type[Model], Hashable]

Report = BackfillReport | RekeyReport | ReindexReport | RotationReport

_GOES_ON = "Rows written before stay written; the command can be run again."


class ColumnCommand(BaseCommand):
    """A command that takes a model or all, names of encrypted fields, a database and a batch size."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", nargs="?", help="The model, as app_label.Model.")
        parser.add_argument("field", nargs="*", help="Encrypted fields; without any, all in the model's own table.")
        parser.add_argument(
            "--all",
            action="store_true",
            help="All encrypted fields of all models of the project, in every database that has them by the routers.",
        )
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help=f"Default: {DEFAULT_DB_ALIAS}; with --all, every database.",
        )
        parser.add_argument(
            "--batch-size", type=_positive, default=BATCH_SIZE, help="Rows written at a time (default: %(default)s)."
        )
        add_format(parser)

    def execute(self, *args: Any, **options: Any) -> Any:
        with self.failures_told():
            return super().execute(*args, **options)

    def columns(self, options: dict[str, Any]) -> list[tuple[str, Encrypted]]:
        """Return the columns that the arguments name: aliases of databases, and the fields in them."""
        label, names, alias = options["model"], options["field"], options["database"]
        if options["all"]:
            if label:
                raise CommandError(f"--all is all models: leave {label} out, or leave out --all.")
            return [(using, field) for using, group in tables([alias] if alias else ()) for field in group.members]
        if not label:
            raise CommandError("Name a model as app_label.Model, or write --all.")
        return [(alias or DEFAULT_DB_ALIAS, field) for field in self.fields(label, names)]

    def stored_groups(self, options: dict[str, Any]) -> list[tuple[str, Group]]:
        """Return the groups of ``columns``, each companion once."""
        return list(dict.fromkeys((using, group_of(field)) for using, field in self.columns(options)))

    def fields(self, label: str, names: Iterable[str]) -> list[Encrypted]:
        try:
            model = apps.get_model(label)
            found = [model._meta.get_field(name) for name in names]
        except ValueError as error:
            raise CommandError(f"A model is written as app_label.Model, not {label!r}.") from error
        except (LookupError, FieldDoesNotExist) as error:
            raise CommandError(str(error)) from error
        fields = [field for field in found if isinstance(field, Encrypted)]
        if plain := sorted({field.name for field in found} - {field.name for field in fields}):
            raise CommandError(f"{model._meta.label}: not encrypted: {', '.join(plain)}.")
        fields = fields or encrypted_fields(model._meta.concrete_model or model)
        if not fields:
            raise CommandError(f"{model._meta.label} has no encrypted field in its own table.")
        return fields

    @contextmanager
    def reports(self, form: str) -> Iterator[Callable[[str, Report], None]]:
        """
        Yield a function to call with each database and the report about it. JSON is written at the end of the block.
        """
        told: list[dict[str, Any]] = []

        def tell(using: str, report: Report) -> None:
            if form == "json":
                told.append({"database": using, **asdict(report), "left_alone": list(report.left_alone)})
            else:
                place = "" if len(connections.settings) == 1 else f"[{using}] "
                self.stdout.write(f"{place}{report}")

        yield tell
        if form == "json":
            self.stdout.write(as_json(told))

    def require_none(self, left_alone: Collection[LeftAlone]) -> None:
        """End with an error that counts the rows left alone, each once, however many of its values there were."""
        if left_alone:
            raise CommandError(f"{counted(len(left_alone), 'row was', 'rows were')} left alone.")

    def warn(self, problem: str) -> None:
        self.stderr.write(problem)

    @contextmanager
    def failures_told(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            # The status of a process that SIGINT ended, for scripts that run this.
            raise CommandError(f"Interrupted. {_GOES_ON}", returncode=130) from None
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except VaultFieldsError as error:
            raise CommandError(f"{error} {_GOES_ON}") from error
        except DatabaseError as error:
            # Usually a column does not exist yet. The message of a driver may be many lines long and contain the
            # statement.
            said = str(error).partition("\n")[0]
            is_twice = isinstance(error, IntegrityError)
            asked = "Do two rows have a value that may occur only once?" if is_twice else "Are all migrations applied?"
            raise CommandError(f"The database: {said} {asked} {_GOES_ON}") from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("must be a whole number of at least 1.")
    return int(text)
