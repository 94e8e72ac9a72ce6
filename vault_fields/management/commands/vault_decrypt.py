"""``manage.py vault_decrypt``: write what the columns of a model hold encrypted in the clear again."""

from typing import Any

from django.core.management.base import CommandError

from vault_fields.management.columns import ColumnCommand, LeftAlone
from vault_fields.rows.backfill import decrypt_column
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar


class Command(ColumnCommand):
    help = (
        "Writes the encrypted values of columns declared with migrating=… in the clear. It does what the migration "
        "operation DecryptField does, for tables that are too large for a migration. Stop whatever writes to the "
        "columns first: it still encrypts."
    )

    @forgetful
    def handle(self, *args: Any, batch_size: int, **options: Any) -> None:
        columns = self.columns(options)
        if options["all"]:
            columns = [(using, field) for using, field in columns if field.migrating]
        if refused := [field.label for _, field in columns if not field.migrating]:
            raise CommandError(
                f"{', '.join(refused)}: the running code could not read values in the clear. Declare it "
                'with migrating="read", deploy that, and run the command again; nothing was decrypted.'
            )
        left_alone: set[LeftAlone] = set()
        with self.reports(options["format"]) as tell:
            for using, field in columns:
                report = decrypt_column(
                    field, using=using, batch_size=batch_size, progress=progress_bar, on_problem=self.warn
                )
                tell(using, report)
                left_alone |= {(using, field.model, pk) for pk in report.left_alone}
        self.require_none(left_alone)
