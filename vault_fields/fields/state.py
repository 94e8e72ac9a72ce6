"""The state of one row's encrypted fields that share a companion: values, companion, and columns of the context."""

from typing import Any, TypeGuard

from django.db.models import Model

from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.bindings import Binding, attribute_text
from vault_fields.fields.groups import Group
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.sealed import Brought, Opened, Pending, Sealed
from vault_fields.stored import companion as companion_format, envelope as envelope_format
from vault_fields.stored.companion import Companion

__all__ = ["GroupState", "is_encrypted"]


class GroupState:
    """
    An instance's content for one group, and what it needs before it is written.

    Decided from memory, without the Vault and the database. It keeps no value itself: the present content of the
    instance counts.
    """

    __slots__ = ("data", "group", "instance")

    def __init__(self, instance: Model, group: Group) -> None:
        self.instance = instance
        self.group = group
        self.data = instance.__dict__

    # The companion.

    @property
    def companion(self) -> Companion | None:
        """The companion that the row's values were last sealed with, if it can be read."""
        text = self.companion_text
        return companion_format.decode(text) if text else None

    @property
    def companion_text(self) -> str | None:
        """The text of that companion. For a value that was assigned, the one of the value it replaces."""
        for member in self.group.members:
            held = self.data.get(member.attname)
            if isinstance(held, Pending):
                held = held.previous
            if is_encrypted(held):
                text = self.beside(held)
                return text if text and _is_readable(text) else None
        return None

    @property
    def written_companion(self) -> str | None:
        """The text to write beside the content of the instance: that of its sealed values, if it has any."""
        for member in self.group.members:
            held = self.data.get(member.attname)
            if is_encrypted(held):
                return self.beside(held)
        return None

    def beside(self, held: Sealed) -> str | None:
        """Return the companion's text that was read, or made, together with a value."""
        return held.keys if held.keys is not None else self.data.get(self.group.companion)

    # The columns.

    def changed_columns(self) -> list[Binding]:
        """Return the row's columns that differ in memory from those for which its values were sealed."""
        companion = self.companion
        if companion is None:
            return []
        data = self.data
        changed = [
            binding
            for binding in self.group.bindings
            if binding.attname in data and companion.row.get(binding.name) != binding.text(data[binding.attname])
        ]
        for member in self.group.members:
            changed += self.rebound_columns(member)
        return changed

    def rebound_columns(self, member: Encrypted) -> list[Binding]:
        """Return the columns of ``bind_to`` that were changed since they were read, or sealed, with the value."""
        bound = self.group.bound[member.name]
        held = self.data.get(member.attname)
        if not bound or not is_encrypted(held) or held.values is None:
            return []
        data = self.data
        return [
            binding
            for binding, value in zip(bound, held.values[len(self.group.bindings) :], strict=True)
            if binding.attname in data
            and binding.text(data[binding.attname]) != (None if value is None else attribute_text(value))
        ]

    # Whether it has to be sealed.

    @property
    def is_sealed(self) -> bool:
        """Whether everything in the group was sealed a moment ago, or is NULL. Cheap."""
        data = self.data
        for member in self.group.members:
            held = data.get(member.attname, self)
            if held is not None and (not isinstance(held, Sealed) or held.loaded or isinstance(held, Brought)):
                return False
        return True

    @property
    def must_be_sealed(self) -> bool:
        """Whether a member was assigned, changed in place or never encrypted, or the row's context columns changed."""
        texts = set()
        for member in self.group.members:
            held = self.data.get(member.attname)
            if self.is_dirty(member, held):
                return True
            if is_encrypted(held):
                texts.add(self.beside(held))
        # Members that were loaded at different times may have been re-encrypted in between.
        return len(texts) > 1 or bool(self.changed_columns()) or self._is_elsewhere()

    def is_dirty(self, member: Encrypted, held: Any) -> bool:
        """Whether one value is not the sealed one that may be written as it is."""
        if isinstance(held, Pending):
            return not _is_unchanged(held)
        if isinstance(held, Brought):
            return True  # Nothing vouches for it, unless it was compared and replaced before.
        if isinstance(held, Sealed):
            return held.is_changed or not (member.writes_plaintext or is_encrypted(held))
        return False

    def _is_elsewhere(self) -> bool:
        """Whether the row is about to be written to another place than it was sealed for, such as another schema."""
        outside = self.group.source.outside
        if not outside or (companion := self.companion) is None:
            return False
        return any(companion.context.get(name) != value for name, value in self.group.source.now_outside().items())

    # Assigned values that equal the stored ones.

    def settle(self) -> None:
        """Replace assigned values that equal the stored ones by the sealed values that they took the place of."""
        self.settle_unchanged()
        for member in self.group.members:
            held = self.data.get(member.attname)
            if isinstance(held, Brought) and (values := self._matching_values(member, held)):
                self.data[member.attname] = Sealed(held.text, held.keys, values, None, held.opened)

    def settle_unchanged(self) -> None:
        """Replace a value that was assigned again unchanged, as forms do, by the sealed value it took the place of."""
        for member in self.group.members:
            held = self.data.get(member.attname)
            if isinstance(held, Pending) and held.previous is not None and _is_unchanged(held):
                # Keep the assigned value, not its equal: if it is mutable, the caller may go on to change it.
                opened = Opened(held.value, member.to_plaintext(held.value), member.to_plaintext)
                self.data[member.attname] = held.previous.with_opened(opened)

    def _matching_values(self, member: Encrypted, held: Brought) -> tuple[str | None, ...] | None:
        """Return the columns of the row, if a brought value was sealed for them: then it can be written as it is."""
        # The columns of ``bind_to`` are not in the companion: only opening the value tells.
        if self.group.bound[member.name] or not held.keys or not _is_readable(held.keys):
            return None
        row = {binding.name: binding.text(getattr(self.instance, binding.attname)) for binding in self.group.bindings}
        if companion_format.decode(held.keys).row != row:
            return None
        return tuple(row.values())


def is_encrypted(held: Any) -> TypeGuard[Sealed]:
    """Whether this is a sealed value, and not one that was stored in the clear."""
    return isinstance(held, Sealed) and envelope_format.is_envelope(held.text)


def _is_unchanged(pending: Pending) -> bool:
    """Whether the same value was assigned again. Does not call the Vault."""
    previous = pending.previous
    if not is_encrypted(previous) or previous.opened is None:
        return False
    value = pending.value
    return not hasattr(value, "resolve_expression") and previous.opened.is_text_of(value)


def _is_readable(text: str) -> bool:
    try:
        companion_format.decode(text)
    except EnvelopeError:
        # A value that is opened with it reports that. It must not keep its replacement from being written.
        return False
    return True
