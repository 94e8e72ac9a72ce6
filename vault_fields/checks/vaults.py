"""The checks of ``settings.VAULTS``. They build the vaults, which needs no I/O, and call none."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from vault_fields.checks.models import models_of
from vault_fields.fields.groups import encrypted_fields
from vault_fields.vaults import vaults

__all__ = ["check_vaults"]


def check_vaults(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    fields = [field for model in models_of(app_configs) for field in encrypted_fields(model)]
    try:
        aliases = list(vaults)
    except ImproperlyConfigured as error:
        # A project that encrypts nothing yet needs no vault.
        return [_unusable(error)] if fields else []
    messages: list[CheckMessage] = []
    for alias in aliases:
        try:
            vaults.writer(alias)
            if not vaults.is_left(alias):
                vaults[alias]
        except ImproperlyConfigured as error:
            messages.append(_unusable(error))
    known = ", ".join(map(repr, aliases)) or "none"
    messages += [
        Error(
            f"Its vault is {field.vault!r}, which VAULTS does not have.",
            hint=f"Add {field.vault!r} to VAULTS, or write vault= with one that it has: {known}.",
            obj=field,
            id="vault_fields.E020",
        )
        for field in fields
        if field.vault not in aliases
    ]
    return messages


def _unusable(error: ImproperlyConfigured) -> CheckMessage:
    return Error(str(error).rstrip(), hint="Correct VAULTS in the settings module.", id="vault_fields.E019")
