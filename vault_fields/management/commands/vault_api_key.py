"""``manage.py vault_api_key``: print a fresh API key for the server of an embedded Vault, and its hash."""

from typing import Any

from django.core.management.base import BaseCommand

from vault_fields.runtime.frames import forgetful
from vault_fields.server.apikeys import generate_api_key, hash_api_key


class Command(BaseCommand):
    help = (
        "Prints a fresh random API key for the server of an embedded Vault, and the hash that VAULT_SERVER takes. The "
        "key is shown this once and kept nowhere: give it to the caller."
    )
    # People type this command because the settings lack a key.
    requires_system_checks: list[str] = []

    @forgetful
    def handle(self, *args: Any, **options: Any) -> None:
        key = generate_api_key()
        self.stdout.write(f"API key, shown this once: {key}\nsha256 for VAULT_SERVER:  {hash_api_key(key)}")
