"""The checks of ``manage.py check --deploy``: settings that suit development, and not production."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured

from vault_fields.backends.base import BaseVault
from vault_fields.backends.local import LocalVault
from vault_fields.backends.memory import InMemoryVault
from vault_fields.checks.keystores import check_keystore
from vault_fields.checks.models import models_of
from vault_fields.checks.reports import check_reports
from vault_fields.embedded.managed.rootkey import ENVIRONMENT_VARIABLE
from vault_fields.fields.groups import encrypted_fields
from vault_fields.fields.interface import Encrypted
from vault_fields.vaults import vaults

__all__ = ["check_deployment"]


def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    messages = [message for vault in _usable_vaults() for message in _check_vault(vault)]
    for model in models_of(app_configs):
        for field in encrypted_fields(model):
            messages.extend(_check_migrating(field))
    return [*messages, *check_reports()]


def _usable_vaults() -> Iterator[BaseVault]:
    try:
        aliases = list(vaults)
    except ImproperlyConfigured:
        return  # E019 reports it.
    for alias in aliases:
        try:
            vault = vaults[alias]
        except ImproperlyConfigured:
            continue  # E019 reports it.
        yield vault


def _check_vault(vault: BaseVault) -> Iterator[CheckMessage]:
    if isinstance(vault, LocalVault) and vault.uses_development_key:
        yield Error(
            f"VAULTS[{vault.alias!r}] has no root key. It uses a development key, which lies beside the keystore: "
            "anyone who can copy one can copy both.",
            hint="Type `python manage.py vault_root_key` and put what it prints into the environment variable "
            f"{ENVIRONMENT_VARIABLE}.",
            id="vault_fields.E023",
        )
    if isinstance(vault, LocalVault):
        yield from check_keystore(vault)
    if isinstance(vault, InMemoryVault):
        yield Error(
            f"VAULTS[{vault.alias!r}] is an InMemoryVault. Its keys end with the process, and what they encrypted is "
            "lost.",
            hint='Write "BACKEND": "vault_fields.backends.local.LocalVault" with "OPTIONS": {"path": ...}, or name '
            "another backend.",
            id="vault_fields.E024",
        )


def _check_migrating(field: Encrypted) -> Iterator[CheckMessage]:
    if field.migrating:
        yield CheckWarning(
            f"It still has migrating={field.migrating!r}, so anyone who can write to the database can put a value "
            "there that was never encrypted.",
            hint=f"Once every row is encrypted, take migrating={field.migrating!r} away and type "
            "`python manage.py makemigrations`."
            if not field.writes_plaintext
            else "New values are stored in the clear. Once every process runs this code, write migrating=True and type "
            "`python manage.py makemigrations`.",
            obj=field,
            id="vault_fields.W003",
        )
