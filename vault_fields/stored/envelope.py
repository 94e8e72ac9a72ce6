"""
The envelope: the format of the ciphertext in the value column.

    $vf$1$<data-key id>$<base64 of nonce ‖ ciphertext ‖ tag>

    ┌──────┬─────────┬───┬──────────────────┬───┬───────────────────────────────────────────────┐
    │ $vf$ │ version │ $ │ data-key id      │ $ │ base64, padded, canonical                     │
    │      │ "1"     │   │ 1–128 characters │   │ ┌───────────┬──────────────────┬────────────┐ │
    │      │         │   │ A-Za-z0-9_.:-    │   │ │ nonce  12 │ ciphertext  n    │ tag     16 │ │
    └──────┴─────────┴───┴──────────────────┴───┴─┴───────────┴──────────────────┴────────────┴─┘

Version 1 is AES-256-GCM under the data key with a random nonce. There is nothing to choose: another suite would be
another version. A value is encrypted if, and only if, it begins with ``$vf$``, digits and ``$``.

The associated data is not stored: it is the UTF-8 text of the compact JSON array
``["vault_fields",1,"<app_label.Model.field>",<value bound to>…]``.
"""

import binascii
import json
import re
from collections.abc import Iterable
from json.encoder import encode_basestring as _quoted
from typing import NamedTuple

from vault_fields.exceptions import EnvelopeError

__all__ = ["MAX_PLAINTEXT_BYTES", "NONCE_BYTES", "TAG_BYTES", "AssociatedData", "Envelope", "associated_data"]
__all__ += ["decode", "decode_base64", "encode", "encode_base64", "is_envelope", "is_key_id", "prefix", "sealed_after"]

VERSION = 1
NONCE_BYTES = 12
TAG_BYTES = 16
# Far above what belongs in a text column, and far below where lengths become dangerous.
MAX_PLAINTEXT_BYTES = 64 * 1024 * 1024

_PREFIX = f"$vf${VERSION}$"
_HEADER = re.compile(r"\$vf\$[0-9]+\$")
_KEY_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MAX_BASE64_LENGTH = 4 * ((NONCE_BYTES + MAX_PLAINTEXT_BYTES + TAG_BYTES + 2) // 3)
# json.dumps() would make a new encoder for each call.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_MIN_SEALED = NONCE_BYTES + TAG_BYTES
# The last digit of a text whose tail is one byte, or two: those whose spare bits are 0.
_LAST_DIGITS = ("", "AQgw", "AEIMQUYcgkosw048")
_MAX_LENGTH = len(_PREFIX) + 128 + 1 + _MAX_BASE64_LENGTH


class AssociatedData:
    """The data that authenticate the values of one column, computed once: see ``associated_data``."""

    __slots__ = ("_begun", "alone")

    def __init__(self, label: str) -> None:
        # For a value that is bound to nothing else.
        self.alone = associated_data(label)
        self._begun = self.alone.removesuffix(b"]")

    def with_bound(self, bound: Iterable[str]) -> bytes:
        """Return the data for a value that is bound to these texts."""
        return b",".join((self._begun, *(_quoted(text).encode() for text in bound))) + b"]"


class Envelope(NamedTuple):
    """A value as stored: the id of its data key, and nonce ‖ ciphertext ‖ tag."""

    key_id: str
    sealed: bytes


def is_envelope(text: str) -> bool:
    """Whether a stored text is encrypted; of any version, also of one that this release cannot read."""
    return text.startswith(_PREFIX) or _HEADER.match(text) is not None


def is_key_id(text: str) -> bool:
    """Whether a Vault's name for a data key can stand in an envelope."""
    return _KEY_ID.fullmatch(text) is not None


def encode(envelope: Envelope) -> str:
    """Return the text to store."""
    return f"{_PREFIX}{envelope.key_id}${encode_base64(envelope.sealed)}"


def decode(text: str) -> Envelope:
    """Return the envelope in a stored text. Raises ``EnvelopeError``."""
    if len(text) > _MAX_LENGTH:
        raise EnvelopeError("the envelope is longer than any that is written.")
    if not text.startswith(_PREFIX):
        if is_envelope(text):
            raise EnvelopeError("the envelope has a version that this release of vault_fields does not know.")
        raise EnvelopeError("the value has no envelope.")
    key_id, separator, body = text[len(_PREFIX) :].partition("$")
    if not separator or not is_key_id(key_id):
        raise EnvelopeError("the envelope names no data key.")
    sealed = decode_base64(body)
    if sealed is None or len(sealed) < _MIN_SEALED:
        raise EnvelopeError("the envelope is truncated or altered.")
    return Envelope(key_id, sealed)


def prefix(key_id: str) -> str:
    """Return the beginning of every envelope of a data key."""
    return f"{_PREFIX}{key_id}$"


def sealed_after(beginning: str, text: str) -> bytes | None:
    """Return nonce ‖ ciphertext ‖ tag; None unless ``decode`` takes the text, and it begins with ``prefix``."""
    if not text.startswith(beginning) or len(text) > _MAX_LENGTH:
        return None
    raw = decode_base64(text[len(beginning) :])
    return raw if raw is not None and len(raw) >= _MIN_SEALED else None


def associated_data(label: str, bound: Iterable[str] = ()) -> bytes:
    """Return the data that authenticate a value: the column's label, and the row's own values to which it is bound."""
    return _compact(["vault_fields", VERSION, label, *bound]).encode()


def encode_base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()


def decode_base64(text: str) -> bytes | None:
    """Return the bytes, or None unless ``text`` is the one canonical base64 text for them."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    # Strict mode ignores the spare bits of the last digit, and in some releases of Python surplus padding: without
    # this, a change could go unseen.
    triples, tail = divmod(len(raw), 3)
    if not tail:
        return raw if len(text) == 4 * triples else None
    return raw if len(text) == 4 * triples + 4 and text[tail - 4] in _LAST_DIGITS[tail] else None
