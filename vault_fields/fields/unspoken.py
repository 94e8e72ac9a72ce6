"""Validation errors that do not repeat the value that they are about."""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy

__all__ = ["without_value"]

# Django's own words, which it has in all languages.
_INVALID = gettext_lazy("Enter a valid value.")


def without_value(error: ValidationError, value: Any) -> ValidationError:
    """Return the same error without the value among its parameters, in other words if its own need the value."""
    errors = [_without(each, value) for each in error.error_list]
    return errors[0] if len(errors) == 1 else ValidationError(errors)


def _without(error: ValidationError, value: Any) -> ValidationError:
    params = {name: each for name, each in (error.params or {}).items() if name != "value" and not _is_it(each, value)}
    message = error.message
    try:
        needs_value = "%(value)" in str(message) if not error.params else not message % params
    except (KeyError, TypeError, ValueError):
        needs_value = True
    return ValidationError(_INVALID if needs_value else message, code=error.code, params=params or None)


def _is_it(param: Any, value: Any) -> bool:
    """Whether a parameter is the value, as that of a validator that shows what it compared."""
    return param is value or (type(param) is type(value) and bool(param == value))
