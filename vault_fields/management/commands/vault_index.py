"""``manage.py vault_index``: give rows the hashes by which their values are found, and rotate the keys of these."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser

from vault_fields.fields.groups import Group
from vault_fields.management.columns import ColumnCommand, LeftAlone
from vault_fields.models import IndexKey
from vault_fields.rows.reindex import ReindexReport, reindex_group
from vault_fields.rows.rotation import LEAST_GRACE, rotate_index_keys
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
        parser.add_argument(
            "--verify", action="store_true", help="Only count them, and end with status 1 if there are any."
        )
        parser.add_argument(
            "--rotate",
            action="store_true",
            help="Replace index keys by new ones, in all tables: the first run makes them and all hashes anew, and one "
            "after the time of grace deletes the old ones.",
        )
        parser.add_argument(
            "--context",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="Rotate only index keys whose key context has this item; may be repeated.",
        )
        parser.add_argument(
            "--grace",
            type=int,
            default=3600,
            metavar="SECONDS",
            help="Keep old index keys for so long after all rows were rewritten (default: %(default)s): longer than "
            "any transaction is open.",
        )
        parser.add_argument(
            "--offline",
            action="store_true",
            help="Rotate in one run, without waiting: nobody else uses the database meanwhile.",
        )

    @forgetful
    def handle(self, *args: Any, rotate: bool, **options: Any) -> None:
        if rotate:
            self.rotate(**options)
            return
        if options["context"] or options["offline"]:
            raise CommandError("--context and --offline are about --rotate: add it, or leave them out.")
        self.reindex(**options)

    @forgetful
    def reindex(self, batch_size: int, rebuild: bool, dry_run: bool, verify: bool, **options: Any) -> None:
        groups = [(using, group) for using, group in self.stored_groups(options) if group.index_names]
        if not groups:
            raise CommandError("None of these fields has an index.")
        left_alone: set[LeftAlone] = set()
        amiss = 0
        with self.reports(options["format"]) as tell:
            for using, group in groups:
                report = reindex_group(
                    group,
                    using=using,
                    rebuild=rebuild,
                    dry_run=dry_run or verify,
                    batch_size=batch_size,
                    progress=progress_bar,
                    on_problem=self.warn,
                )
                tell(using, report)
                amiss += report.missing + report.wrong
                left_alone |= {(using, group.model, pk) for pk in report.left_alone}
        self.require_none(left_alone)
        if verify and amiss:
            raise CommandError(f"{amiss} hashes are missing or wrong: run vault_index without --verify.")

    @forgetful
    def rotate(self, batch_size: int, grace: int, offline: bool, context: Sequence[str], **options: Any) -> None:
        if options["model"] or options["rebuild"] or options["dry_run"] or options["verify"]:
            raise CommandError(
                "--rotate is about index keys, which serve all fields of their key contexts: it takes no model, and "
                "neither --rebuild, --dry-run nor --verify."
            )
        if not offline and grace < LEAST_GRACE.total_seconds():
            raise CommandError(
                f"--grace is at least {LEAST_GRACE.total_seconds():.0f} seconds: rows in the memory of processes keep "
                "hashes for some time. Where nobody else writes, add --offline."
            )
        items = dict(_item(each) for each in context)
        databases: dict[str, list[Group]] = {}
        for using, group in self.stored_groups(options | {"all": True}):
            if group.index_names:
                databases.setdefault(using, []).append(group)
        left_alone: set[LeftAlone] = set()
        with self.reports(options["format"]) as tell:

            def on_report(using: str, group: Group, report: ReindexReport) -> None:
                tell(using, report)
                left_alone.update((using, group.model, pk) for pk in report.left_alone)

            for using, groups in databases.items():
                rotated = rotate_index_keys(
                    groups,
                    using=using,
                    items=items,
                    grace=timedelta(seconds=grace),
                    offline=offline,
                    batch_size=batch_size,
                    progress=progress_bar,
                    on_problem=self.warn,
                    on_report=partial(on_report, using),
                )
                tell(using, rotated)
                left_alone.update((using, IndexKey, pk) for pk in rotated.left_alone)
        self.require_none(left_alone)


def _item(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CommandError(f"--context is written as NAME=VALUE, not {text!r}.")
    return name, value
