"""
Makes the known-answer vectors of blind indexes: ``python -m tests.vectors.make_indexes``.

Nothing of ``vault_fields`` is used, so that the vectors cannot inherit its mistakes.
"""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

from tests.independent_decoder import compact
from tests.independent_index import blind_hash, context_hash

HERE = Path(__file__).parent / "indexes"

KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))
LABEL = "clinic.Patient.ssn"
CONTEXT = {"organization_id": "org_1"}
GLOBAL = {"vault_fields_index": "clinic.Patient.email"}


def hashes() -> list[dict[str, Any]]:
    """Make what equal texts have, and what others have: each differs from the first in one thing."""
    text = "123-45-6789"
    cases: list[tuple[str, bytes, str, str, int]] = [
        ("a text", KEY, LABEL, text, 122),
        ("under another index key", OTHER_KEY, LABEL, text, 122),
        ("in another field", KEY, "clinic.Patient.phone", text, 122),
        ("in an index that has a name", KEY, f"{LABEL}.last4", "6789", 122),
        ("the empty text", KEY, LABEL, "", 122),
        ("another case", KEY, LABEL, "A", 122),
        ("and the lower one", KEY, LABEL, "a", 122),
        ("a composed letter", KEY, LABEL, "\u00e9", 122),
        ("and one in two parts", KEY, LABEL, "e\u0301", 122),
        ("a character outside of the basic plane", KEY, LABEL, "\U0001f511", 122),
        ("a character that JSON escapes", KEY, LABEL, '"\\\n\x00', 122),
        ("more than a block of SHA-256", KEY, LABEL, "x" * 200, 122),
        ("a label that JSON escapes", KEY, 'a"b\\c', text, 122),
        ("a label of another script", KEY, "クリニック.患者.番号", text, 122),
    ]
    cases += [(f"the first {bits} bits", KEY, LABEL, text, bits) for bits in (8, 9, 16, 47, 48, 49, 60, 61, 121)]
    return [
        {
            "about": about,
            "index_key": key.hex(),
            "label": label,
            "text": each,
            "bits": bits,
            "hash": str(blind_hash(key, label, each, bits)),
        }
        for about, key, label, each, bits in cases
    ]


def keys() -> list[dict[str, Any]]:
    """Make rows of the table of index keys, sound ones and others."""
    other = {"organization_id": "org_2"}
    return [
        key_row("the index key of a context", "valid"),
        key_row("a second generation", "valid", generation=2, item="2"),
        key_row("the index key of an index over all contexts", "valid", context=GLOBAL, said=GLOBAL),
        key_row("a context of several items", "valid", context={"b": "2", "a": "é"}, said={"a": "é", "b": "2"}),
        key_row("the index key of another context", "EnvelopeError", said=other),
        key_row("that of an index over all contexts", "EnvelopeError", said=GLOBAL),
        key_row("of another generation", "EnvelopeError", generation=2),
        key_row("a generation that is no number", "EnvelopeError", item=None),
        key_row("a companion of a row", "EnvelopeError", row={"organization_id": "7"}),
        key_row("a companion of a row of constants", "EnvelopeError", row={}),
        key_row("another key proves it", "DecryptionError", proven_by=OTHER_KEY),
    ]


def key_row(
    about: str,
    expect: str,
    *,
    context: dict[str, str] = CONTEXT,
    said: dict[str, str] = CONTEXT,
    generation: int = 1,
    item: str | None = "1",
    row: dict[str, str] | None = None,
    proven_by: bytes = KEY,
) -> dict[str, Any]:
    keys = base64.b64encode(b"one data key, wrapped").decode()
    parts = ["default", "key-1", keys, said, {"index key": item} if row is None else row]
    proof = hmac.digest(proven_by, compact(["vault_fields proof", 2, *parts]).encode(), "sha256")
    members = dict(zip(("vault", "id", "keys", "context", "row"), parts, strict=True))
    return {
        "about": about,
        "expect": expect,
        "context": context,
        "context_hash": context_hash(context),
        "generation": generation,
        "companion": compact({"v": 2, **members, "proof": base64.b64encode(proof).decode()}),
        "encrypted_keys": keys,
        "data_key": KEY.hex(),
    }


def files() -> dict[str, str]:
    """The text of every file, by its name."""
    return {
        name: json.dumps(made, indent=2) + "\n" for name, made in (("hashes.json", hashes()), ("keys.json", keys()))
    }


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for name, text in files().items():
        (HERE / name).write_text(text, "ascii")


if __name__ == "__main__":
    main()
