"""``manage.py vault_reencrypt``: give encrypted rows new data keys."""

from typing import Any

from django.core.management.base import CommandError

from vault_fields.management.columns import ColumnCommand, LeftAlone
from vault_fields.rows.rekey import reencrypt_group
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar


class Command(ColumnCommand):
    help = (
        "Gives every encrypted row a new data key and new ciphertext, up to max_rows_per_key rows of a context to a "
        "key. The exit status is 1 if a row was left alone, and if there was nothing to re-encrypt."
    )

    @forgetful
    def handle(self, *args: Any, batch_size: int, **options: Any) -> None:
        left_alone: set[LeftAlone] = set()
        written = 0
        with self.reports(options["format"]) as tell:
            for using, group in self.stored_groups(options):
                report = reencrypt_group(
                    group, using=using, batch_size=batch_size, progress=progress_bar, on_problem=self.warn
                )
                tell(using, report)
                left_alone |= {(using, group.model, pk) for pk in report.left_alone}
                written += report.written
        self.require_none(left_alone)
        if not written:
            raise CommandError("Nothing was re-encrypted: there is no encrypted value.")
