"""``manage.py vault_reencrypt``: give encrypted rows new data keys."""

from typing import Any

from django.core.management.base import CommandError

from vault_fields.management.columns import ColumnCommand
from vault_fields.progress import progress_bar
from vault_fields.rekey import reencrypt_group


class Command(ColumnCommand):
    help = (
        "Gives every encrypted row a new data key and new ciphertext, up to max_rows_per_key rows of a context to a "
        "key. The exit status is 1 if a row was left alone, and if there was nothing to re-encrypt."
    )

    def handle(self, *args: Any, model: str, field: list[str], database: str, batch_size: int, **options: Any) -> None:
        left_alone = written = 0
        for group in self.groups(model, field):
            with self.failures_told():
                report = reencrypt_group(
                    group, using=database, batch_size=batch_size, progress=progress_bar, on_problem=self.warn
                )
            self.stdout.write(str(report))
            left_alone += report.moved + report.failed
            written += report.written
        if left_alone:
            raise CommandError(f"{left_alone} rows were left alone.")
        if not written:
            raise CommandError("Nothing was re-encrypted: there is no encrypted value.")
