"""
``settings.VAULT_SERVER``: which vault is served, and to whom.

    VAULT_SERVER = {
        "vault": "default",
        "keys": [{"name": "Billing", "environment": "production", "sha256": "HASH, AS vault_api_key PRINTS IT"}],
        "record_key_events": True,
    }

``"bearer_sha256": ["HASH, AS vault_api_key PRINTS IT"]`` is short for keys without a name in the environment
``default``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys
from vault_fields.text.naming import names
from vault_fields.vaults import DEFAULT_VAULT_ALIAS, vaults

__all__ = ["api_for", "configured_api", "configured_api_keys", "configured_environments", "served_vault"]

_KEYS = frozenset({"bearer_sha256", "keys", "record_key_events", "vault"})


# The setting that was read last, and its keys: a thousand of them take milliseconds to validate.
_last_read: list[tuple[object, ApiKeys]] = []


def configured_api() -> VaultApi:
    """
    Return the API that the setting describes, built anew for each request: vaults may be replaced under their alias.

    Its API keys are read once. After a key is removed from the same dictionary, the process must be restarted, as with
    every setting.
    """
    setting = getattr(settings, "VAULT_SERVER", None)
    api_keys = next((api_keys for read, api_keys in _last_read if read is setting), None)
    if api_keys is None:
        api_keys = configured_api_keys()
        if api_keys is None:
            raise ImproperlyConfigured(
                "VAULT_SERVER: keys and bearer_sha256 are missing; without them nobody may call."
            )
        _last_read[:] = [(setting, api_keys)]
    return api_for(served_vault(), api_keys)


def api_for(vault: EmbeddedVault, api_keys: ApiKeys) -> VaultApi:
    """Return an API for these, and with everything else as the setting says."""
    record_key_events = _setting().get("record_key_events", True)
    if not isinstance(record_key_events, bool):
        raise ImproperlyConfigured("VAULT_SERVER: record_key_events must be True or False.")
    return VaultApi(vault, api_keys, record_key_events=record_key_events)


def configured_api_keys() -> ApiKeys | None:
    """Return the API keys of the setting; None if it names none."""
    keys = [*_api_keys(_setting())]
    if not keys:
        return None
    try:
        return ApiKeys(keys)
    except ValueError as error:
        raise ImproperlyConfigured(f"VAULT_SERVER: {error}") from None


def configured_environments() -> frozenset[str]:
    """Return the environments of the API keys of the setting, without validating the keys."""
    entries = [entry for entry in _list(_setting(), "keys") if isinstance(entry, Mapping)]
    return frozenset(name for entry in entries if isinstance(name := entry.get("environment"), str))


def served_vault(alias: str | None = None) -> EmbeddedVault:
    """Return the embedded Vault behind an alias, by default that of the setting."""
    alias = alias or _setting().get("vault", DEFAULT_VAULT_ALIAS)
    backend = vaults[alias]
    if not isinstance(backend, EmbeddedBackend):
        raise ImproperlyConfigured(
            f"VAULT_SERVER: only an embedded vault can be served, and {alias!r} is a {type(backend).__name__}."
        )
    return backend.service


def _api_keys(setting: Mapping[str, Any]) -> Iterator[ApiKey]:
    for sha256 in _list(setting, "bearer_sha256"):
        yield _api_key("bearer_sha256", {"sha256": sha256})
    for number, entry in enumerate(_list(setting, "keys")):
        where = f"keys[{number}]"
        if not isinstance(entry, Mapping) or not {"name", "environment", "sha256"} == set(entry):
            # The value is not shown: it may be a key.
            raise ImproperlyConfigured(f"VAULT_SERVER: {where} must be a dict of name, environment and sha256.")
        yield _api_key(where, entry)


def _api_key(where: str, entry: Mapping[str, Any]) -> ApiKey:
    try:
        return ApiKey(**entry)
    except ValueError as error:
        raise ImproperlyConfigured(f"VAULT_SERVER: {where}: {error}") from None


def _list(setting: Mapping[str, Any], name: str) -> list[Any] | tuple[Any, ...]:
    found = setting.get(name, [])
    if not isinstance(found, list | tuple):
        raise ImproperlyConfigured(f"VAULT_SERVER: {name} must be a list.")
    return found


def _setting() -> Mapping[str, Any]:
    setting = getattr(settings, "VAULT_SERVER", {})
    if not isinstance(setting, Mapping):
        raise ImproperlyConfigured("VAULT_SERVER: must be a dict.")
    if unknown := set(setting) - _KEYS:
        raise ImproperlyConfigured(f"VAULT_SERVER: unknown keys: {names(unknown)}.")
    return setting
