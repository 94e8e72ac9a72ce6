"""``manage.py vault_byok``: the customer-managed keys of an embedded Vault."""

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.byok import KINDS
from vault_fields.custody import custody_of
from vault_fields.embedded.byok import CustomerKey
from vault_fields.exceptions import VaultFieldsError
from vault_fields.management.keystores import item_of, shown
from vault_fields.progress import progress_bar
from vault_fields.storedkeys import in_environment, tables
from vault_fields.vaults import DEFAULT_VAULT_ALIAS, vaults

ACTIONS = {
    "list": "all keys, deleted ones too",
    "status": "the key of an item, and how many rows still hang on the managed key",
    "configure": "say which key is the item's",
    "verify": "wrap and unwrap a probe with it",
    "activate": "wrap new data keys with it from now on",
    "deactivate": "undo activate; what it wrapped still opens, and can be rekeyed",
    "disable": "refuse what it has a part in, for the time being",
    "enable": "undo disable",
    "delete": "refuse what it has a part in, for ever",
}


class Command(BaseCommand):
    help = "Customer-managed keys of an embedded vault: " + "; ".join(
        f"{action}: {meaning}" for action, meaning in ACTIONS.items()
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=tuple(ACTIONS))
        parser.add_argument("item", nargs="?", help="The context item, as NAME=VALUE; not for list.")
        parser.add_argument("--vault", default=DEFAULT_VAULT_ALIAS, help="The alias in VAULTS (default: %(default)s).")
        parser.add_argument("--environment", default="default", help="Whose keys (default: %(default)s).")
        parser.add_argument("--provider", choices=tuple(KINDS), help="Where the key is kept; for configure.")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            dest="provider_settings",
            help="A setting of the provider, such as key_id=arn:aws:kms:…; for configure. Never a secret.",
        )
        parser.add_argument(
            "--make-data-unreadable", action="store_true", help="For delete, which makes data unreadable for ever."
        )
        parser.add_argument(
            "--database",
            action="append",
            choices=tuple(connections),
            default=[],
            help="For status: a database to look at; may be repeated. Default: all.",
        )

    def handle(self, *args: Any, action: str, item: str | None, vault: str, **options: Any) -> None:
        try:
            backend = _embedded(vault)
            environment = options["environment"]
            byok = in_environment(backend, environment, ())[0].byok
            if action == "list":
                self.tell(byok.all())
                return
            if item is None:
                raise CommandError(f"{action} needs the context item, as NAME=VALUE.")
            name, value = item_of(item)
            if action == "status":
                self.tell(filter(None, [byok.get(name, value)]))
                self.tell_custody(backend, name, value, environment, options["database"])
            elif action == "configure":
                if options["provider"] is None:
                    raise CommandError("configure needs --provider.")
                settings = dict(map(_pair, options["provider_settings"]))
                self.tell([byok.configure(name, value, provider=options["provider"], settings=settings)])
            elif action == "delete":
                if not options["make_data_unreadable"]:
                    raise CommandError(
                        "What was not rekeyed becomes unreadable for ever. See `vault_byok status` for how much that "
                        "is; then add --make-data-unreadable."
                    )
                byok.delete(name, value)
                self.stdout.write(f"{item}: deleted.")
            else:
                self.tell([getattr(byok, action)(name, value)])
        except (VaultFieldsError, ImproperlyConfigured, ValueError) as error:
            raise CommandError(str(error)) from error

    def tell_custody(
        self, vault: EmbeddedBackend, name: str, value: str, environment: str, databases: list[str]
    ) -> None:
        found = custody_of(vault, name, value, tables(databases), environment=environment, progress=progress_bar)
        for label, custody in found.items():
            self.stdout.write(f"{label}: {custody}")

    def tell(self, keys: Iterable[CustomerKey]) -> None:
        told = False
        for key in keys:
            settings = " ".join(f"{name}={text}" for name, text in key.settings.items())
            item = f"{shown(key.item_name)}={shown(key.item_value)}"
            self.stdout.write(f"{item}: {key.state} {key.provider} {settings} (id {key.id})")
            told = True
        if not told:
            self.stdout.write("No customer-managed key.")


def _embedded(alias: str) -> EmbeddedBackend:
    vault = vaults[alias]
    if not isinstance(vault, EmbeddedBackend):
        raise CommandError(f"Only an embedded vault has keys to manage here, and {alias!r} is {vault!r}.")
    return vault


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CommandError(f"{text!r} is not of the form NAME=VALUE.")
    return name, value
