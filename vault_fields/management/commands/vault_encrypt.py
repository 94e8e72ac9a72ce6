"""``manage.py vault_encrypt``: encrypt what the columns of a model still hold in the clear."""

from typing import Any

from django.core.management.base import CommandError

from vault_fields.backfill import encrypt_column
from vault_fields.management.columns import ColumnCommand
from vault_fields.progress import progress_bar


class Command(ColumnCommand):
    help = (
        "Encrypts what columns that are declared with migrating=True still hold in the clear. Does what the migration "
        "operation EncryptField does, for tables that are too large for a migration, or that were written to since."
    )

    def handle(self, *args: Any, model: str, field: list[str], database: str, batch_size: int, **options: Any) -> None:
        fields = self.fields(model, field)
        if not field:
            fields = [candidate for candidate in fields if candidate.migrating]
        if not fields:
            raise CommandError(f"{model}: no field is declared with migrating=True; nothing was done.")
        for column in fields:
            with self.failures_told():
                report = encrypt_column(column, using=database, batch_size=batch_size, progress=progress_bar)
            self.stdout.write(str(report))
