"""
Values that return as they were stored: from a fixture, a revision, a draft, a dump of a tree.

A text that ``value_to_string`` wrote is recognised where it is assigned: by itself, if it carries its companion, or
together with the companion, in either order. It is then the former value, and no text. Nothing vouches for an assigned
value: it opens for the columns that the row has in memory, and never for those of a stored row with the same primary
key. An envelope that is assigned alone, as a form would, is not recognised and is refused when it is saved.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import Model

from vault_fields.fields.groups import encrypted_fields
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.sealed import Brought, Pending, Sealed
from vault_fields.stored import envelope as envelope_format

__all__ = ["brought", "companion_assigned", "forget_assigned", "members_of", "portable", "reloading"]

# The companions of a row that were assigned since it was read, or sealed; and whether it is being read.
_ASSIGNED = "vault_fields_assigned"
_RELOADING = "vault_fields_reloading"


def portable(text: str, keys: str | None) -> str:
    """
    Return a value together with its companion, for callers that store one field by itself.

    The companion is a JSON object, and no envelope has a brace.
    """
    return f"{text}{keys}" if keys and envelope_format.is_envelope(text) else text


def members_of(model: type[Model], companion: str) -> tuple[Encrypted, ...]:
    """Return the fields whose values a companion is for."""
    return tuple(field for field in encrypted_fields(model) if field.companion_name == companion)


def brought(field: Encrypted, instance: Model, value: Any) -> Sealed | None:
    """Return the sealed value that is assigned with this text, if it was stored as one."""
    if not isinstance(value, str) or not envelope_format.is_envelope(value := field.stored_text(value)):
        return None
    text, brace, keys = value.partition("{")
    if brace:
        return Brought(text, brace + keys)
    data = instance.__dict__
    held = _sealed(data.get(field.attname))
    if held is not None and held.text == text:
        return held
    companion = data.get(field.companion_name)
    if companion and _is_assigned(instance, field, companion):
        return Brought(text, companion)
    return None


def companion_assigned(instance: Model, name: str, members: Iterable[Encrypted], *, is_new: bool) -> None:
    """Recognise the values that were assigned before their companion. ``is_new`` says that the row had none."""
    state = instance._state
    if hasattr(state, _RELOADING):
        return
    if not is_new:
        setattr(state, _ASSIGNED, getattr(state, _ASSIGNED, frozenset()) | {name})
    elif not state.adding:
        return  # The companion was deferred, and is loaded now for rows that were read together.
    data = instance.__dict__
    for member in members:
        held = data.get(member.attname)
        text = member.stored_text(held.value) if isinstance(held, Pending) and isinstance(held.value, str) else ""
        if envelope_format.is_envelope(text):
            data[member.attname] = Brought(text, data[name])


@contextmanager
def reloading(instance: Model) -> Iterator[None]:
    """Treat values that are set within the block as read, not as assigned."""
    state = vars(instance._state)
    state[_RELOADING] = True
    try:
        yield
    finally:
        state.pop(_RELOADING, None)
        state.pop(_ASSIGNED, None)


def forget_assigned(instance: Model) -> None:
    """Treat the companions of a row as those of its values from now on."""
    vars(instance._state).pop(_ASSIGNED, None)


def _is_assigned(instance: Model, field: Encrypted, companion: str) -> bool:
    if field.companion_name in getattr(instance._state, _ASSIGNED, ()):
        return True
    # Everything in a new row was assigned, except what was sealed for it before it could be saved.
    held = [_sealed(instance.__dict__.get(member.attname)) for member in members_of(field.model, field.companion_name)]
    return instance._state.adding and all(sealed is None or isinstance(sealed, Brought) for sealed in held)


def _sealed(held: Any) -> Sealed | None:
    if isinstance(held, Pending):
        held = held.previous
    return held if isinstance(held, Sealed) else None
