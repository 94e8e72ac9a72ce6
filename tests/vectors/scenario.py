"""A scenario: how a value came to be stored, what was done to it, and what a reader has to make of it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA_KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))
KEY_ID = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
# What a Vault gives is opaque to readers. Here it opens these and no others.
ENCRYPTED_KEYS = base64.b64encode(b"WOS.EKM.v1\x00 one data key, wrapped").decode()

ENVELOPE, DECRYPTION, MISMATCH = "EnvelopeError", "DecryptionError", "KeyContextMismatch"
PLAINTEXT, REFUSED = "PlaintextFound", "VaultRefused"

Row = Mapping[str, str | None]
Edit = Callable[[str], str | None]


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def in_order(items: Mapping[str, Any]) -> dict[str, Any]:
    return {name: items[name] for name in sorted(items)}


def unchanged(text: str) -> str:
    return text


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One stored value, what its reader knows, and what comes of it. By default everything is in order."""

    about: str
    expect: str = "valid"
    plaintext: str | bytes = "123-45-6789"
    # Of a value that is no text: the class of its field, and the length that the canonical text is filled to.
    kind: str = ""
    length: int = 0
    context: Mapping[str, str] = field(default_factory=lambda: {"organization_id": "org_1"})
    label: str = "clinic.Patient.ssn"
    former_labels: tuple[str, ...] = ()
    bound: tuple[str | None, ...] = ()
    row: Row = field(default_factory=lambda: {"organization_id": "7"})
    key_id: str = KEY_ID
    keys: str = ENCRYPTED_KEYS
    vault: str = "default"
    # What the writer had, where it is not what the reader has.
    written_label: str | None = None
    written_bound: tuple[str, ...] | None = None
    written_row: Row | None = None
    envelope_id: str | None = None
    sealed_with: bytes = DATA_KEY
    proven_with: bytes = DATA_KEY
    # Parts of the proof message that are not those of the companion: vault, id, keys, context, row.
    proven: Mapping[str, Any] = field(default_factory=dict)
    # What happened to the stored texts afterwards.
    edit_value: Edit = unchanged
    edit_companion: Edit = unchanged

    def vector(self, name: str) -> dict[str, Any]:
        vector = {
            "about": self.about,
            "expect": self.expect,
            "vault": self.vault,
            "data_key": DATA_KEY.hex(),
            "encrypted_keys": self.keys,
            "label": self.label,
            "former_labels": list(self.former_labels),
            "bound": list(self.bound),
            "row": self.row,
            "value": self.edit_value(self.value(name)),
            "companion": self.edit_companion(self.companion()),
        }
        if self.expect == "valid":
            vector["plaintext"] = self.encrypted
        if self.kind:
            vector |= {"field": self.kind, "canonical": self.plaintext}
        return vector

    @property
    def encrypted(self) -> str | bytes:
        """The text that is encrypted."""
        return self.plaintext + " " * (self.length - len(self.plaintext)) if self.length else self.plaintext  # type: ignore[operator]

    def value(self, name: str) -> str:
        nonce = hashlib.sha256(name.encode()).digest()[:12]
        bound = self.bound if self.written_bound is None else self.written_bound
        associated_data = compact(["vault_fields", 1, self.written_label or self.label, *bound]).encode()
        plaintext = self.encrypted.encode() if isinstance(self.encrypted, str) else self.encrypted
        sealed = nonce + AESGCM(self.sealed_with).encrypt(nonce, plaintext, associated_data)
        return f"$vf$1${self.envelope_id or self.key_id}${base64.b64encode(sealed).decode()}"

    def companion(self) -> str:
        stored = {
            "vault": self.vault,
            "id": self.key_id,
            "keys": self.keys,
            "context": in_order(self.context),
            "row": in_order(self.row if self.written_row is None else self.written_row),
        }
        message = compact(["vault_fields proof", 2, *({**stored, **self.proven}.values())]).encode()
        proof = base64.b64encode(hmac.digest(self.proven_with, message, "sha256")).decode()
        return compact({"v": 2, **stored, "proof": proof})


# How stored texts are altered. Each checks that it alters something.


def cut(length: int) -> Edit:
    """Keep so many characters; or with a negative length, lose so many from the end."""
    return lambda text: text[:length]


def altered(old: str, new: str) -> Edit:
    def edit(text: str) -> str:
        assert text.count(old) == 1, f"{old} is not once in {text}"
        return text.replace(old, new)

    return edit


def sealed_altered(edit: Callable[[bytes], bytes]) -> Edit:
    """Change the bytes that are behind the base64 of an envelope."""

    def edited(text: str) -> str:
        head, separator, body = text.rpartition("$")
        return head + separator + base64.b64encode(edit(base64.b64decode(body))).decode()

    return edited


def flipped(position: int) -> Edit:
    """Flip one bit of a byte of nonce, ciphertext and tag."""

    def flip(sealed: bytes) -> bytes:
        changed = bytearray(sealed)
        changed[position] ^= 1
        return bytes(changed)

    return sealed_altered(flip)


def trailing_bit(padding: str) -> Edit:
    """Set a bit of the last base64 digit that decoding ignores."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    def edit(text: str) -> str:
        bare = text.removesuffix(padding)
        assert bare + padding == text
        assert not bare.endswith("=")
        return bare[:-1] + digits[digits.index(bare[-1]) | 1] + padding

    return edit


def members(edit: Callable[[dict[str, Any]], Any]) -> Edit:
    """Change the decoded companion, and write it as compactly as before."""

    def edited(text: str) -> str:
        found = json.loads(text)
        changed = edit(found)
        return compact(found if changed is None else changed)

    return edited


def member(name: str, value: Any) -> Edit:
    return members(lambda found: found.update({name: value}))


def part(name: str, item: str, value: Any) -> Edit:
    return members(lambda found: found[name].update({item: value}))


def missing(name: str) -> Edit:
    return members(lambda found: {key: value for key, value in found.items() if key != name})


def replaced(text: str | None) -> Edit:
    return lambda _: text
