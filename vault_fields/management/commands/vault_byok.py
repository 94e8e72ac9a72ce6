"""``manage.py vault_byok``: the customer keys of an embedded Vault."""

from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from vault_fields.audit.owners import owner_counts
from vault_fields.audit.places import in_environment, places
from vault_fields.audit.shredding import customers_key
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.byok import KINDS
from vault_fields.embedded.customer.lifecycle import CustomerKey
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
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import progress_bar

ACTIONS = {
    "list": "all keys, deleted ones too",
    "status": "the key of an item, and how many rows the managed key still protects",
    "configure": "say which key is the item's",
    "verify": "wrap and unwrap a probe with it",
    "activate": "wrap new data keys with it from now on",
    "deactivate": "undo activate; data keys that it wrapped still open, and can be rekeyed",
    "disable": "refuse everything that involves it, until it is enabled",
    "enable": "let a disabled key be used again; it is active then",
    "delete": "refuse everything that involves it, for ever",
}
# The options that each action uses, besides --vault and --environment.
OPTIONS = {
    "list": {"format"},
    "status": {"database"},
    "configure": {"provider", "set", "in_advance"},
    "delete": {"make_data_unreadable"},
}
ALL_OPTIONS = ["format", "provider", "set", "make_data_unreadable", "in_advance", "database"]


class Command(KeystoreCommand):
    help = "Customer keys of an embedded vault: " + "; ".join(
        f"{action}: {meaning}" for action, meaning in ACTIONS.items()
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=tuple(ACTIONS))
        parser.add_argument("item", nargs="?", help="The context item, as NAME=VALUE; not for list.")
        super().add_arguments(parser)
        parser.add_argument("--environment", default="default", help="Whose keys (default: %(default)s).")
        parser.add_argument("--format", choices=FORMATS, help="The format of the output (default: text); for list.")
        parser.add_argument("--provider", choices=tuple(KINDS), help="The provider that keeps the key; for configure.")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            dest="set",
            help="A setting of the provider, such as key_id=arn:aws:kms:…; for configure. Never a secret.",
        )
        parser.add_argument(
            "--make-data-unreadable", action="store_true", help="For delete, which makes data unreadable for ever."
        )
        parser.add_argument(
            "--in-advance",
            action="store_true",
            help="For configure: allow an item, or an environment, for which nothing was encrypted yet.",
        )
        parser.add_argument(
            "--database",
            action="append",
            choices=tuple(connections),
            default=[],
            help="For status: a database to look at; may be repeated. Default: all.",
        )

    @forgetful
    def handle(self, *args: Any, action: str, item: str | None, vault: str, **options: Any) -> None:
        require_meant(action, options, OPTIONS.get(action, ()), ALL_OPTIONS)
        if (item is None) != (action == "list"):
            raise CommandError(
                f"{action} needs the context item, as NAME=VALUE." if item is None else "list takes no context item."
            )
        if action == "configure" and options["provider"] is None:
            raise CommandError("configure needs --provider.")
        try:
            with self.failures_told(vault):
                self.act(action, item, self.embedded(vault), **options)
        except ValueError as error:
            raise CommandError(str(error)) from error

    def act(self, action: str, item: str | None, backend: EmbeddedBackend, **options: Any) -> None:
        environment = options["environment"]
        if not options["in_advance"]:
            require_environment(backend.service, environment)
        service = in_environment(backend, environment, ())[0]
        byok = service.byok
        if item is None:
            if options["format"] == "json":
                self.stdout.write(as_json([_as_json(key, environment) for key in byok.all()]))
            else:
                self.tell(byok.all())
            return
        name, value = item_of(item)
        if action in {"configure", "status"} and not options["in_advance"]:
            self.require_known(service, name, value)
        if action == "status":
            self.tell(filter(None, [byok.get(name, value)]))
            self.tell_owners(backend, name, value, environment, options["database"])
        elif action == "configure":
            settings = dict(map(_pair, options["set"]))
            self.tell([byok.configure(name, value, provider=options["provider"], settings=settings)])
        elif action == "delete":
            if not options["make_data_unreadable"]:
                raise CommandError(
                    "Data that were not rekeyed become unreadable for ever. `vault_byok status` counts them; then add "
                    "--make-data-unreadable."
                )
            byok.delete(name, value)
            self.stdout.write(f"{item}: deleted.")
        else:
            self.tell([getattr(byok, action)(name, value)])

    def require_known(self, service: EmbeddedVault, name: str, value: str) -> None:
        """Refuse an item that is unknown: a key configured for a mistyped item wraps nothing, and seems to."""
        if service.keks.find(name, value) is None and customers_key(service, name, value) is None:
            raise CommandError(
                f"Nothing was encrypted for the context item {name!r} of this value in {service.environment!r}, "
                f"and it has no customer key. {known_names(service, name)} To configure one before anything is "
                "encrypted for it, add --in-advance."
            )

    def tell_owners(
        self, vault: EmbeddedBackend, name: str, value: str, environment: str, databases: list[str]
    ) -> None:
        found = owner_counts(vault, name, value, places(databases), environment=environment, progress=progress_bar)
        for label, counts in found.items():
            self.stdout.write(f"{label}: {counts}")

    def tell(self, keys: Iterable[CustomerKey]) -> None:
        told = False
        for key in keys:
            settings = " ".join(f"{name}={text}" for name, text in key.settings.items())
            item = f"{shown(key.item_name)}={shown(key.item_value)}"
            self.stdout.write(f"{item}: {key.state} {key.provider} {settings} (id {key.id})")
            told = True
        if not told:
            self.stdout.write("No customer key.")


def _as_json(key: CustomerKey, environment: str) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "environment": environment,
        "name": key.item_name,
        "value": key.item_value,
        "state": key.state,
        "provider": key.provider,
        "settings": dict(key.settings),
    }


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        # It is not shown: a setting without a name may be a secret.
        raise CommandError("The value of one --set does not have the form NAME=VALUE.")
    return name, value
