"""``manage.py vault_root_key``: print a fresh root key for the embedded Vault, or let it replace the former one."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.management.keystores import KeystoreCommand
from vault_fields.runtime.frames import forgetful
from vault_fields.text.counting import counted
from vault_fields.vaults import DEFAULT_VAULT_ALIAS


class Command(KeystoreCommand):
    help = (
        "new (the default): prints a fresh random root key for the embedded Vault. Keep it outside the machine too: "
        "without it the keystore, and everything encrypted with it, cannot be read. rotate: wraps the keys of the "
        "keystore under the configured root key instead of the one that former_root_keys has. If it is interrupted, "
        "run it again."
    )
    # People type this command because the settings lack a root key.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", nargs="?", choices=["new", "rotate"], default="new")
        parser.add_argument("--vault", help=f"For rotate: the alias in VAULTS (default: {DEFAULT_VAULT_ALIAS}).")

    @forgetful
    def handle(self, *args: Any, action: str, vault: str | None, **options: Any) -> None:
        if action == "new":
            if vault is not None:
                raise CommandError("--vault means nothing for new: a root key is of no vault yet. Leave it out.")
            self.stdout.write(generate_root_key())
            return
        vault = vault or DEFAULT_VAULT_ALIAS
        with self.failures_told(vault):
            done = self.embedded(vault).service.rotate_root_key(progress=self.progress())
        if done.former:
            self.stdout.write(
                f"{counted(done.rewrapped, 'key is', 'keys are')} wrapped under the root key of id {done.current} "
                f"now. That of id "
                f"{' and '.join(done.former)} opens nothing here any more: take it out of the settings. Backups from "
                f"before still need it."
            )
        else:
            self.stdout.write(f"Nothing to do: the keystore has the root key of id {done.current}.")
