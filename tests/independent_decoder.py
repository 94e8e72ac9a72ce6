"""A second reader of the stored format, written from docs/format.md and with nothing of vault_fields."""

import base64
import hmac
import json
import re
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# Canonical: the last digit before padding has no bits to spare.
BASE64 = r"((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?)"


def require(claim, error="EnvelopeError") -> None:
    if not claim:
        raise ValueError(error)


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_companion(text):
    require(text and len(text) <= 524_288 and text.startswith('{"v":2,'))
    with suppress(json.JSONDecodeError, RecursionError):
        found = json.loads(text)
        require(compact(found) == text)
        require(list(found) == ["v", "vault", "id", "keys", "context", "row", "proof"])
        for name, longest in {"vault": 200, "id": 128, "keys": 65_536, "proof": 44}.items():
            require(isinstance(found[name], str) and len(found[name]) <= longest)
        for name, fewest, longest, kind in [("context", 1, 500, str), ("row", 0, 4096, str | None)]:
            items = found[name]
            require(isinstance(items, dict) and fewest <= len(items) <= 10 and list(items) == sorted(items))
            require(all(1 <= len(item) <= 120 for item in items))
            require(all(isinstance(value, kind) and len(value or "") <= longest for value in items.values()))
        require(re.fullmatch(BASE64, found["proof"]) and len(base64.b64decode(found["proof"])) == 32)
        return found
    raise ValueError("EnvelopeError")


def open_value(value, companion, *, row, label, former_labels, bound, unwrap):
    """The text, or ``ValueError`` with the error's name; ``unwrap(alias, encrypted_keys)`` is the Vault."""
    require(re.match(r"\$vf\$[0-9]+\$", value), "PlaintextFound")
    found = read_companion(companion)
    envelope = re.fullmatch(r"\$vf\$1\$([A-Za-z0-9_.:-]{1,128})\$" + BASE64, value)
    require(envelope and 40 <= len(envelope[2]) <= 89_478_524 and envelope[1] == found["id"])
    common, sealed = row.keys() & found["row"].keys(), base64.b64decode(envelope[2])
    same = all(row[name] == found["row"][name] for name in common)
    require(same and bool(common) == bool(row or found["row"]), "KeyContextMismatch")
    key = unwrap(found["vault"], found["keys"])
    said = [found[name] for name in ("vault", "id", "keys", "context", "row")]
    message = compact(["vault_fields proof", 2, *said]).encode()
    require(hmac.digest(key, message, "sha256") == base64.b64decode(found["proof"]), "DecryptionError")
    for name in [label, *former_labels]:
        associated = compact(["vault_fields", 1, name, *bound]).encode()
        with suppress(InvalidTag, UnicodeDecodeError):
            return AESGCM(key).decrypt(sealed[:12], sealed[12:], associated).decode()
    raise ValueError("DecryptionError")
