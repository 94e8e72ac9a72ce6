"""
From what was assigned to what is stored: derive the context, find the data key, seal.

Nothing is written here. ``seal`` replaces what the instances hold, so that the save that follows only copies it; if
that save fails, what they hold is still consistent and saving again costs no further call.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field as dataclass_field
from typing import Any, TypeGuard

from django.core.exceptions import FieldError
from django.db.models import Model

from vault_fields.exceptions import (
    DecryptionError,
    EnvelopeError,
    KeyContextError,
    KeyContextMismatch,
    ValueRefused,
    VaultError,
    VaultRefused,
)
from vault_fields.fields.apart import require_apart
from vault_fields.fields.changes import (
    current_keys,
    is_dirty,
    is_encrypted,
    keys_beside,
    needs_sealing,
    rebound_columns,
    settle,
)
from vault_fields.fields.context import Binding
from vault_fields.fields.deriving import derive_contexts, located_context
from vault_fields.fields.encoding import Unencodable, encode
from vault_fields.fields.fetching import fetched
from vault_fields.fields.groups import Group, all_groups_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import locate, located, open_sealed, proven_key
from vault_fields.fields.redirects import redirection
from vault_fields.fields.sealed import Batch, Opened, Pending, Sealed
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import cipher, companion as companion_format, envelope as envelope_format
from vault_fields.stored.companion import Companion
from vault_fields.stored.envelope import Envelope

__all__ = ["encoded", "examine", "seal"]


@dataclass(slots=True, eq=False)
class _Work:
    """One group of one row that has to be sealed."""

    instance: Model
    group: Group
    row: dict[str, str | None]
    context: KeyContext
    # The companion's text as the row holds it, and whether its data key still serves.
    keys: str | None
    keeps_key: bool
    changed: dict[Encrypted, Opened] = dataclass_field(default_factory=dict)


@forgetful
def seal(
    rows: Iterable[tuple[Model, Group]],
    new_keys: NewKeys | None = None,
    *,
    using: str | None = None,
    follow: bool = True,
    written: Sequence[Model] = (),
    fields: Sequence[Any] = (),
) -> None:
    """
    Encrypt what the rows hold in the clear, and everything in a group whose context has changed.

    Costs, in Vault calls: one ``decrypt`` for each row's own key that is kept and not cached, all at once; and one
    ``create`` for each distinct context of the rows that get a new one, per ``max_rows_per_key`` rows. Once in 10,000
    values that are sealed again, a row gets a new one where it would have kept its own. An operation
    that seals in several calls passes its ``new_keys`` to each. Raises ``KeyContextError``, ``ValueRefused``,
    ``FieldError``, ``DecryptionError`` or ``VaultError``, and changes no row unless all can be sealed.

    Relations that a context lies behind are followed in the database ``using``, or else in that of each row. Who is not
    given new values says ``follow=False``: rows that are redirected raise ``KeyContextMismatch`` then. Whoever writes
    these ``fields`` of the rows ``written`` in the same operation says so: no context is derived from what they were.
    """
    rows = list(rows)
    for instance, group in rows:
        settle(instance, group)
    rows = [(instance, group) for instance, group in rows if needs_sealing(instance, group)]
    if not rows:
        return
    contexts = derive_contexts(rows, using)
    require_apart(rows, written, fields)
    works = [
        _plan(instance, group, context, follow=follow)
        for (instance, group), context in zip(rows, contexts, strict=True)
    ]
    new_keys = new_keys or NewKeys(shared=True)
    data_keys = _find_old_keys(works, new_keys)
    data_keys |= _take_keys([work for work in works if work not in data_keys], new_keys)
    companions = _companions(works, data_keys)
    finished = [(work, _sealed_members(work, data_keys[work], companions[work])) for work in works]
    for work, members in finished:
        work.instance.__dict__.update(members)


@forgetful
def examine(instance: Model, group: Group) -> None:
    """Raise what ``seal`` would raise of a row with plaintext that is not followed, but for what the Vault says."""
    (context,) = derive_contexts([(instance, group)], None)
    for member in _plan(instance, group, context, follow=False).changed:
        for binding in group.bound[member.name]:
            _bound_text(member, binding, instance)


def _plan(instance: Model, group: Group, context: KeyContext, *, follow: bool) -> _Work:
    try:
        row = {binding.name: binding.text(fetched(instance, binding.attname)) for binding in group.bindings}
    except KeyContextError as error:
        raise located_context(error, instance, group) from None
    keys = current_keys(instance, group)
    if keys and not follow and (problem := redirection(group, companion_format.decode(keys), row, context)):
        raise KeyContextMismatch(f"{locate(group.members[0], instance)}: {problem}")
    keeps_key = _serves(keys, group, context) and _row(keys) == row
    work = _Work(instance, group, row, context, keys, keeps_key)
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        if isinstance(held, Pending):
            work.changed[member] = encoded(member, held.value, instance)
        elif isinstance(held, Sealed) and (is_dirty(member, held) or rebound_columns(instance, group, member)):
            opened = held.opened or open_sealed(member, held, instance)
            work.changed[member] = encoded(member, opened.value, instance)
    return work


def _serves(keys: str | None, group: Group, context: KeyContext) -> TypeGuard[str]:
    """Whether the data key of a companion is one for this context from this Vault."""
    if not keys:
        return False
    companion = companion_format.decode(keys)
    return companion.context == context and companion.vault == group.vault


def _row(keys: str) -> Mapping[str, str | None]:
    return companion_format.decode(keys).row


def encoded(member: Encrypted, value: Any, instance: Model) -> Opened:
    """The value and the text to encrypt of it. Raises ``ValueRefused``, or ``FieldError`` for an expression."""
    if hasattr(value, "resolve_expression"):
        raise FieldError(
            f"{locate(member, instance)} is encrypted here and not in the database: it takes values, not expressions."
        )
    try:
        return Opened(value, encode(member, value), member.to_plaintext)
    except Unencodable as refused:
        raise ValueRefused(f"{locate(member, instance)}: the value is refused: {refused}.") from None


def _find_old_keys(works: Sequence[_Work], new_keys: NewKeys) -> dict[_Work, DataKey]:
    """
    The keys that go on being used.

    They are unwrapped in one round with those of the values that have to be sealed again, which are opened here.
    """
    found: dict[_Work, DataKey] = {}
    old_keys = {work: _old_keys(work, new_keys) for work in works}
    batch = Batch([text for work in works for text in (work.keys, old_keys[work])], hold=True)
    for work in works:
        for member in work.group.members:
            held = work.instance.__dict__.get(member.attname)
            if is_encrypted(held) and member not in work.changed and not _stays(work, held):
                again = Sealed(held.text, held.keys, held.values, batch, outside=held.outside)
                work.changed[member] = held.opened or open_sealed(member, again, work.instance)
        if text := old_keys[work]:
            try:
                found[work] = proven_key(text, companion_format.decode(text), batch)
            except (DecryptionError, VaultRefused) as error:
                # Nothing needs a key that does not open if everything that it encrypts was assigned anew.
                if needing := _members_that_stay(work):
                    raise located(_with_advice(error, work, needing), work.group.members[0], work.instance) from None
                work.keeps_key = False
            except VaultError as error:
                raise located(error, work.group.members[0], work.instance) from None
    return found


def _old_keys(work: _Work, new_keys: NewKeys) -> str | None:
    """The companion whose data key goes on being used, unless it is the row's turn to have a fresh one."""
    text = work.keys if work.keeps_key else _sibling(work)
    seals = len(work.changed if work.keeps_key else work.group.members)
    if text and new_keys.renews(work.instance, work.group, seals):
        work.keeps_key = False
        return None
    return text


def _members_that_stay(work: _Work) -> list[Encrypted]:
    data = work.instance.__dict__
    return [
        member for member in work.group.members if member not in work.changed and is_encrypted(data.get(member.attname))
    ]


def _with_advice(
    error: DecryptionError | VaultRefused, work: _Work, needing: Sequence[Encrypted]
) -> DecryptionError | VaultRefused:
    """The same error, saying which values of the row stand in the way of a new data key."""
    names = ", ".join(member.name for member in needing)
    advised = copy.copy(error)
    advice = (
        f"{names} of the same row, which shares {work.group.companion!r}, is encrypted with this data key too: to "
        "replace the key, assign a new value, or None, to it as well."
    )
    advised.args = (f"{error.args[0]} {advice}",)
    return advised


def _stays(work: _Work, held: Sealed) -> bool:
    return work.keeps_key and keys_beside(work.instance, work.group, held) == work.keys


def _sibling(work: _Work) -> str | None:
    """Another companion of the same row for the same context: one data key serves a row's equal contexts."""
    for group in all_groups_of(type(work.instance)):
        keys = current_keys(work.instance, group)
        if group is not work.group and _serves(keys, work.group, work.context):
            return keys
    return None


def _take_keys(works: Sequence[_Work], new_keys: NewKeys) -> dict[_Work, DataKey]:
    """Give each row a new key for each of its contexts, shared by the groups of the row."""
    taken: dict[tuple[int, str, KeyContext], DataKey] = {}
    found: dict[_Work, DataKey] = {}
    try:
        new_keys.prepare((work.group.vault, work.context) for work in works)
    except VaultError as error:
        raise located(error, works[0].group.members[0], works[0].instance) from None
    for work in works:
        name = (id(work.instance), work.group.vault, work.context)
        if name not in taken:
            try:
                taken[name] = new_keys.take(work.group.vault, work.context)
            except VaultError as error:
                raise located(error, work.group.members[0], work.instance) from None
        found[work] = taken[name]
    return found


def _sealed_members(work: _Work, key: DataKey, keys: str) -> dict[str, Any]:
    """What the instance is to hold: its sealed values and their companion."""
    # The Vault may name the key differently since a rekey; value and companion have to agree.
    key_id = companion_format.decode(keys).key_id
    held: dict[str, Any] = {work.group.companion: keys}
    for member, opened in work.changed.items():
        bound = [_bound_text(member, binding, work.instance) for binding in work.group.bound[member.name]]
        associated = envelope_format.associated_data(member.label, bound)
        sealed = cipher.seal(key, opened.text.encode(), associated)
        text = envelope_format.encode(Envelope(key_id, sealed))
        held[member.attname] = Sealed(text, keys, (*work.row.values(), *bound), None, opened)
    return held


def _bound_text(member: Encrypted, binding: Binding, instance: Model) -> str:
    text = binding.text(fetched(instance, binding.attname))
    if text is None:
        raise KeyContextError(
            f"{member.label}: bind_to names {binding.attname!r}, which has no value before the row is inserted; "
            "give it a default, as a UUID key has."
        )
    return text


def _companions(works: Sequence[_Work], data_keys: Mapping[_Work, DataKey]) -> dict[_Work, str]:
    """The companion's text for each piece of work; rows of one context that share a key share it too."""
    companions: dict[_Work, str] = {}
    made: dict[tuple[Any, ...], str] = {}
    for work in works:
        if work.keeps_key and work.keys:
            companions[work] = work.keys
            continue
        key = data_keys[work]
        # Not by the key's id: a vault may answer the same one twice.
        name = (work.group.vault, key.encrypted_keys, work.context, tuple(work.row.items()))
        if name not in made:
            said = Companion(work.group.vault, key.id, key.encrypted_keys, work.context, work.row)
            made[name] = companion_format.encode(companion_format.proven(said, key))
            try:
                companion_format.decode(made[name])
            except EnvelopeError:
                raise KeyContextError(
                    f"{locate(work.group.members[0], work.instance)}: the companion would not be readable. What the "
                    "context starts from, the name of the vault or the encrypted keys are too many or too long."
                ) from None
        companions[work] = made[name]
    return companions
