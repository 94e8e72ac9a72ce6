"""
Encrypted values in the payloads of WorkOS's SDKs, which their ``vault.encrypt`` writes and ``vault.decrypt`` opens.

A payload is the base64 of one of

    TAG_FIRST      iv[12] ‖ tag[16] ‖ length ‖ keys ‖ ciphertext         Python, Node, Ruby, PHP, Kotlin, .NET
    TAG_FIRST_32   iv[32] ‖ tag[16] ‖ length ‖ keys ‖ ciphertext         older releases for Node and Go
    TAG_LAST       length ‖ keys ‖ nonce[12] ‖ ciphertext ‖ tag[16]      Go from version 7, Rust

where ``keys`` are the encrypted keys, undone from base64, and ``length`` is their length as unsigned LEB128. Values are
encrypted by AES-256-GCM with the data key itself. Nothing in a payload says which of the three it is.
"""

import enum
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from django.db.models import Model

from vault_fields.exceptions import DecryptionError, EnvelopeError, KeyRevoked, ValueRefused, VaultRefused
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.batch import Batch
from vault_fields.fields.groups import group_of
from vault_fields.fields.opening import bound_texts, proven_key
from vault_fields.fields.sealed import Sealed
from vault_fields.keys import DataKey
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import companion as companion_format, envelope as envelope_format
from vault_fields.stored.cipher import open_sealed
from vault_fields.stored.envelope import MAX_PLAINTEXT_BYTES, NONCE_BYTES, TAG_BYTES
from vault_fields.vaults import vaults

__all__ = ["Export", "Layout", "export_value", "import_value"]

MAX_KEYS_BYTES = companion_format.MAX_ENCRYPTED_KEYS_LENGTH // 4 * 3
_MAX_PAYLOAD_LENGTH = (MAX_PLAINTEXT_BYTES + MAX_KEYS_BYTES + 64) // 3 * 4 + 4


class Layout(enum.Enum):
    TAG_FIRST = "tag first"
    TAG_FIRST_32 = "tag first, IV of 32 bytes"
    TAG_LAST = "tag last"


@dataclass(frozen=True, slots=True)
class Export:
    """A value for an SDK: its ``decrypt`` takes the two as ``encrypted_data`` and ``associated_data``."""

    payload: str
    associated_data: str


@dataclass(frozen=True, slots=True)
class _Payload:
    nonce: bytes
    keys: bytes
    sealed: bytes = field(repr=False)


@forgetful
def export_value(instance: Model, name: str) -> Export | None:
    """
    Return the stored value of an encrypted field as a payload in the layout ``TAG_FIRST``; None for None.

    The data key and the ciphertext stay the same: any SDK that calls the same Vault opens it. The text in it is the
    value, or the JSON text of an ``EncryptedJSONField``'s value. Costs as much as reading the value. Raises the errors
    of reading, and ``ValueRefused`` for a value that is not saved.
    """
    encrypted = instance._meta.get_field(name)
    if not isinstance(encrypted, EncryptedField):
        raise TypeError(f"{instance._meta.label}.{name} is not an encrypted field.")
    # The ordinary way first: it compares the row with the context that the value was encrypted for.
    if getattr(instance, name) is None:
        return None
    sealed = instance.__dict__[encrypted.attname]
    if not isinstance(sealed, Sealed) or (sealed.opened is not None and sealed.opened.is_changed):
        raise ValueRefused(f"{encrypted.label}: save the row before its value is exported.")
    envelope = envelope_format.decode(sealed.text)
    text: str = sealed.keys or getattr(instance, encrypted.companion_name)
    companion = companion_format.decode(text)
    # Read again: a value opened earlier does not tell what stands beside it now.
    key = proven_key(text, companion, Batch())
    associated_data = _associated_data(encrypted, instance, key, envelope.sealed)
    nonce, ciphertext = envelope.sealed[:NONCE_BYTES], envelope.sealed[NONCE_BYTES:-TAG_BYTES]
    tag = envelope.sealed[-TAG_BYTES:]
    keys = envelope_format.decode_base64(companion.encrypted_keys)
    if keys is None:
        raise EnvelopeError(f"{encrypted.label}: the encrypted keys are not base64, which no SDK can carry.")
    payload = envelope_format.encode_base64(nonce + tag + _length(len(keys)) + keys + ciphertext)
    return Export(payload, associated_data.decode())


@forgetful
def import_value(
    payload: str, *, vault: str = "default", associated_data: str = "", layout: Layout | None = None
) -> str:
    """
    Return the text in a payload, to be assigned to a field.

    Without a layout, every layout that the payload may have is tried, and the one by which it authenticates is taken.
    Costs one call to the vault for each that is tried: name the layout where you know it. Raises ``DecryptionError``
    if the payload does not open, and the errors of the vault: ``VaultRefused`` for keys that are not its own only
    where a layout is given.
    """
    raw = envelope_format.decode_base64(payload) if len(payload) <= _MAX_PAYLOAD_LENGTH else None
    for candidate in [layout] if layout else Layout:
        parts = None if raw is None else _parse(raw, candidate)
        if parts is None:
            continue
        try:
            key = vaults[vault].decrypt_data_key(envelope_format.encode_base64(parts.keys))
        except KeyRevoked:
            raise
        except VaultRefused:
            if layout:
                raise
            continue
        text = _text(key, parts, associated_data.encode())
        if text is not None:
            return text
    # One message for every cause: a caller must not learn which check failed.
    raise DecryptionError("the payload does not open.")


def _parse(raw: bytes, layout: Layout) -> _Payload | None:
    """Return the parts of a payload, if it can have this layout."""
    if layout is Layout.TAG_LAST:
        found = _keys(raw)
        if found is None:
            return None
        keys, rest = found
        nonce, sealed = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    else:
        iv = NONCE_BYTES if layout is Layout.TAG_FIRST else 32
        found = _keys(raw[iv + TAG_BYTES :])
        if found is None:
            return None
        keys, ciphertext = found
        nonce, sealed = raw[:iv], ciphertext + raw[iv : iv + TAG_BYTES]
    if not TAG_BYTES <= len(sealed) <= TAG_BYTES + MAX_PLAINTEXT_BYTES:
        return None
    return _Payload(nonce, keys, sealed)


def _keys(raw: bytes) -> tuple[bytes, bytes] | None:
    """Return the encrypted keys after their length, and the rest."""
    length = 0
    # Three groups of seven bits are more than the longest keys need.
    for position, byte in enumerate(raw[:3]):
        length |= (byte & 0x7F) << (7 * position)
        if byte & 0x80:
            continue
        start = position + 1
        if not 1 <= length <= MAX_KEYS_BYTES or len(raw) < start + length or raw[:start] != _length(length):
            return None
        return raw[start : start + length], raw[start + length :]
    return None


def _length(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _text(key: DataKey, parts: _Payload, associated_data: bytes) -> str | None:
    # A fault is returned and not raised: the frame with the plaintext would stay in the context of the next error.
    try:
        return key.aead.decrypt(parts.nonce, parts.sealed, associated_data).decode()
    except (InvalidTag, UnicodeDecodeError):
        return None


def _associated_data(encrypted: EncryptedField, instance: Model, key: DataKey, sealed: bytes) -> bytes:
    """Return the associated data that fit the value, which may have been written under an earlier label."""
    group = group_of(encrypted)
    bindings = group.bound_columns(encrypted)[len(group.bindings) :]
    bound = bound_texts(bindings, [binding.text(getattr(instance, binding.attname)) for binding in bindings])
    for label in [encrypted.label, *encrypted.former_labels]:
        candidate = envelope_format.associated_data(label, bound)
        try:
            open_sealed(key, sealed, [candidate])
        except DecryptionError:
            continue
        return candidate
    raise DecryptionError(f"{encrypted.label}: a column that the value is bound to was changed and not saved.")
