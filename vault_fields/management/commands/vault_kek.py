"""``manage.py vault_kek``: the key-encrypting keys of an embedded Vault."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from vault_fields.audit.places import in_environment, places, tables
from vault_fields.audit.shredding import customers_key, managed_key, prove_shredded, shredded_keys
from vault_fields.audit.versions import versions_in_use
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.customer.store import DELETED
from vault_fields.embedded.managed.lifecycle import KekInfo, Keks
from vault_fields.embedded.managed.store import DESTROYED, PENDING_DESTRUCTION
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.management.formats import FORMATS, as_json
from vault_fields.management.keystores import (
    KeystoreCommand,
    item_of,
    known_names,
    require_environment,
    require_meant,
    shown,
)
from vault_fields.rows.unindexing import delete_hashes
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar
from vault_fields.text.counting import counted
from vault_fields.vaults import vaults

WAITING_DAYS = 30
LONGEST_DAYS = 3650

ACTIONS = {
    "list": "all keys of the environment",
    "show": "the key of an item",
    "usage": "how many values each version of an item's key protects",
    "rotate": "wrap new data keys under a new version; older ones go on opening",
    "retire": "refuse data keys that versions lower than --before wrapped; a lower --before lets them open again",
    "disable": "refuse everything that involves the key, until it is enabled",
    "enable": "undo disable",
    "destroy": "refuse it for ever, and erase the key in --days days",
    "cancel": "undo destroy, within these days; the key is disabled then",
    "erase": "erase the keys whose days are over; to be run every day",
    "unindex": "delete the hashes of the item's values, which nobody can read any more",
    "prove": "try to open every value, and fail unless all of the item's are refused and all others open",
}
CHANGES = {"show", "rotate", "disable", "enable", "cancel"}
WITHOUT_ITEM = {"list", "erase"}
# The options that each action uses.
OPTIONS = {
    "list": {"environment", "format"},
    "show": {"environment", "format"},
    "usage": {"environment", "database"},
    "rotate": {"environment", "format"},
    "retire": {"environment", "format", "before"},
    "disable": {"environment", "format", "in_advance"},
    "enable": {"environment", "format"},
    "destroy": {"environment", "days", "make_data_unreadable", "prove"},
    "cancel": {"environment", "format"},
    "erase": set[str](),
    "unindex": {"database"},
    "prove": {"environment", "database"},
}
ALL_OPTIONS = ["environment", "format", "before", "days", "make_data_unreadable", "prove", "in_advance", "database"]
DEFAULTS = {"environment": "default", "format": "text", "days": WAITING_DAYS}


class Command(KeystoreCommand):
    help = "Key-encrypting keys of an embedded vault: " + "; ".join(
        f"{action}: {meaning}" for action, meaning in ACTIONS.items()
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=tuple(ACTIONS))
        parser.add_argument("item", nargs="?", help="The context item, as NAME=VALUE; not for list and erase.")
        super().add_arguments(parser)
        parser.add_argument("--environment", help=f"Whose keys (default: {DEFAULTS['environment']}).")
        parser.add_argument(
            "--format",
            choices=FORMATS,
            help=f"The format of the output (default: {DEFAULTS['format']}); not for usage, destroy, erase and prove.",
        )
        parser.add_argument("--before", type=int, help="For retire: the lowest version that still opens.")
        parser.add_argument("--days", type=int, help=f"For destroy: the waiting period (default: {WAITING_DAYS}).")
        parser.add_argument(
            "--make-data-unreadable", action="store_true", help="For destroy with --days 0, which nothing can undo."
        )
        parser.add_argument("--prove", action="store_true", help="For destroy: go on with prove.")
        parser.add_argument(
            "--in-advance",
            action="store_true",
            help="For disable: allow an item, or an environment, for which nothing was encrypted yet.",
        )
        parser.add_argument(
            "--database",
            action="append",
            choices=tuple(connections),
            default=[],
            help="For usage, unindex, prove and destroy --prove: a database to look at; may be repeated. Default: all.",
        )

    @forgetful
    def handle(self, *args: Any, action: str, item: str | None, vault: str, **options: Any) -> None:
        meant = OPTIONS[action] | ({"database"} if options["prove"] else set())
        require_meant(action, options, meant, ALL_OPTIONS)
        if item is not None and action in WITHOUT_ITEM:
            raise CommandError(f"{action} takes no context item.")
        options |= {name: default for name, default in DEFAULTS.items() if options[name] is None}
        with self.failures_told(vault):
            if action == "prove":
                # Other vaults than embedded ones are checked in the same way.
                self.prove(vault, *self.required(action, item), **options)
                return
            if action == "unindex":
                self.unindex(vault, *self.required(action, item), options["database"])
                return
            service = self.embedded(vault).service
            if not options["in_advance"]:
                require_environment(service, options["environment"])
            service = service.for_environment(options["environment"])
            if action == "list":
                self.tell(self.listed(service.keks), options["format"])
            elif action == "erase":
                erased = service.keks.erase_due(progress=self.progress())
                self.stdout.write(f"{counted(erased, 'key was', 'keys were')} erased.")
            else:
                name, value = self.required(action, item)
                if action == "disable":
                    self.require_meant_item(service, name, value, options["in_advance"])
                self.act(action, service.keks, vault, name, value, **options)

    def listed(self, keks: Keks) -> Iterator[KekInfo]:
        with self.progress()("Reading keys", lambda: len(keks)) as advance:
            for kek in keks:
                yield kek
                advance(1)

    def require_meant_item(self, service: EmbeddedVault, name: str, value: str, in_advance: bool) -> None:
        """Refuse a mistyped item: disabling it would disable a new item's key, and seem to disable the right one."""
        customers = service.byok.get(name, value)
        if customers is not None:
            self.stderr.write(
                f"This item has a customer key too, which is {customers.state}: only `vault_byok disable` "
                "refuses the data keys that it wrapped."
            )
        if service.keks.find(name, value) is None and not in_advance:
            raise CommandError(
                f"Nothing was encrypted with a managed key for the context item {name!r} of this value in "
                f"{service.environment!r}, so there is nothing to disable. {known_names(service, name)} To refuse it "
                "before anything is encrypted for it, add --in-advance."
            )

    def act(self, action: str, keks: Keks, vault: str, name: str, value: str, **options: Any) -> None:
        if action in CHANGES:
            changed = getattr(keks, "get" if action == "show" else action)(name, value)
            self.tell([changed], options["format"])
        elif action == "usage":
            self.usage(keks, vault, name, value, **options)
        elif action == "retire":
            if options["before"] is None:
                raise CommandError("retire needs --before.")
            self.tell([keks.retire(name, value, before=options["before"])], options["format"])
        else:
            self.destroy(keks, name, value, options["days"], options["make_data_unreadable"])
            if options["prove"]:
                self.prove(vault, name, value, **options)

    def destroy(self, keks: Keks, name: str, value: str, days: int, confirmed: bool) -> None:
        if not 0 <= days <= LONGEST_DAYS:
            raise CommandError(f"--days is a number from 0 to {LONGEST_DAYS}.")
        if not days and not confirmed:
            raise CommandError(
                "Without a waiting period the values of this key become unreadable for ever, at once. See "
                "`vault_kek usage` for how many there are; then add --make-data-unreadable."
            )
        self.tell([keks.destroy(name, value, after=timedelta(days=days))], "text")

    def usage(
        self, keks: Keks, vault: str, name: str, value: str, *, environment: str, database: list[str], **options: Any
    ) -> None:
        kek = keks.get(name, value)
        used = versions_in_use(
            self.embedded(vault), kek.id, places(database), environment=environment, progress=progress_bar
        )
        for version in range(1, kek.version + 1):
            unverified = f", unverified: {used.unverified[version]}" if used.unverified[version] else ""
            values = counted(used.versions[version], "value", "values")
            self.stdout.write(f"version {version}: {values}{unverified}{_note(kek, version)}")
        if used.altered:
            self.stdout.write(
                "not counted: "
                + counted(used.altered, "value that was altered, or that does", "values that were altered, or that do")
                + " not open"
            )

    def unindex(self, vault: str, name: str, value: str, databases: list[str]) -> None:
        is_gone = shredded_keys(vaults[vault])
        left = 0
        for using, group in tables(databases):
            if not group.index_names:
                continue
            report = delete_hashes(group, name, value, is_gone=is_gone, using=using, progress=progress_bar)
            left += report.left
            deleted = counted(report.deleted, "row lost its hashes", "rows lost their hashes")
            self.stdout.write(f"[{using}] {report.label}: {deleted}, {report.left} left alone.")
        if left:
            raise CommandError(
                f"The values of {counted(left, 'row', 'rows')} are not known to be gone, and keep their hashes: their "
                "key opens, can come back, or is in another vault."
            )

    def prove(
        self, vault: str, name: str, value: str, *, environment: str, database: list[str], **options: Any
    ) -> None:
        kek, state = None, None
        self.stdout.write(f"{_text(datetime.now(UTC))}, vault {vault!r}, environment {environment!r}:")
        if isinstance(embedded := vaults[vault], EmbeddedBackend):
            require_environment(embedded.service, environment)
            service, wanted = in_environment(embedded, environment, places(database))
            kek = managed_key(service, name, value)
            customers = customers_key(service, name, value)
            state = kek.state if kek else ""
            if customers and state not in {PENDING_DESTRUCTION, DESTROYED}:
                state = customers.state
            if kek:
                self.tell([kek], "text")
            if customers:
                self.stdout.write(f"Customer key: {customers.state} {customers.provider} (id {customers.id})")
        elif environment != "default":
            raise CommandError("Only an embedded vault has environments here.")
        else:
            wanted = places(database)
        if kek is None:
            self.stdout.write(f"{shown(name)}={shown(value)}")
        self.stdout.write(f"Databases: {', '.join(sorted({place.using for place in wanted})) or 'none'}.")
        report = prove_shredded(
            embedded,
            name,
            value,
            wanted,
            environment=environment,
            progress=progress_bar,
            on_problem=self.stderr.write,
        )
        self.stdout.write(str(report))
        if state is None and not report.unreadable + report.readable + report.recoverable:
            raise CommandError(
                "This is no proof: no value in these databases is encrypted for this item. Names and values of items "
                "are compared exactly."
            )
        if not report.proven:
            raise CommandError("This is no proof.")
        self.stdout.write(_verdict(state))

    def tell(self, keks: Iterable[KekInfo], form: str) -> None:
        if form == "json":
            self.stdout.write(as_json([_as_json(kek) for kek in keks]))
            return
        for kek in keks:
            until = "" if kek.destroy_at is None else f", to be erased after {_text(kek.destroy_at)}"
            self.stdout.write(
                f"{shown(kek.item_name)}={shown(kek.item_value)}: {kek.state}{until}, version {kek.version}, opens "
                f"from version {kek.minimum_version} on, made {_text(kek.created_at)} (id {kek.id})"
            )

    def required(self, action: str, item: str | None) -> tuple[str, str]:
        if item is None:
            raise CommandError(f"{action} needs the context item, as NAME=VALUE.")
        return item_of(item)


def _verdict(state: str | None) -> str:
    """Return what is proven about a key in this state."""
    held = "Running processes may hold opened data keys for key_max_age seconds more."
    if state is None:
        return f"Proven. Only the vault knows whether it can be undone. {held}"
    if state == PENDING_DESTRUCTION:
        return f"Proven. Until the key is erased, `vault_kek cancel` can undo it. {held}"
    if state in {DESTROYED, DELETED}:
        return f"Proven: the key is {state}. {held}"
    raise CommandError(f"This is no proof: the key is {state}.")


def _note(kek: KekInfo, version: int) -> str:
    if version < kek.minimum_version:
        return ", retired"
    return ", wraps new data keys" if version == kek.version else ""


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _as_json(kek: KekInfo) -> dict[str, Any]:
    return {
        "id": str(kek.id),
        "environment": kek.environment,
        "name": kek.item_name,
        "value": kek.item_value,
        "state": kek.state,
        "version": kek.version,
        "minimum_version": kek.minimum_version,
        "created_at": kek.created_at.isoformat(),
        "destroy_at": kek.destroy_at and kek.destroy_at.isoformat(),
    }
