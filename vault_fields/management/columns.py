"""What the commands share that work on the encrypted columns of one model."""

from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from vault_fields.backfill import BATCH_SIZE
from vault_fields.exceptions import VaultFieldsError
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.groups import Group, encrypted_fields, group_of

__all__ = ["ColumnCommand"]


class ColumnCommand(BaseCommand):
    """A command with a model, names of encrypted fields, a database and a batch size."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", help="The model, as app_label.Model.")
        parser.add_argument("field", nargs="*", help="Encrypted fields; without any, all in the model's own table.")
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="Default: %(default)s."
        )
        parser.add_argument(
            "--batch-size", type=_positive, default=BATCH_SIZE, help="Rows written at a time (default: %(default)s)."
        )

    def fields(self, label: str, names: Iterable[str]) -> list[EncryptedField]:
        try:
            model = apps.get_model(label)
            found = [model._meta.get_field(name) for name in names]
        except ValueError as error:
            raise CommandError(f"A model is written as app_label.Model, not {label!r}.") from error
        except (LookupError, FieldDoesNotExist) as error:
            raise CommandError(str(error)) from error
        fields = [field for field in found if isinstance(field, EncryptedField)]
        if plain := sorted({field.name for field in found} - {field.name for field in fields}):
            raise CommandError(f"{model._meta.label}: not encrypted: {', '.join(plain)}.")
        fields = fields or encrypted_fields(model._meta.concrete_model or model)
        if not fields:
            raise CommandError(f"{model._meta.label} has no encrypted field in its own table.")
        return fields

    def groups(self, label: str, names: Iterable[str]) -> list[Group]:
        return list(dict.fromkeys(group_of(field) for field in self.fields(label, names)))

    def warn(self, problem: str) -> None:
        self.stderr.write(problem)

    @contextmanager
    def failures_told(self) -> Iterator[None]:
        try:
            yield
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except VaultFieldsError as error:
            raise CommandError(f"{error} What was written before stays; the command can be run again.") from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("must be a whole number of at least 1.")
    return int(text)
