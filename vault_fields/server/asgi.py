"""
The server for any ASGI server: ``uvicorn vault_fields.server.asgi:application``.

``DJANGO_SETTINGS_MODULE`` names the settings, of which it needs ``VAULTS`` and ``VAULT_SERVER``.
"""

import django

from vault_fields.server.application import AsgiApplication

__all__ = ["application"]

django.setup()

from vault_fields.server.configuration import configured_api  # noqa: E402 - vaults need the settings.

application = AsgiApplication(configured_api)
