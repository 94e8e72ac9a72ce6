"""The check of the methods of Django that this package wraps and calls."""

from collections.abc import Sequence
from typing import Any

import django
from django.apps import AppConfig
from django.core.checks import CheckMessage, Error

from vault_fields.patches import differences

__all__ = ["check_installed"]


def check_installed(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [
        Error(
            f"Django {django.get_version()} is not as this release of vault_fields knows it: {problem}.",
            hint="Upgrade django-vault-fields, or use a Django that it supports. If other code has replaced the "
            "method, let it take the same parameters. Nothing is encrypted until then.",
            id="vault_fields.E032",
        )
        for problem in differences()
    ]
