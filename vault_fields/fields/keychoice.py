"""
The choice of the data key that seals the values of a row: its own, that of another companion of the row, or a new one.
"""

import copy
from collections.abc import Iterable, Sequence

from django.db.models import Model

from vault_fields.exceptions import DecryptionError, KeyContextError, KeyContextMismatch, VaultError, VaultRefused
from vault_fields.fields.batch import Batch
from vault_fields.fields.contextdrift import redirection
from vault_fields.fields.deriving import located_context
from vault_fields.fields.fetchmodes import fetched
from vault_fields.fields.groups import Group, all_groups_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import locate, located, open_sealed, proven_key
from vault_fields.fields.sealed import Opened, Sealed
from vault_fields.fields.state import GroupState, is_encrypted
from vault_fields.keys import DataKey, KeyContext
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion

__all__ = ["Work", "choose_keys"]


class Work(GroupState):
    """One group of one row that has to be sealed: its context, its members to seal, and its data key."""

    __slots__ = ("changed", "context", "keeps_key", "keys", "row", "vault")

    def __init__(self, instance: Model, group: Group) -> None:
        super().__init__(instance, group)
        self.changed: dict[Encrypted, Opened] = {}

    def plan(self, context: KeyContext, vault: str, *, follow: bool) -> None:
        """Read the row's columns, and tell whether its data key still serves for ``context``."""
        instance, group = self.instance, self.group
        self.context = context
        self.vault = vault
        try:
            self.row = {binding.name: binding.text(fetched(instance, binding.attname)) for binding in group.bindings}
        except KeyContextError as error:
            raise located_context(error, instance, group) from None
        # The companion's text as the row holds it, and whether its data key is kept.
        self.keys = self.companion_text
        self.keeps_key = False
        if self.keys:
            companion = companion_format.decode(self.keys)
            if not follow and (problem := redirection(group, companion, self.row, context)):
                raise KeyContextMismatch(f"{locate(group.members[0], instance)}: {problem}")
            self.keeps_key = self._serves(companion) and companion.row == self.row

    def old_keys(self, new_keys: NewKeys, groups: Iterable[Group]) -> str | None:
        """
        Return the companion whose data key stays in use, unless it is the row's turn to have a fresh one.

        ``groups`` are all of the row.
        """
        text = self.keys if self.keeps_key else self._sibling(groups)
        seals = len(self.changed if self.keeps_key else self.group.members)
        if text and new_keys.renews(self.instance, self.group, seals):
            self.keeps_key = False
            return None
        return text

    def stays(self, held: Sealed) -> bool:
        """Whether a sealed value may be written as it is."""
        return self.keeps_key and self.beside(held) == self.keys

    def members_that_stay(self) -> list[Encrypted]:
        """Return the members whose sealed values have not been opened so far."""
        return [
            member
            for member in self.group.members
            if member not in self.changed and is_encrypted(self.data.get(member.attname))
        ]

    def _serves(self, companion: Companion) -> bool:
        """Whether the data key of a companion is one for this context from this Vault."""
        return companion.context == self.context and companion.vault == self.vault

    def _sibling(self, groups: Iterable[Group]) -> str | None:
        """Return another companion of the same row for the same context: one data key serves a row's equal contexts."""
        for group in groups:
            if group is not self.group:
                text = GroupState(self.instance, group).companion_text
                if text and self._serves(companion_format.decode(text)):
                    return text
        return None


def choose_keys(works: Sequence[Work], new_keys: NewKeys) -> list[DataKey]:
    """
    Return the data key of each row.

    Keys that stay in use are unwrapped in one round with those of the values that have to be sealed again, which are
    opened here.
    """
    tables = {model: all_groups_of(model) for model in {type(work.instance) for work in works}}
    old_keys = [work.old_keys(new_keys, tables[type(work.instance)]) for work in works]
    batch = Batch([text for work, kept in zip(works, old_keys, strict=True) for text in (work.keys, kept)], hold=True)
    found: list[DataKey | None] = []
    for work, text in zip(works, old_keys, strict=True):
        _open_what_moves(work, batch)
        found.append(_old_key(work, text, batch) if text else None)
    missing = [work for work, key in zip(works, found, strict=True) if key is None]
    taken = iter(_new_keys(missing, new_keys))
    return [next(taken) if key is None else key for key in found]


def _open_what_moves(work: Work, batch: Batch) -> None:
    """Open the values that were sealed with another key, or for another row, than the group is going to have."""
    for member in work.group.members:
        held = work.data.get(member.attname)
        if is_encrypted(held) and member not in work.changed and not work.stays(held):
            again = Sealed(held.text, held.keys, held.values, batch, outside=held.outside)
            work.changed[member] = held.opened or open_sealed(member, again, work.instance)


def _old_key(work: Work, text: str, batch: Batch) -> DataKey | None:
    try:
        return proven_key(text, companion_format.decode(text), batch)
    except (DecryptionError, VaultRefused) as error:
        # Nothing needs a key that does not open if everything that it encrypts was assigned anew.
        if needing := work.members_that_stay():
            raise located(_with_advice(error, work, needing), work.group.members[0], work.instance) from None
        work.keeps_key = False
        return None
    except VaultError as error:
        raise located(error, work.group.members[0], work.instance) from None


def _with_advice(
    error: DecryptionError | VaultRefused, work: Work, needing: Sequence[Encrypted]
) -> DecryptionError | VaultRefused:
    """Return the same error, with the values of the row that stand in the way of a new data key."""
    names = ", ".join(member.name for member in needing)
    advised = copy.copy(error)
    advice = (
        f"{names} of the same row, which shares {work.group.companion!r}, is encrypted with this data key too: to "
        "replace the key, assign a new value, or None, to it as well."
    )
    advised.args = (f"{error.args[0]} {advice}",)
    return advised


def _new_keys(works: Sequence[Work], new_keys: NewKeys) -> list[DataKey]:
    """Return a new key for each row and each of its contexts, shared by the groups of the row."""
    taken: dict[tuple[int, str, KeyContext], DataKey] = {}
    try:
        new_keys.prepare((work.vault, work.context) for work in works)
    except VaultError as error:
        raise located(error, works[0].group.members[0], works[0].instance) from None
    found: list[DataKey] = []
    for work in works:
        name = (id(work.instance), work.vault, work.context)
        if name not in taken:
            try:
                taken[name] = new_keys.take(work.vault, work.context)
            except VaultError as error:
                raise located(error, work.group.members[0], work.instance) from None
        found.append(taken[name])
    return found
