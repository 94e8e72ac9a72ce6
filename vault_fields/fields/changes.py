"""What of a row has to be sealed before it is written: told from memory alone, without the Vault and the database."""

from typing import TYPE_CHECKING, Any

from django.db.models import Model

from vault_fields import companion as companion_format, envelope as envelope_format
from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.context import Binding, attribute_text
from vault_fields.fields.groups import Group
from vault_fields.fields.sealed import Opened, Pending, Sealed

if TYPE_CHECKING:
    from vault_fields.fields.base import EncryptedField

__all__ = [
    "changed_columns",
    "current_keys",
    "has_companion",
    "is_anchored",
    "is_dirty",
    "keys_beside",
    "needs_sealing",
]
__all__ += ["rebound_columns", "settle"]


def needs_sealing(instance: Model, group: Group) -> bool:
    """Whether a member was assigned, changed in place or never encrypted, or the row's context columns changed."""
    held = [instance.__dict__.get(member.attname) for member in group.members]
    if any(map(is_dirty, held)):
        return True
    # Members that were loaded at different times may have been re-encrypted in between.
    texts = {keys_beside(instance, group, value) for value in held if isinstance(value, Sealed)}
    return len(texts) > 1 or bool(changed_columns(instance, group))


def has_companion(instance: Model, group: Group) -> bool:
    """Whether the row holds, or held until it was assigned, a value that was sealed before."""
    return bool(current_keys(instance, group))


def is_anchored(instance: Model, group: Group) -> bool:
    """Whether what the row holds was sealed for columns that are known to be stored."""
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        sealed = held.previous if isinstance(held, Pending) else held
        if isinstance(sealed, Sealed):
            return sealed.anchored
    return False


def changed_columns(instance: Model, group: Group) -> list[Binding]:
    """The row's columns that, as they are in memory, differ from those that its values were sealed for."""
    text = current_keys(instance, group)
    if not text:
        return []
    row = companion_format.decode(text).row
    data = instance.__dict__
    changed = [
        binding
        for binding in group.bindings
        if binding.attname in data and row.get(binding.name) != binding.text(data[binding.attname])
    ]
    for member in group.members:
        changed += rebound_columns(instance, group, member)
    return changed


def rebound_columns(instance: Model, group: Group, member: "EncryptedField") -> list[Binding]:
    """The columns of ``bind_to`` that were changed since they were read, or sealed, with the value."""
    held = instance.__dict__.get(member.attname)
    if not group.bound[member.name] or not isinstance(held, Sealed) or held.values is None:
        return []
    data = instance.__dict__
    return [
        binding
        for binding, value in zip(group.bound[member.name], held.values[len(group.bindings) :], strict=True)
        if binding.attname in data
        and binding.text(data[binding.attname]) != (None if value is None else attribute_text(value))
    ]


def settle(instance: Model, group: Group) -> None:
    """Let a value that was assigned again unchanged, as forms do, be the sealed one that it takes the place of."""
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        if isinstance(held, Pending) and held.previous is not None and _is_unchanged(held):
            # The value that was assigned, not its equal: if it is mutable, the caller may go on to change it.
            opened = Opened(held.value, member.to_plaintext(held.value), member.to_plaintext)
            instance.__dict__[member.attname] = held.previous.with_opened(opened)


def is_dirty(held: Any) -> bool:
    if isinstance(held, Pending):
        return not _is_unchanged(held)
    if isinstance(held, Sealed):
        return not envelope_format.is_envelope(held.text) or held.is_changed
    return False


def _is_unchanged(pending: Pending) -> bool:
    """Whether the same value was assigned again; told without asking the Vault."""
    previous = pending.previous
    if previous is None or previous.opened is None or not envelope_format.is_envelope(previous.text):
        return False
    value = pending.value
    return not hasattr(value, "resolve_expression") and previous.opened.is_text_of(value)


def current_keys(instance: Model, group: Group) -> str | None:
    """The text of the companion that the row's values were last sealed with, if it can be read."""
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        if isinstance(held, Pending):
            held = held.previous
        if isinstance(held, Sealed) and envelope_format.is_envelope(held.text):
            text = keys_beside(instance, group, held)
            return text if text and _is_readable(text) else None
    return None


def _is_readable(text: str) -> bool:
    try:
        companion_format.decode(text)
    except EnvelopeError:
        # A value that is opened with it says so; one that takes its place must not be kept from it.
        return False
    return True


def keys_beside(instance: Model, group: Group, held: Sealed) -> str | None:
    return held.keys if held.keys is not None else instance.__dict__.get(group.companion)
