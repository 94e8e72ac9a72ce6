"""The way from stored text to the user's value: pair, compare with the row, unwrap, verify, open."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from django.db.models import Model

from vault_fields.exceptions import (
    DecryptionError,
    EnvelopeError,
    KeyContextError,
    KeyContextMismatch,
    PlaintextFound,
    VaultError,
)
from vault_fields.fields.batch import Batch, may_wait
from vault_fields.fields.bindings import Binding, attribute_text
from vault_fields.fields.damaged import Damaged, as_text
from vault_fields.fields.fetchmodes import fetched
from vault_fields.fields.groups import Group, group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.pathends import PathEnds
from vault_fields.fields.proofs import is_proven, note_proof
from vault_fields.fields.sealed import Brought, Opened, Sealed
from vault_fields.keys import DataKey
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import cipher, companion as companion_format, envelope as envelope_format
from vault_fields.stored.companion import Companion

__all__ = [
    "accepting_moved",
    "bound_texts",
    "column_names",
    "differing_items",
    "locate",
    "located",
    "moved_columns",
    "open_sealed",
    "open_value",
    "proven_key",
    "require_open",
    "reworded",
]

# An attribute that raises these looks as if it were missing, or as if its caller had made a mistake.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

_accepting_moved: ContextVar[bool] = ContextVar("vault_fields_accepting_moved", default=False)


@forgetful
def open_value(field: Encrypted, sealed: Sealed, instance: Model | None) -> Any:
    """
    Return the value for the user. Costs what ``open_sealed`` costs at the first touch, and nothing once it has opened.

    In an event loop, a value that did not open is not tried again: its error is raised again.

    ``instance`` is the row that holds the value, or None in ``values()`` and the like, where the query has read along
    what is needed.
    """
    opened = sealed.opened
    if opened is None:
        if sealed.failure is not None and not may_wait():
            raise copy.copy(sealed.failure)
        try:
            opened = sealed.opened = open_sealed(field, sealed, instance)
        except (DecryptionError, VaultError) as error:
            sealed.failure = copy.copy(error)  # Without its traceback, which would keep the caller's frames.
            raise
    return opened.value


@forgetful
def open_sealed(field: Encrypted, sealed: Sealed, instance: Model | None, *, accept_moved: bool = False) -> Opened:
    """
    Open a stored value. One Vault call for each key of its batch that is not cached.

    Raises ``DecryptionError`` or ``VaultError`` that names the field and the row. A caller that passes
    ``accept_moved`` vouches that a row whose key context differs from that of its value was moved on purpose.
    """
    try:
        text = _plaintext(field, sealed, instance, accept_moved or _accepting_moved.get())
        value = field.from_plaintext(text)
        if not envelope_format.is_envelope(sealed.text):
            # Somebody else wrote it, with other spaces. The text that would be written of it tells whether it is
            # changed.
            with suppress(ValueError):  # NaN, which Python reads and JSON does not have, leaves the text as it was.
                text = field.to_plaintext(value)
        return Opened(value, text, field.to_plaintext)
    except (DecryptionError, VaultError) as error:
        raise located(error, field, instance) from None
    except KeyContextError as error:
        # For the stored value, not for one that somebody is about to store.
        mismatch = KeyContextMismatch(f"the row's own columns do not name the key context of its value: {error}")
        raise located(mismatch, field, instance) from None
    except _UNREADABLE as error:
        damage = DecryptionError(f"it cannot be read together with its row: {type(error).__name__}.")
        raise located(damage, field, instance) from None


def require_open(field: Encrypted, sealed: Sealed, instance: Model, key: DataKey) -> None:
    """
    Raise ``DecryptionError`` unless an encrypted value opens with ``key``, its data key, in whatever row it is now.

    Calls no Vault, keeps nothing, and lets no code of the project see the plaintext.
    """
    try:
        _plaintext(field, sealed, instance, accept_moved=True, key=key)
    except _UNREADABLE as error:
        raise DecryptionError(f"it cannot be read together with its row: {type(error).__name__}.") from None


@contextmanager
def accepting_moved() -> Iterator[None]:
    """Vouch for the rows that are written within the block: rows whose context differs were moved on purpose."""
    token = _accepting_moved.set(True)
    try:
        yield
    finally:
        _accepting_moved.reset(token)


def located(error: DecryptionError | VaultError, field: Encrypted, instance: Model | None) -> Exception:
    """Return the same error, with the value that it is about. A copy: other threads may be raising the original."""
    return reworded(error, f"{locate(field, instance)}: {error.args[0]}")


def reworded(error: DecryptionError | VaultError, message: str) -> Exception:
    """Return the same error in other words."""
    if isinstance(error, VaultError):
        return type(error)(message, **error.details())
    return type(error)(message)


def locate(field: Encrypted, instance: Model | None) -> str:
    """Return ``app.Model.field (pk=…)``, for messages."""
    if instance is None:
        return field.label
    return f"{field.label} (pk={instance.pk!r})"


def _plaintext(
    field: Encrypted, sealed: Sealed, instance: Model | None, accept_moved: bool, key: DataKey | None = None
) -> str:
    if isinstance(sealed.text, Damaged):
        raise EnvelopeError("the column does not hold text. Were all migrations applied?")
    if not envelope_format.is_envelope(sealed.text):
        if field.migrating:
            return sealed.text
        raise PlaintextFound(
            "the column holds a value that is not encrypted. If it is still being migrated, set migrating=True on "
            "the field and encrypt the rest with vault_fields.operations.EncryptField. Until then, save(update_fields="
            "[…]) writes the other columns of the row."
        )
    keys = _keys(field, sealed, instance)
    companion = companion_format.decode(keys)
    envelope = envelope_format.decode(sealed.text)
    if envelope.key_id != companion.key_id:
        raise EnvelopeError(f"the value and {field.companion_name!r} were written with different data keys.")
    group = group_of(field)
    bound = _bound(field, group, companion, sealed, instance, accept_moved)
    if key is None:
        key = proven_key(keys, companion, sealed.batch or Batch(), again=sealed.failure is not None)
    else:
        companion_format.verify(companion, key)
    labels = [field.label, *field.former_labels]
    candidates = [envelope_format.associated_data(label, bound) for label in labels]
    plaintext = _text(cipher.open_sealed(key, envelope.sealed, candidates))
    if plaintext is None:
        raise DecryptionError("the value is not UTF-8 text.")
    return field.unpadded(plaintext)


def _text(plaintext: bytes) -> str | None:
    try:
        return plaintext.decode()
    except UnicodeDecodeError:
        # Raised elsewhere: the error holds the plaintext, and would stay in the context of the next one.
        return None


def proven_key(keys: str, companion: Companion, batch: Batch, *, again: bool = False) -> DataKey:
    """Return the data key of a companion, whose text is ``keys``, after the companion has proved to belong to it."""
    key = batch.key(companion, again=again)
    if not is_proven(keys, key):
        companion_format.verify(companion, key)
        note_proof(keys, companion, key)
    return key


def _keys(field: Encrypted, sealed: Sealed, instance: Model | None) -> str:
    if sealed.keys is None and instance is not None:
        # The query did not select the companion beside the value; raw() may do that.
        sealed.keys = as_text(fetched(instance, field.companion_name))
    if not sealed.keys:
        raise EnvelopeError(f"the value is encrypted, but its companion {field.companion_name!r} is empty.")
    if isinstance(sealed.keys, Damaged):
        raise EnvelopeError(f"the value is encrypted, but its companion {field.companion_name!r} does not hold text.")
    return sealed.keys


def _bound(
    field: Encrypted,
    group: Group,
    companion: Companion,
    sealed: Sealed,
    instance: Model | None,
    accept_moved: bool,
) -> list[str]:
    """Compare the row with the companion; return the texts that the value is bound to besides."""
    bindings = group.bound_columns(field)
    texts = _row_texts(bindings, sealed, instance)
    outside = {} if accept_moved else _outside(group, sealed)
    names = moved_columns(companion, group, texts, outside)
    is_stored = True
    if names and instance is not None and sealed.values is None:
        # The attribute may have been changed in memory: the columns that count are the stored ones. For a value that
        # was assigned, no other row vouches.
        is_brought = isinstance(sealed, Brought)
        sealed.values = None if is_brought else _stored_values(bindings, instance)
        is_stored = sealed.values is not None
        texts = _row_texts(bindings, sealed, instance)
        names = moved_columns(companion, group, texts, outside)
    if not accept_moved and (names := _moved_for_good(names, companion, group, sealed, instance, texts)):
        way_out = (
            f"If the row was moved on purpose, run `manage.py vault_rekey {field.model._meta.label} --accept-moved`"
            if is_stored
            else "The row was not stored with this value. If it comes from a fixture in which the tenant has another "
            "primary key, load that with `manage.py vault_loaddata FIXTURE --accept-moved`"
        )
        raise KeyContextMismatch(
            f"the value was encrypted for another key context: {column_names(names, group)} of the row differs from "
            f"that of the value. {way_out}; otherwise somebody moved the value."
        )
    return bound_texts(bindings[len(group.bindings) :], texts[len(group.bindings) :])


def _outside(group: Group, sealed: Sealed) -> Mapping[str, str | None]:
    """Return what surrounded the row when it was read; if that was not noted, what surrounds it now."""
    if not group.source.outside:
        return {}
    return group.source.now_outside() if sealed.outside is None else sealed.outside


def bound_texts(bindings: Sequence[Binding], texts: Sequence[str | None]) -> list[str]:
    """
    Return the texts of the columns of ``bind_to``. Raises ``DecryptionError`` for NULL, which is not the empty text.
    """
    empty = [binding.attname for binding, text in zip(bindings, texts, strict=True) if text is None]
    if empty:
        raise DecryptionError(
            f"bind_to names {', '.join(empty)}, which is NULL in this row, and no value is written beside NULL there. "
            "Bring what was there back."
        )
    return [text for text in texts if text is not None]


def column_names(names: list[str], group: Group) -> str:
    """Return the columns of the row behind these items of a context, for messages."""
    columns = {binding.name: binding.attname for binding in group.bindings}
    return ", ".join(columns.get(name, name) for name in names)


def _moved_for_good(
    names: list[str],
    companion: Companion,
    group: Group,
    sealed: Sealed,
    instance: Model | None,
    texts: list[str | None],
) -> list[str]:
    """
    Return the moved columns except roots of a path that ends where it did when the value was encrypted.

    A comment that is given to another ticket of the same queue stays in the context of that queue. Costs one query for
    all rows that were read together.
    """
    if not names or not group.source.relations:
        return names
    ends = sealed.batch and sealed.batch.path_ends
    ends = ends or PathEnds(group, instance._state.db if instance is not None else None)
    roots = {binding.name: text for binding, text in zip(group.bindings, texts, strict=False)}
    return [name for name in names if not ends.lead_to(name, roots.get(name), companion.context.get(name))]


def _row_texts(bindings: tuple[Binding, ...], sealed: Sealed, instance: Any) -> list[str | None]:
    if sealed.values is not None:
        return [None if value is None else attribute_text(value) for value in sealed.values]
    return [binding.text(fetched(instance, binding.attname)) for binding in bindings]


def moved_columns(
    companion: Companion, group: Group, texts: Sequence[str | None], outside: Mapping[str, str | None]
) -> list[str]:
    """
    Return the columns that differ from those the value was encrypted for, and differing items from ``outside`` of the
    row.

    It compares the names that both the declaration and the companion know, so that a context to which an item was
    added still opens earlier values. If they have none in common, everything differs.
    """
    current = {binding.name: text for binding, text in zip(group.bindings, texts, strict=False)}
    known = {name: companion.context[name] for name in outside if name in companion.context}
    return differing_items({**companion.row, **known}, {**current, **outside})


def differing_items(row: Mapping[str, str | None], current: Mapping[str, str | None]) -> list[str]:
    """Return the same for the columns as a companion has them and as the row has them, by the names of items."""
    if current == row:
        return []
    common = row.keys() & current.keys()
    if (row or current) and not common:
        return sorted(current) or sorted(row)
    return sorted(name for name in common if row[name] != current[name])


def _stored_values(bindings: tuple[Binding, ...], instance: Model) -> tuple[Any, ...] | None:
    names = [binding.attname for binding in bindings]
    stored = type(instance)._base_manager.using(instance._state.db).filter(pk=instance.pk).values_list(*names).first()
    return tuple(stored) if stored is not None else None
