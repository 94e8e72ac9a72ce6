"""The places from which a reader takes its keys: the name of a setting or of a function. Never the keys themselves."""

import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

__all__ = ["Source", "require_function", "require_source", "secret", "secrets"]

# The name of a setting, or a function without arguments that is importable by its name.
Source = str | Callable[[], Any]

# Longer ones are no names, but keys in hexadecimal. Whether the setting is there is asked when it is needed: an old
# migration is imported long after the old library and its keys are gone.
_SETTING = re.compile(r"[A-Z][A-Z0-9_]{2,49}")


def require_source(option: str, source: Source) -> Source:
    """Raise ``ImproperlyConfigured`` for anything that a migration would have to hold, such as a key."""
    if isinstance(source, str):
        if not _SETTING.fullmatch(source):
            # Not shown: it may be a key.
            raise ImproperlyConfigured(
                f"{option} is not the name of a setting. It is one, or a function; a key itself would be written into "
                "the migration."
            )
        return source
    require_function(option, source)
    return source


def require_function(option: str, function: object) -> None:
    """Raise ``ImproperlyConfigured`` for a function that a migration cannot name."""
    if not isinstance(function, FunctionType) or "<" in function.__qualname__:
        raise ImproperlyConfigured(f"{option} is a function at the top of a module, which the migration can import.")


def secrets(source: Source) -> list[Any]:
    """Return the keys that a setting or a function has: one, or a list of them. Raises ``ImproperlyConfigured``."""
    value = getattr(settings, source, None) if isinstance(source, str) else source()
    several = list(value) if isinstance(value, (list, tuple)) else [value]
    if not several or not all(several):
        name = f"The setting {source}" if isinstance(source, str) else f"{source.__module__}.{source.__qualname__}()"
        raise ImproperlyConfigured(f"{name} has no key to read the old column with.")
    return several


def secret(source: Source) -> Any:
    """Return the first of these keys, for libraries that have one."""
    return secrets(source)[0]
