"""``manage.py vault_rekey``: bring encrypted rows up to date with their key contexts."""

from typing import Any

from django.core.management.base import CommandParser

from vault_fields.fields.blindindex import indexes_of
from vault_fields.management.columns import ColumnCommand, LeftAlone
from vault_fields.models import IndexKey
from vault_fields.rows.indexkeyrows import IndexKeyRows
from vault_fields.rows.rekey import rekey_group
from vault_fields.rows.rekeykeys import rekey_index_keys
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar


class Command(ColumnCommand):
    help = (
        "Brings encrypted rows up to date with the key context that they have now. Rows that were moved to another "
        "context, and rows whose columns lead to another one than they did, are reported and left alone, and the exit "
        "status is 1, unless --accept-moved, or --accept-redirected, is given."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--accept-moved",
            action="store_true",
            help="Re-encrypt moved rows for the context that they are in now. First read the report "
            "without it: a value that somebody pasted into a row of another tenant looks the same.",
        )
        parser.add_argument(
            "--accept-redirected",
            action="store_true",
            help="Rekey rows whose own columns stayed and lead to another context now, because what lies behind a "
            "relation was changed. First read the report without it: a change of an organization's identifier gives "
            "all its rows to another tenant's keys.",
        )
        parser.add_argument(
            "--rewrap",
            action="store_true",
            help="Also rekey rows that are current but wrapped by other keys than today's: after a KEK was rotated, "
            "or a customer key was activated.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only count, and report what would be left alone.")

    @forgetful
    def handle(
        self,
        *args: Any,
        batch_size: int,
        accept_moved: bool,
        accept_redirected: bool,
        rewrap: bool,
        dry_run: bool,
        **options: Any,
    ) -> None:
        left_alone: set[LeftAlone] = set()
        with self.reports(options["format"]) as tell:
            for using, group in self.stored_groups(options):
                report = rekey_group(
                    group,
                    using=using,
                    accept_moved=accept_moved,
                    accept_redirected=accept_redirected,
                    rewrap=rewrap,
                    dry_run=dry_run,
                    batch_size=batch_size,
                    progress=progress_bar,
                    on_problem=self.warn,
                )
                tell(using, report)
                left_alone |= {(using, group.model, pk) for pk in report.left_alone}
            for using in self.with_index_keys(options):
                report = rekey_index_keys(
                    using,
                    rewrap=rewrap,
                    dry_run=dry_run,
                    batch_size=batch_size,
                    progress=progress_bar,
                    on_problem=self.warn,
                )
                tell(using, report)
                left_alone |= {(using, IndexKey, pk) for pk in report.left_alone}
        self.require_none(left_alone)

    def with_index_keys(self, options: dict[str, Any]) -> list[str]:
        """Return the databases of the columns that the arguments name, as far as they have index keys for them."""
        columns = self.columns(options)
        databases = dict.fromkeys(using for using, field in columns if options["all"] or indexes_of(field))
        return [using for using in databases if IndexKeyRows(using).exist()]
