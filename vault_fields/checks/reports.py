"""The check of the settings that Django's error reports show."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.core.checks import CheckMessage, Warning as CheckWarning
from django.views.debug import get_default_exception_reporter_filter

__all__ = ["check_reports"]

_SECRET_OPTIONS = ("api_key", "former_root_keys", "root_key", "secret_id", "token")


def check_reports() -> Iterator[CheckMessage]:
    secrets = {spelled for secret in _secrets() for spelled in (secret, quote(secret, safe=""))}
    for name, value in get_default_exception_reporter_filter().get_safe_settings().items():
        if any(secret in text for text in _texts(value) for secret in secrets):
            yield CheckWarning(
                f"The setting {name} holds a key that is among the OPTIONS of VAULTS, and Django's error reports show "
                "it: with DEBUG on a page, otherwise in mails.",
                hint='Write DEFAULT_EXCEPTION_REPORTER_FILTER = "vault_fields.reporting.ReporterFilter", or keep the '
                'key in no setting but VAULTS: vault_config(env("VAULT_URL")).',
                id="vault_fields.W022",
            )


def _secrets() -> Iterator[str]:
    configured = getattr(settings, "VAULTS", None)
    for entry in configured.values() if isinstance(configured, Mapping) else ():
        options = entry.get("OPTIONS") if isinstance(entry, Mapping) else None
        if isinstance(options, Mapping):
            yield from (text for name in _SECRET_OPTIONS for text in _texts(options.get(name)) if text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _texts(each)
