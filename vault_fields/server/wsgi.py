"""
The server for any WSGI server: ``gunicorn vault_fields.server.wsgi:application``.

``DJANGO_SETTINGS_MODULE`` names the settings, of which it needs ``VAULTS`` and ``VAULT_SERVER``.
"""

import django

from vault_fields.server.application import WsgiApplication

__all__ = ["application"]

django.setup()

from vault_fields.server.configuration import configured_api  # noqa: E402 - vaults need the settings.

application = WsgiApplication(configured_api)
