"""Companions that are malformed, or that no Vault opens."""

import base64

from tests.vectors.scenario import (
    DECRYPTION,
    ENCRYPTED_KEYS,
    ENVELOPE,
    REFUSED,
    Scenario,
    altered,
    compact,
    cut,
    member,
    members,
    missing,
    part,
    replaced,
    trailing_bit,
)

SCENARIOS: dict[str, Scenario] = {}

# The companion as JSON text.

SCENARIOS |= {
    "companion-null": Scenario(about="The column is NULL.", expect=ENVELOPE, edit_companion=replaced(None)),
    "companion-empty": Scenario(about="The column is empty.", expect=ENVELOPE, edit_companion=replaced("")),
    "companion-not-json": Scenario(about="Some text.", expect=ENVELOPE, edit_companion=replaced("companion")),
    "companion-cut-at-start": Scenario(about="{", expect=ENVELOPE, edit_companion=cut(1)),
    "companion-cut-at-end": Scenario(about="} is missing.", expect=ENVELOPE, edit_companion=cut(-1)),
    "companion-array": Scenario(
        about="The members in an array.", expect=ENVELOPE, edit_companion=members(lambda found: list(found.values()))
    ),
    "companion-in-array": Scenario(about="An array around it.", expect=ENVELOPE, edit_companion="[{}]".format),
    "companion-string": Scenario(about="JSON in JSON.", expect=ENVELOPE, edit_companion=compact),
    "companion-number": Scenario(about="JSON, and not an object.", expect=ENVELOPE, edit_companion=replaced("1")),
    "companion-twice": Scenario(about="Text after the object.", expect=ENVELOPE, edit_companion=lambda text: text * 2),
    "companion-space-before": Scenario(about="A leading space.", expect=ENVELOPE, edit_companion=" {}".format),
    "companion-newline-after": Scenario(about="A final newline.", expect=ENVELOPE, edit_companion="{}\n".format),
    "companion-space-inside": Scenario(
        about="As JSON tools write it.", expect=ENVELOPE, edit_companion=altered('"v":2', '"v": 2')
    ),
    "companion-byte-order-mark": Scenario(about="U+FEFF before it.", expect=ENVELOPE, edit_companion="\ufeff{}".format),
    "companion-duplicate-member": Scenario(
        about="The same member twice.", expect=ENVELOPE, edit_companion=altered('"v":2', '"v":2,"v":2')
    ),
    "companion-duplicate-context-name": Scenario(
        about="Two values for one item; the last one is the proven one.",
        expect=ENVELOPE,
        edit_companion=altered('"context":{', '"context":{"organization_id":"org_2",'),
    ),
    "companion-duplicate-row-name": Scenario(
        about="Two texts for one column; the last one is the proven one.",
        expect=ENVELOPE,
        edit_companion=altered('"row":{', '"row":{"organization_id":"8",'),
    ),
    "companion-extra-member": Scenario(about="One member more.", expect=ENVELOPE, edit_companion=member("more", "")),
    "companion-wrong-order": Scenario(
        about="The members backwards.",
        expect=ENVELOPE,
        edit_companion=members(lambda found: dict(reversed(found.items()))),
    ),
    "companion-context-out-of-order": Scenario(
        about="Names of the context in another order.",
        expect=ENVELOPE,
        context={"a": "1", "b": "2"},
        edit_companion=altered('{"a":"1","b":"2"}', '{"b":"2","a":"1"}'),
    ),
    "companion-context-in-utf-16-order": Scenario(
        about="Names of the context as UTF-16 sorts them.",
        expect=ENVELOPE,
        context={"\uff5e": "1", "🔑": "2"},
        edit_companion=altered('{"\uff5e":"1","🔑":"2"}', '{"🔑":"2","\uff5e":"1"}'),
    ),
    "companion-row-out-of-order": Scenario(
        about="Names of the row in another order.",
        expect=ENVELOPE,
        row={"a": "1", "b": "2"},
        edit_companion=altered('{"a":"1","b":"2"}', '{"b":"2","a":"1"}'),
    ),
    "companion-escaped-letter": Scenario(
        about="A letter that need not be escaped.", expect=ENVELOPE, edit_companion=altered('"org_1"', '"\\u006frg_1"')
    ),
    "companion-escaped-unicode": Scenario(
        about="A character that is not ASCII need not be escaped either.",
        expect=ENVELOPE,
        context={"organization_id": "é"},
        edit_companion=altered('"é"', '"\\u00e9"'),
    ),
    "companion-escaped-slash": Scenario(
        about="\\/ for /.", expect=ENVELOPE, context={"path": "a/b"}, edit_companion=altered("a/b", "a\\/b")
    ),
    "companion-upper-case-escape": Scenario(
        about="\\u001F for \\u001f.",
        expect=ENVELOPE,
        context={"organization_id": "\x1f"},
        edit_companion=altered("\\u001f", "\\u001F"),
    ),
    "companion-long-escape": Scenario(
        about="\\u000a for \\n.",
        expect=ENVELOPE,
        context={"organization_id": "\n"},
        edit_companion=altered('"\\n"', '"\\u000a"'),
    ),
    "companion-raw-control": Scenario(
        about="A newline that is not escaped.",
        expect=ENVELOPE,
        context={"organization_id": "\n"},
        edit_companion=altered('"\\n"', '"\n"'),
    ),
    "companion-lone-surrogate": Scenario(
        about="Half of a character.", expect=ENVELOPE, edit_companion=altered('"7"', '"\\ud83d"')
    ),
    "companion-nested-deeply": Scenario(
        about="Far more levels than a parser has stack.", expect=ENVELOPE, edit_companion=replaced("[" * 100_000)
    ),
    "companion-nested-in-member": Scenario(
        about="An object without end in the place of the context.",
        expect=ENVELOPE,
        edit_companion=altered('{"organization_id":"org_1"}', '{"a":' * 5_000 + "1" + "}" * 5_000),
    ),
    "companion-524289-characters": Scenario(
        about="Longer than any that is written.",
        expect=ENVELOPE,
        edit_companion=lambda text: text + " " * (512 * 1024 + 1 - len(text)),
    ),
}

# The members of the companion.

SCENARIOS |= {
    f"companion-without-{name}": Scenario(
        about=f"The member {name!r} is missing.", expect=ENVELOPE, edit_companion=missing(name)
    )
    for name in ("v", "vault", "id", "keys", "context", "row", "proof")
}
SCENARIOS |= {
    f"companion-{name}-is-{kind}": Scenario(
        about=f"The member {name!r} has another type.", expect=ENVELOPE, edit_companion=member(name, value)
    )
    for name in ("vault", "id", "keys", "context", "row", "proof")
    for kind, value in (("number", 1), ("null", None), ("array", []))
}
SCENARIOS |= {
    f"companion-version-{spelling}": Scenario(
        about="A version that is not 2, or not spelled so.",
        expect=ENVELOPE,
        edit_companion=altered('"v":2', f'"v":{text}'),
    )
    for spelling, text in {
        "0": "0",
        "1": "1",
        "3": "3",
        "true": "true",
        "null": "null",
        "string": '"2"',
        "float": "2.0",
        "exponent": "2e0",
        "negative": "-1",
        "nan": "NaN",
        "infinity": "Infinity",
        "of-5000-digits": "1" * 5000,
    }.items()
}
SCENARIOS |= {
    "vault-201-characters": Scenario(about="An alias that is too long.", expect=ENVELOPE, vault="v" * 201),
    "vault-unknown": Scenario(
        about="An alias that the reader does not know.",
        expect=DECRYPTION,
        edit_companion=altered('"default"', '"gone"'),
    ),
    "keys-65537-characters": Scenario(about="Encrypted keys that are too long.", expect=ENVELOPE, keys="k" * 65537),
    "keys-altered": Scenario(
        about="Encrypted keys that the Vault does not open.",
        expect=REFUSED,
        edit_companion=altered(ENCRYPTED_KEYS, "A" + ENCRYPTED_KEYS[1:]),
    ),
    "keys-empty": Scenario(
        about="Nothing that a Vault opens.", expect=REFUSED, edit_companion=altered(ENCRYPTED_KEYS, "")
    ),
    "context-empty": Scenario(about="A context without items.", expect=ENVELOPE, context={}),
    "context-11-items": Scenario(
        about="An item too many.", expect=ENVELOPE, context={f"name{number:02}": "value" for number in range(11)}
    ),
    "context-name-empty": Scenario(about="An item without a name.", expect=ENVELOPE, context={"": "value"}),
    "context-name-121-characters": Scenario(
        about="A name that is too long.", expect=ENVELOPE, context={"n" * 121: "value"}
    ),
    "context-value-501-characters": Scenario(
        about="A value that is too long.", expect=ENVELOPE, context={"organization_id": "v" * 501}
    ),
    "context-value-number": Scenario(
        about="A number for a string.", expect=ENVELOPE, edit_companion=part("context", "organization_id", 1)
    ),
    "context-value-nan": Scenario(
        about="NaN, which JSON does not have.",
        expect=ENVELOPE,
        edit_companion=part("context", "organization_id", float("nan")),
    ),
    "context-value-null": Scenario(
        about="Null for a string.", expect=ENVELOPE, edit_companion=part("context", "organization_id", None)
    ),
    "row-11-columns": Scenario(
        about="A column too many.", expect=ENVELOPE, row={f"name{number:02}": "text" for number in range(11)}
    ),
    "row-name-empty": Scenario(about="A column without a name.", expect=ENVELOPE, row={"": "7"}),
    "row-name-121-characters": Scenario(about="A name that is too long.", expect=ENVELOPE, row={"n" * 121: "7"}),
    "row-text-4097-characters": Scenario(
        about="A text that is too long.", expect=ENVELOPE, row={"organization_id": "t" * 4097}
    ),
    "row-text-number": Scenario(
        about="A number for a text.", expect=ENVELOPE, edit_companion=part("row", "organization_id", 7)
    ),
    "row-text-nan": Scenario(
        about="NaN, which JSON does not have.",
        expect=ENVELOPE,
        edit_companion=part("row", "organization_id", float("nan")),
    ),
    "row-text-true": Scenario(
        about="A boolean for a text.", expect=ENVELOPE, edit_companion=part("row", "organization_id", True)
    ),
    "proof-31-bytes": Scenario(
        about="A byte too few.", expect=ENVELOPE, edit_companion=member("proof", base64.b64encode(bytes(31)).decode())
    ),
    "proof-33-bytes": Scenario(
        about="A byte too many.", expect=ENVELOPE, edit_companion=member("proof", base64.b64encode(bytes(33)).decode())
    ),
    "proof-empty": Scenario(about="No proof.", expect=ENVELOPE, edit_companion=member("proof", "")),
    "proof-trailing-bits": Scenario(
        about="An ignored bit before =.",
        expect=ENVELOPE,
        edit_companion=lambda text: (trailing_bit("=")(text.removesuffix('"}')) or "") + '"}',
    ),
    "proof-no-padding": Scenario(
        about="= is missing.", expect=ENVELOPE, edit_companion=lambda text: text.removesuffix('="}') + '"}'
    ),
    "proof-not-ascii": Scenario(about="Not base64.", expect=ENVELOPE, edit_companion=member("proof", "é" * 44)),
}
