"""
``settings.VAULT_SERVER``: which vault the URLs serve, and to whom.

    VAULT_SERVER = {"vault": "default", "bearer_sha256": ["9f86d081884c7d65…"]}
"""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.service import EmbeddedVault
from vault_fields.server.bearers import Bearers
from vault_fields.server.face import Face
from vault_fields.vaults import DEFAULT_VAULT_ALIAS, vaults

__all__ = ["configured_bearers", "configured_face", "served_vault"]


def configured_face() -> Face:
    """The face that the setting describes, built anew for each request: vaults may be replaced under their alias."""
    bearers = configured_bearers()
    if bearers is None:
        raise ImproperlyConfigured("VAULT_SERVER: bearer_sha256 is missing; without it nobody may call.")
    return Face(served_vault(), bearers)


def configured_bearers() -> Bearers | None:
    """The bearers of the setting; None if it names none."""
    hashes = _setting().get("bearer_sha256")
    if not hashes:
        return None
    if not isinstance(hashes, list | tuple):
        raise ImproperlyConfigured("VAULT_SERVER: bearer_sha256 must be a list.")
    try:
        return Bearers(hashes)
    except ValueError as error:
        raise ImproperlyConfigured(f"VAULT_SERVER: bearer_sha256: {error}") from None


def served_vault(alias: str | None = None) -> EmbeddedVault:
    """The embedded Vault behind an alias, by default that of the setting."""
    alias = alias or _setting().get("vault", DEFAULT_VAULT_ALIAS)
    backend = vaults[alias]
    if not isinstance(backend, EmbeddedBackend):
        raise ImproperlyConfigured(
            f"VAULT_SERVER: only an embedded vault can be served, and {alias!r} is a {type(backend).__name__}."
        )
    return backend.service


def _setting() -> Mapping[str, Any]:
    setting = getattr(settings, "VAULT_SERVER", {})
    if not isinstance(setting, Mapping):
        raise ImproperlyConfigured("VAULT_SERVER: must be a dict.")
    if unknown := set(setting) - {"bearer_sha256", "vault"}:
        raise ImproperlyConfigured(f"VAULT_SERVER: unknown keys: {', '.join(sorted(map(str, unknown)))}.")
    return setting
