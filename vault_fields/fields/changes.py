"""What of a row has to be sealed before it is written: told from memory alone, without the Vault and the database."""

from typing import Any, TypeGuard

from django.db.models import Model

from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.context import Binding, attribute_text
from vault_fields.fields.groups import Group
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.sealed import Brought, Opened, Pending, Sealed
from vault_fields.stored import companion as companion_format, envelope as envelope_format

__all__ = [
    "changed_columns",
    "current_keys",
    "has_companion",
    "is_dirty",
    "is_encrypted",
    "keys_beside",
    "needs_sealing",
]
__all__ += ["rebound_columns", "settle", "settle_unchanged"]


def needs_sealing(instance: Model, group: Group) -> bool:
    """Whether a member was assigned, changed in place or never encrypted, or the row's context columns changed."""
    held = [instance.__dict__.get(member.attname) for member in group.members]
    if any(map(is_dirty, group.members, held)):
        return True
    # Members that were loaded at different times may have been re-encrypted in between.
    texts = {keys_beside(instance, group, value) for value in held if is_encrypted(value)}
    return len(texts) > 1 or bool(changed_columns(instance, group)) or _is_elsewhere(instance, group)


def _is_elsewhere(instance: Model, group: Group) -> bool:
    """Whether the row is about to be written in another place than it was sealed for, such as another schema."""
    text = current_keys(instance, group) if group.source.outside else None
    if not text:
        return False
    context = companion_format.decode(text).context
    return any(context.get(name) != value for name, value in group.source.now_outside().items())


def has_companion(instance: Model, group: Group) -> bool:
    """Whether the row holds, or held until it was assigned, a value that was sealed before."""
    return bool(current_keys(instance, group))


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


def rebound_columns(instance: Model, group: Group, member: Encrypted) -> list[Binding]:
    """The columns of ``bind_to`` that were changed since they were read, or sealed, with the value."""
    held = instance.__dict__.get(member.attname)
    if not group.bound[member.name] or not is_encrypted(held) or held.values is None:
        return []
    data = instance.__dict__
    return [
        binding
        for binding, value in zip(group.bound[member.name], held.values[len(group.bindings) :], strict=True)
        if binding.attname in data
        and binding.text(data[binding.attname]) != (None if value is None else attribute_text(value))
    ]


def settle(instance: Model, group: Group) -> None:
    """Let what was assigned and is the value that stands there be the sealed one that it takes the place of."""
    settle_unchanged(instance, group)
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        if isinstance(held, Brought) and (values := _matching_values(instance, group, member, held)):
            instance.__dict__[member.attname] = Sealed(held.text, held.keys, values, None, held.opened)


def settle_unchanged(instance: Model, group: Group) -> None:
    """Let a value that was assigned again unchanged, as forms do, be the sealed one that it takes the place of."""
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        if isinstance(held, Pending) and held.previous is not None and _is_unchanged(held):
            # The value that was assigned, not its equal: if it is mutable, the caller may go on to change it.
            opened = Opened(held.value, member.to_plaintext(held.value), member.to_plaintext)
            instance.__dict__[member.attname] = held.previous.with_opened(opened)


def _matching_values(instance: Model, group: Group, member: Encrypted, held: Brought) -> tuple[str | None, ...] | None:
    """The columns of the row, if a value that was brought was sealed for them: then it can be written as it is."""
    # What it is tied to besides, only opening it tells.
    if group.bound[member.name] or not held.keys or not _is_readable(held.keys):
        return None
    row = {binding.name: binding.text(getattr(instance, binding.attname)) for binding in group.bindings}
    if companion_format.decode(held.keys).row != row:
        return None
    return tuple(row.values())


def is_dirty(member: Encrypted, held: Any) -> bool:
    if isinstance(held, Pending):
        return not _is_unchanged(held)
    if isinstance(held, Brought):
        return True  # Nobody vouches for it, unless it was settled.
    if isinstance(held, Sealed):
        return held.is_changed or not (member.writes_plaintext or is_encrypted(held))
    return False


def is_encrypted(held: Any) -> TypeGuard[Sealed]:
    return isinstance(held, Sealed) and envelope_format.is_envelope(held.text)


def _is_unchanged(pending: Pending) -> bool:
    """Whether the same value was assigned again; told without asking the Vault."""
    previous = pending.previous
    if not is_encrypted(previous) or previous.opened is None:
        return False
    value = pending.value
    return not hasattr(value, "resolve_expression") and previous.opened.is_text_of(value)


def current_keys(instance: Model, group: Group) -> str | None:
    """The text of the companion that the row's values were last sealed with, if it can be read."""
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        if isinstance(held, Pending):
            held = held.previous
        if is_encrypted(held):
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
