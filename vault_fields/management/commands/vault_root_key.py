"""``manage.py vault_root_key``: print a fresh root key for the embedded Vault."""

from typing import Any

from django.core.management.base import BaseCommand

from vault_fields.embedded.rootkey import generate_root_key


class Command(BaseCommand):
    help = (
        "Prints a fresh random root key for the embedded Vault. Keep it outside the machine too: without it the "
        "keystore, and everything encrypted with it, cannot be read."
    )
    # The command is what one types because the settings lack a root key.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(generate_root_key())
