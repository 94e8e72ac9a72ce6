"""``manage.py vault_encrypt``: encrypt what the columns of a model still hold in the clear."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from vault_fields.management.columns import ColumnCommand, LeftAlone
from vault_fields.rows.backfill import encrypt_column
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar


class Command(ColumnCommand):
    help = (
        "Encrypts the values that columns declared with migrating=True still hold in the clear. It does what the "
        "migration "
        "operation EncryptField does, for tables that are too large for a migration, or that were written to since. "
        "Rows that cannot be encrypted are reported and left alone, and the exit status is 1."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Only count, and report what could not be encrypted. Writes nothing, and does not ask the Vault.",
        )

    @forgetful
    def handle(self, *args: Any, batch_size: int, dry_run: bool, **options: Any) -> None:
        columns = self.columns(options)
        if not options["field"]:
            columns = [(using, field) for using, field in columns if field.migrating is True]
        if not columns:
            where = options["model"] or "All models"
            raise CommandError(f"{where}: no field is declared with migrating=True; nothing was done.")
        left_alone: set[LeftAlone] = set()
        with self.reports(options["format"]) as tell:
            for using, field in columns:
                report = encrypt_column(
                    field,
                    using=using,
                    batch_size=batch_size,
                    progress=progress_bar,
                    on_problem=self.warn,
                    dry_run=dry_run,
                )
                tell(using, report)
                left_alone |= {(using, field.model, pk) for pk in report.left_alone}
        self.require_none(left_alone)
