"""
The way from assigned values to stored ones: derive the context, choose the data key, seal.

Nothing is written here. ``seal`` replaces what the instances hold, so that the save that follows only copies it; if
that save fails, what they hold is still consistent and saving again costs no further call.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.exceptions import FieldError
from django.db.models import Model

from vault_fields.exceptions import EnvelopeError, KeyContextError, ValueRefused
from vault_fields.fields.bindings import Binding
from vault_fields.fields.conflicts import require_apart
from vault_fields.fields.deriving import derive_contexts
from vault_fields.fields.encoding import Unencodable, encode
from vault_fields.fields.fetchmodes import fetched
from vault_fields.fields.groups import Group
from vault_fields.fields.indexing import write_indexes
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.keychoice import Work, choose_keys
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import locate, open_sealed
from vault_fields.fields.sealed import Opened, Pending, Sealed
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import cipher, companion as companion_format, envelope as envelope_format
from vault_fields.stored.companion import Companion
from vault_fields.stored.envelope import Envelope

__all__ = ["encoded", "examine", "seal"]


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
    Encrypt the rows' values in the clear, and everything in a group whose context has changed.

    Costs, in Vault calls: one ``decrypt`` for each row's own key that is kept and not cached, all at once; and one
    ``create`` for each distinct context of the rows that get a new one, per ``max_rows_per_key`` rows. Once in 10,000
    values that are sealed again, a row gets a new one where it would have kept its own. An operation that seals in
    several calls passes its ``new_keys`` to each. Raises ``KeyContextError``, ``ValueRefused``, ``FieldError``,
    ``DecryptionError`` or ``VaultError``, and changes no row unless all can be sealed.

    Relations behind which a context lies are followed in the database ``using``, or else in that of each row. A caller
    that has no new values passes ``follow=False``: redirected rows then raise ``KeyContextMismatch``. A caller that
    writes these ``fields`` of the rows ``written`` in the same operation passes both: no context is derived from their
    former values.
    """
    rows = list(rows)
    _seal(rows, new_keys, using, written, fields, follow=follow)
    write_indexes(rows, using)


def _seal(
    rows: Sequence[tuple[Model, Group]],
    new_keys: NewKeys | None,
    using: str | None,
    written: Sequence[Model],
    fields: Sequence[Any],
    *,
    follow: bool,
) -> None:
    works = [Work(instance, group) for instance, group in rows]
    for work in works:
        work.settle()
    works = [work for work in works if work.must_be_sealed]
    if not works:
        return
    rows = [(work.instance, work.group) for work in works]
    contexts = derive_contexts(rows, using)
    require_apart(rows, written, fields)
    _plan(works, contexts, follow=follow)
    keys = choose_keys(works, new_keys or NewKeys(shared=True))
    unbound: dict[Encrypted, bytes] = {}
    sealed = [_sealed_members(*each, unbound) for each in zip(works, keys, _companions(works, keys), strict=True)]
    for work, members in zip(works, sealed, strict=True):
        work.data.update(members)


@forgetful
def examine(instance: Model, group: Group) -> None:
    """Raise what ``seal`` would raise for a row with plaintext that is not followed, except the errors of the Vault."""
    work = Work(instance, group)
    _plan([work], derive_contexts([(instance, group)], None), follow=False)
    for member in work.changed:
        for binding in group.bound[member.name]:
            _bound_text(member, binding, instance)


def _plan(works: Sequence[Work], contexts: Sequence[KeyContext], *, follow: bool) -> None:
    aliases: dict[Group, str] = {}
    for work, context in zip(works, contexts, strict=True):
        instance, group = work.instance, work.group
        if group not in aliases:
            aliases[group] = group.vault
        work.plan(context, aliases[group], follow=follow)
        for member in group.members:
            held = work.data.get(member.attname)
            if isinstance(held, Pending):
                work.changed[member] = encoded(member, held.value, instance)
            elif isinstance(held, Sealed) and (work.is_dirty(member, held) or work.rebound_columns(member)):
                opened = held.opened or open_sealed(member, held, instance)
                work.changed[member] = encoded(member, opened.value, instance)


def encoded(member: Encrypted, value: Any, instance: Model) -> Opened:
    """Return the value and the text to encrypt for it. Raises ``ValueRefused``, or ``FieldError`` for an expression."""
    if hasattr(value, "resolve_expression"):
        raise FieldError(
            f"{locate(member, instance)} is encrypted here and not in the database: it takes values, not expressions."
        )
    try:
        return Opened(value, encode(member, value), member.to_plaintext)
    except Unencodable as refused:
        raise ValueRefused(f"{locate(member, instance)}: the value is refused: {refused}.") from None


def _companions(works: Sequence[Work], keys: Sequence[DataKey]) -> list[str]:
    """Return the companion's text for each piece of work; rows of one context that share a key share it too."""
    companions: list[str] = []
    made: dict[tuple[Any, ...], str] = {}
    for work, key in zip(works, keys, strict=True):
        if work.keeps_key and work.keys:
            companions.append(work.keys)
            continue
        # Not by the key's id: a vault may answer the same one twice.
        name = (work.vault, key.encrypted_keys, work.context, *work.row.items())
        text = made.get(name)
        if text is None:
            text = made[name] = _companion(work, key)
        companions.append(text)
    return companions


def _companion(work: Work, key: DataKey) -> str:
    said = Companion(work.vault, key.id, key.encrypted_keys, work.context, work.row)
    text = companion_format.encode(companion_format.proven(said, key))
    try:
        companion_format.decode(text)
    except EnvelopeError:
        raise KeyContextError(
            f"{locate(work.group.members[0], work.instance)}: the companion would not be readable. What the "
            "context starts from, the name of the vault or the encrypted keys are too many or too long."
        ) from None
    return text


def _sealed_members(work: Work, key: DataKey, keys: str, unbound: dict[Encrypted, bytes]) -> dict[str, Any]:
    """
    Return the sealed values and the companion for the instance to hold.

    ``unbound`` is the associated data of members that are bound to no column: the same for each row.
    """
    group = work.group
    # The Vault may name the key differently since a rekey; value and companion have to agree.
    key_id = companion_format.decode(keys).key_id
    values = tuple(work.row.values())
    held: dict[str, Any] = {group.companion: keys}
    for member, opened in work.changed.items():
        bound = [_bound_text(member, binding, work.instance) for binding in group.bound[member.name]]
        associated = None if bound else unbound.get(member)
        if associated is None:
            associated = envelope_format.associated_data(member.label, bound)
            if not bound:
                unbound[member] = associated
        sealed = cipher.seal(key, member.padded(opened.text).encode(), associated)
        text = envelope_format.encode(Envelope(key_id, sealed))
        held[member.attname] = Sealed(text, keys, (*values, *bound), None, opened)
    return held


def _bound_text(member: Encrypted, binding: Binding, instance: Model) -> str:
    text = binding.text(fetched(instance, binding.attname))
    if text is None:
        raise KeyContextError(
            f"{member.label}: bind_to names {binding.attname!r}, which has no value before the row is inserted; "
            "give it a default, as a UUID key has."
        )
    return text
