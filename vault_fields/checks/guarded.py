"""A check that fails says so in a message of its own, and takes no other check with it."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning as CheckWarning

__all__ = ["guarded"]


def guarded(check: Callable[[Any], Iterable[CheckMessage]], subject: Any, name: str) -> Iterator[CheckMessage]:
    """The messages of ``check`` about ``subject``, a class that is a project's own and may be odd in any way."""
    try:
        messages = list(check(subject))
    except Exception as error:  # noqa: BLE001 - the options that are looked at may be properties, and run anything.
        place = traceback.extract_tb(error.__traceback__)[-1]
        messages = [
            CheckWarning(
                f"{name} cannot be checked for encrypted fields: {type(error).__name__} at {place.filename}, line "
                f"{place.lineno}.",
                hint="Declare its options as Django documents them. If they are meant to be so, add "
                "'vault_fields.W014' to SILENCED_SYSTEM_CHECKS.",
                obj=subject if isinstance(subject, type) else type(subject),
                id="vault_fields.W014",
            )
        ]
    yield from messages
