"""The settings of a provider: names and texts, all known, none of them secret."""

from collections.abc import Collection, Mapping
from typing import Any

from vault_fields.text.encoding import compact_json
from vault_fields.text.naming import names

__all__ = ["associated_data", "checked"]

MAX_LENGTH = 2048


def checked(
    settings: Mapping[str, Any], *, required: Collection[str], optional: Collection[str] = ()
) -> dict[str, str]:
    """
    Return the settings. Raises ``ValueError``. Values are not quoted: one may be a secret that does not belong there.
    """
    if missing := sorted(set(required) - set(settings)):
        raise ValueError(f"settings are missing: {', '.join(missing)}.")
    if unknown := sorted(set(settings) - set(required) - set(optional)):
        # A name that is no word may be a secret: base64 has an equals sign at its end.
        raise ValueError(f"unknown settings: {names(unknown)}. There are: {', '.join([*required, *optional])}.")
    for name, value in settings.items():
        if not isinstance(value, str) or not value or len(value) > MAX_LENGTH or not value.isprintable():
            raise ValueError(f"{name} must be a text of 1 to {MAX_LENGTH} printable characters.")
    return dict(settings)


def associated_data(binding: Mapping[str, str]) -> bytes:
    """Return the one byte string for a binding, for providers that authenticate bytes."""
    return compact_json(dict(sorted(binding.items()))).encode()
