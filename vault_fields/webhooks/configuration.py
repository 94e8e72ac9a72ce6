"""
``settings.VAULT_WEBHOOKS``: the secrets of believed webhooks, and the tenants they are about.

    VAULT_WEBHOOKS = {"secrets": [env("WORKOS_WEBHOOK_SECRET")]}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.exceptions import ImproperlyConfigured

from vault_fields.keys import MAX_NAME_LENGTH
from vault_fields.runtime.frames import forgetful
from vault_fields.text.placeholders import is_placeholder

__all__ = ["WebhookSettings", "webhook_settings"]

# The tolerance of the official SDKs.
TOLERANCE = 180
# A short secret could be guessed, offline, by anyone who has seen one webhook.
MIN_SECRET_LENGTH = 16


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """
    The validated setting.

    ``secrets`` are the endpoint's secrets, two while one replaces the other. ``item_name`` is the name in key contexts
    whose value is the organization's id. ``tolerance`` is how many seconds old a signature may be. ``cache`` is the
    alias in ``CACHES`` of the cache that remembers the ids of events, which all processes should share.
    """

    secrets: tuple[str, ...] = field(repr=False)
    item_name: str
    tolerance: int
    cache: str

    def remembered(self) -> BaseCache:
        return caches[self.cache]


@forgetful
def webhook_settings() -> WebhookSettings:
    """Return the setting. Raises ``ImproperlyConfigured``, which never quotes a secret."""
    setting = getattr(settings, "VAULT_WEBHOOKS", None)
    if not isinstance(setting, Mapping) or not set(setting) <= {"secrets", "item_name", "tolerance", "cache"}:
        raise _misconfigured("must be a dict of secrets, item_name, tolerance and cache; secrets is required.")
    secrets = setting.get("secrets")
    if not isinstance(secrets, list | tuple) or not secrets or not all(map(_is_secret, secrets)):
        raise _misconfigured(f"secrets must be a list of secrets, of at least {MIN_SECRET_LENGTH} characters each.")
    if any(map(is_placeholder, secrets)):
        raise _misconfigured("one of secrets is a placeholder, as in an example: anybody can guess it.")
    item_name = setting.get("item_name", "organization_id")
    if not isinstance(item_name, str) or not 1 <= len(item_name) <= MAX_NAME_LENGTH:
        raise _misconfigured("item_name must be the name of an item of key contexts.")
    tolerance = setting.get("tolerance", TOLERANCE)
    if not isinstance(tolerance, int) or isinstance(tolerance, bool) or not 1 <= tolerance <= 3600:
        raise _misconfigured("tolerance must be 1 to 3600 seconds.")
    cache = setting.get("cache", "default")
    if cache not in settings.CACHES:
        raise _misconfigured("cache must be an alias in CACHES.")
    return WebhookSettings(tuple(secrets), item_name, tolerance, cache)


def _is_secret(secret: Any) -> bool:
    return isinstance(secret, str) and len(secret) >= MIN_SECRET_LENGTH


def _misconfigured(reason: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"VAULT_WEBHOOKS: {reason}")
