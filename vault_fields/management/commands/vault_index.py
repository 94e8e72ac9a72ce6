"""``manage.py vault_index``: give rows the hashes by which their values are found."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from vault_fields.management.columns import ColumnCommand, LeftAlone
from vault_fields.rows.reindex import reindex_group
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar


class Command(ColumnCommand):
    help = (
        "Gives rows the hashes by which indexed fields find their values: after an index was declared for a table that "
        "has rows, after its normalization or label was changed, and after a fixture was loaded without index keys. It "
        "opens every value, and so finds wrong hashes too. It can be interrupted and run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="Replace index keys that are missing in their table, though rows have hashes made with them.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only count missing and wrong hashes.")

    @forgetful
    def handle(self, *args: Any, batch_size: int, rebuild: bool, dry_run: bool, **options: Any) -> None:
        groups = [(using, group) for using, group in self.stored_groups(options) if group.index_names]
        if not groups:
            raise CommandError("None of these fields has an index.")
        left_alone: set[LeftAlone] = set()
        with self.reports(options["format"]) as tell:
            for using, group in groups:
                report = reindex_group(
                    group,
                    using=using,
                    rebuild=rebuild,
                    dry_run=dry_run,
                    batch_size=batch_size,
                    progress=progress_bar,
                    on_problem=self.warn,
                )
                tell(using, report)
                left_alone |= {(using, group.model, pk) for pk in report.left_alone}
        self.require_none(left_alone)
