"""``manage.py vault_serve``: serve an embedded Vault over HTTP on this machine."""

import signal
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from vault_fields.exceptions import VaultUnavailable
from vault_fields.runtime.frames import forgetful
from vault_fields.server.apikeys import ApiKey, ApiKeys, generate_api_key, hash_api_key
from vault_fields.server.configuration import api_for, configured_api_keys, served_vault
from vault_fields.server.serving import bind, is_loopback


class Command(BaseCommand):
    help = (
        "Serves an embedded Vault over plain HTTP, for development and tests. In production serve "
        "vault_fields.server.wsgi:application with gunicorn or the like, behind TLS."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="The address to listen on (default: %(default)s).")
        parser.add_argument(
            "--port", type=int, default=8200, help="The port (default: %(default)s); 0 takes any free one."
        )
        parser.add_argument("--vault", help="The alias in VAULTS (default: that of VAULT_SERVER, or 'default').")
        parser.add_argument(
            "--allow-plain-http",
            action="store_true",
            help="Listen beyond this machine, where bearer keys and data keys cross the network in the clear.",
        )

    @forgetful
    def handle(
        self, *args: Any, host: str, port: int, vault: str | None, allow_plain_http: bool, **options: Any
    ) -> None:
        key = None
        try:
            served, api_keys = served_vault(vault), configured_api_keys()
            if api_keys is None:
                key = generate_api_key()
                api_keys = ApiKeys([ApiKey(hash_api_key(key))])
            if not allow_plain_http and not is_loopback(host):
                raise CommandError(
                    f"{host} can be reached from other machines, and this is plain HTTP. Listen on 127.0.0.1, or add "
                    f"--allow-plain-http."
                )
            served.unlock()
            server = bind(api_for(served, api_keys), host, port)
        except (VaultUnavailable, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
        except (OverflowError, UnicodeError) as error:
            raise CommandError("Cannot listen there: --port is 0 to 65535, and --host a name or an address.") from error
        with server:
            if key is not None:
                self.stdout.write(f"Bearer key, shown this once: {key}")
            address = f"[{host}]" if ":" in host else host
            self.stdout.write(f"Vault ready at http://{address}:{server.server_port}")
            self.stdout.flush()
            # A shell that starts it in the background makes it ignore SIGINT, and SIGTERM would end it silently.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                self.stdout.write("Stopped.")
