"""A guard around checks: one that fails reports that in a message of its own, and the others still run."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning as CheckWarning

__all__ = ["guarded"]


def guarded(check: Callable[[Any], Iterable[CheckMessage]], subject: Any, name: str) -> Iterator[CheckMessage]:
    """Yield the messages of ``check`` about ``subject``, a class of the project that may be unusual in any way."""
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
