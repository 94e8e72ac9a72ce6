"""From what is stored to what the user sees: pair, compare with the row, unwrap, verify, open."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db.models import Model
from django.views.decorators.debug import sensitive_variables

from vault_fields import cipher, companion as companion_format, envelope as envelope_format
from vault_fields.companion import Companion
from vault_fields.exceptions import DecryptionError, EnvelopeError, KeyContextMismatch, PlaintextFound, VaultError
from vault_fields.fields.context import Binding, attribute_text
from vault_fields.fields.groups import Group, group_of
from vault_fields.fields.sealed import Batch, Opened, Sealed
from vault_fields.keys import DataKey
from vault_fields.vaults import vaults

if TYPE_CHECKING:
    from vault_fields.fields.base import EncryptedField

__all__ = ["locate", "located", "moved_columns", "open_sealed", "open_value", "proven_key"]


@sensitive_variables("opened")
def open_value(field: "EncryptedField", sealed: Sealed, instance: Model | None) -> Any:
    """
    The value for the user. Costs what ``open_sealed`` costs at the first touch, and nothing afterwards.

    ``instance`` is the row that holds the value, or None in ``values()`` and the like, where the query has read
    along what is needed.
    """
    opened = sealed.opened
    if opened is None:
        opened = sealed.opened = open_sealed(field, sealed, instance)
    return opened.value


@sensitive_variables("text", "value")
def open_sealed(
    field: "EncryptedField", sealed: Sealed, instance: Model | None, *, accept_moved: bool = False
) -> Opened:
    """
    Open a stored value. One Vault call for each key of its batch that is not cached.

    Raises ``DecryptionError`` or ``VaultError`` that names the field and the row. Who passes ``accept_moved`` vouches
    that a row whose key context differs from that of its value was moved on purpose.
    """
    try:
        text = _plaintext(field, sealed, instance, accept_moved)
        value = field.from_plaintext(text)
        if not envelope_format.is_envelope(sealed.text):
            # Somebody else wrote it, with other spaces: what would be written of it tells whether it is changed.
            with suppress(ValueError):  # NaN, which Python reads and JSON does not have, leaves the text as it was.
                text = field.to_plaintext(value)
        return Opened(value, text, field.to_plaintext)
    except (DecryptionError, VaultError) as error:
        raise located(error, field, instance) from None


def located(error: DecryptionError | VaultError, field: "EncryptedField", instance: Model | None) -> Exception:
    """The same error, saying which value it is about. A copy: other threads may be raising the original."""
    message = f"{locate(field, instance)}: {error.args[0]}"
    if isinstance(error, VaultError):
        return type(error)(message, alias=error.alias, status=error.status, request_id=error.request_id)
    return type(error)(message)


def locate(field: "EncryptedField", instance: Model | None) -> str:
    """``app.Model.field (pk=…)``, for messages."""
    if instance is None:
        return field.label
    return f"{field.label} (pk={instance.pk!r})"


@sensitive_variables("plaintext")
def _plaintext(field: "EncryptedField", sealed: Sealed, instance: Model | None, accept_moved: bool) -> str:
    if not envelope_format.is_envelope(sealed.text):
        if field.migrating:
            return sealed.text
        raise PlaintextFound(
            "the column holds a value that is not encrypted. If it is still being migrated, set migrating=True on "
            "the field and encrypt the rest with vault_fields.operations.EncryptField."
        )
    keys = _keys(field, sealed, instance)
    companion = companion_format.decode(keys)
    envelope = envelope_format.decode(sealed.text)
    if envelope.key_id != companion.key_id:
        raise EnvelopeError(f"the value and {field.companion_name!r} were written with different data keys.")
    group = group_of(field)
    bound = _bound(field, group, companion, sealed, instance, accept_moved)
    key = proven_key(keys, companion, sealed.batch or Batch())
    labels = [field.label, *field.former_labels]
    candidates = [envelope_format.associated_data(label, bound) for label in labels]
    plaintext = _text(cipher.open_sealed(key, envelope.sealed, candidates))
    if plaintext is None:
        raise DecryptionError("the value is not UTF-8 text.")
    return plaintext


@sensitive_variables("plaintext")
def _text(plaintext: bytes) -> str | None:
    try:
        return plaintext.decode()
    except UnicodeDecodeError:
        # Not raised from here: the error holds the plaintext, and would stay in the context of the next one.
        return None


def proven_key(keys: str, companion: Companion, batch: Batch) -> DataKey:
    """The data key of a companion, whose text is ``keys``, after the companion has proved to belong to it."""
    key = batch.key(companion)
    if keys not in key.verified:
        message = companion_format.proof_message(companion.key_id, companion.context, companion.row)
        cipher.verify_proof(key, message, companion.proof)
        key.verified.add(keys)
        vaults[companion.vault].cache.confirm(companion.encrypted_keys, companion.context)
    return key


def _keys(field: "EncryptedField", sealed: Sealed, instance: Model | None) -> str:
    if sealed.keys is None and instance is not None:
        # The query did not select the companion beside the value, as raw() may not.
        sealed.keys = getattr(instance, field.companion_name)
    if not sealed.keys:
        raise EnvelopeError(f"the value is encrypted, but its companion {field.companion_name!r} is empty.")
    return sealed.keys


def _bound(
    field: "EncryptedField",
    group: Group,
    companion: Companion,
    sealed: Sealed,
    instance: Model | None,
    accept_moved: bool,
) -> list[str]:
    """Compare the row with the companion; return the texts that the value is bound to besides."""
    bindings = group.bound_columns(field)
    texts = _row_texts(bindings, sealed, instance)
    names = moved_columns(companion, group, texts)
    if names and instance is not None and sealed.values is None:
        # The attribute may have been changed in memory: what counts is where the value was stored.
        sealed.values = _stored_values(bindings, instance)
        texts = _row_texts(bindings, sealed, instance)
        names = moved_columns(companion, group, texts)
    if names and not accept_moved:
        raise KeyContextMismatch(
            f"the value was encrypted for another key context: {', '.join(names)} of the row differs from that of the "
            "value. If the row was moved on purpose, run `manage.py vault_rekey "
            f"{field.model._meta.label} --accept-moved`; otherwise somebody moved the value."
        )
    return [text or "" for text in texts[len(group.bindings) :]]


def _row_texts(bindings: tuple[Binding, ...], sealed: Sealed, instance: Any) -> list[str | None]:
    if sealed.values is not None:
        return [None if value is None else attribute_text(value) for value in sealed.values]
    return [binding.text(getattr(instance, binding.attname)) for binding in bindings]


def moved_columns(companion: Companion, group: Group, texts: list[str | None]) -> list[str]:
    """
    The columns that differ from those the value was encrypted for.

    Compared are the names that both the declaration and the companion know, so that a context to which an item was
    added goes on opening what was written before. If they have none in common, everything differs.
    """
    row = companion.row
    current = {binding.name: text for binding, text in zip(group.bindings, texts, strict=False)}
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
