"""
Values that come back as they were stored: from a fixture, a revision, a draft, a dump of a tree.

What ``value_to_string`` wrote is recognised where it is assigned: by itself, if it carries its companion, or together
with the companion, in either order. It then is the value that it was, and no text. Nobody vouches for what is
assigned: it opens for the columns that the row has in memory, and never for those of a stored row with the same
primary key. An envelope that is assigned alone, as a form would, is recognised by nobody and refused when it is saved.
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

# Which companions of a row were assigned since it was read, or sealed; and whether it is being read.
_ASSIGNED = "vault_fields_assigned"
_RELOADING = "vault_fields_reloading"


def portable(text: str, keys: str | None) -> str:
    """
    A value together with its companion, for those who store one field by itself.

    The companion is a JSON object, and no envelope has a brace.
    """
    return f"{text}{keys}" if keys and envelope_format.is_envelope(text) else text


def members_of(model: type[Model], companion: str) -> tuple[Encrypted, ...]:
    """The fields whose values a companion is for."""
    return tuple(field for field in encrypted_fields(model) if field.companion_name == companion)


def brought(field: Encrypted, instance: Model, value: Any) -> Sealed | None:
    """The sealed value that is assigned with this text, if it is one that was stored."""
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
        return  # It was deferred, and peers that were read together load it now.
    data = instance.__dict__
    for member in members:
        held = data.get(member.attname)
        text = member.stored_text(held.value) if isinstance(held, Pending) and isinstance(held.value, str) else ""
        if envelope_format.is_envelope(text):
            data[member.attname] = Brought(text, data[name])


@contextmanager
def reloading(instance: Model) -> Iterator[None]:
    """What is set meanwhile was not assigned by anybody."""
    state = vars(instance._state)
    state[_RELOADING] = True
    try:
        yield
    finally:
        state.pop(_RELOADING, None)
        state.pop(_ASSIGNED, None)


def forget_assigned(instance: Model) -> None:
    """The companions of a row are those that belong to its values, from now on."""
    vars(instance._state).pop(_ASSIGNED, None)


def _is_assigned(instance: Model, field: Encrypted, companion: str) -> bool:
    if field.companion_name in getattr(instance._state, _ASSIGNED, ()):
        return True
    # A new row has nothing that was not assigned, but for what was sealed for it before it could be saved.
    held = [_sealed(instance.__dict__.get(member.attname)) for member in members_of(field.model, field.companion_name)]
    return instance._state.adding and all(sealed is None or isinstance(sealed, Brought) for sealed in held)


def _sealed(held: Any) -> Sealed | None:
    if isinstance(held, Pending):
        held = held.previous
    return held if isinstance(held, Sealed) else None
