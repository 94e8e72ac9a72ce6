"""Well-formed values and companions that do not belong together, or not where they stand."""

import base64

from tests.vectors.scenario import DECRYPTION, MISMATCH, OTHER_KEY, Scenario, altered, member, part

SCENARIOS: dict[str, Scenario] = {}

# What the proof is for: everything is well formed, and does not belong together.

SCENARIOS |= {
    "proof-wrong": Scenario(
        about="32 bytes that prove nothing.",
        expect=DECRYPTION,
        edit_companion=member("proof", base64.b64encode(bytes(32)).decode()),
    ),
    "proof-with-other-key": Scenario(about="Proven with another data key.", expect=DECRYPTION, proven_with=OTHER_KEY),
    "proof-of-other-context": Scenario(
        about="The proof of another tenant.", expect=DECRYPTION, proven={"context": {"organization_id": "org_2"}}
    ),
    "proof-of-other-row": Scenario(
        about="The proof of another row.", expect=DECRYPTION, proven={"row": {"organization_id": "8"}}
    ),
    "proof-of-other-vault": Scenario(about="The proof of another alias.", expect=DECRYPTION, proven={"vault": "other"}),
    "proof-of-other-keys": Scenario(
        about="The proof of the same data key, wrapped otherwise.", expect=DECRYPTION, proven={"keys": "b3RoZXI="}
    ),
    "proof-of-other-key-id": Scenario(about="The proof of another id.", expect=DECRYPTION, proven={"id": "another"}),
    "proof-of-unsorted-context": Scenario(
        about="The proof of a message that is not canonical.",
        expect=DECRYPTION,
        context={"a": "1", "b": "2"},
        proven={"context": {"b": "2", "a": "1"}},
    ),
    "context-altered": Scenario(
        about="Relabelled for another tenant.", expect=DECRYPTION, edit_companion=altered('"org_1"', '"org_2"')
    ),
    "context-item-added": Scenario(
        about="An item more than the proof has.", expect=DECRYPTION, edit_companion=part("context", "purpose", "care")
    ),
    "row-altered-to-fit": Scenario(
        about="Pasted into another row, and the companion made to fit it.",
        expect=DECRYPTION,
        row={"organization_id": "8"},
        written_row={"organization_id": "7"},
        edit_companion=altered('"7"', '"8"'),
    ),
    "row-column-added": Scenario(
        about="A column more than the proof has.", expect=DECRYPTION, edit_companion=part("row", "region", "eu")
    ),
    "row-column-removed": Scenario(
        about="A column less than the proof has.",
        expect=DECRYPTION,
        row={"organization_id": "7", "region": "eu"},
        edit_companion=altered(',"region":"eu"', ""),
    ),
    "row-column-renamed": Scenario(
        about="One of two columns is given another name, so that it is not compared.",
        expect=DECRYPTION,
        row={"organization_id": "7", "region": "us"},
        written_row={"organization_id": "7", "region": "eu"},
        edit_companion=altered('"region"', '"rogion"'),
    ),
}

# What the comparison with the row is for.

SCENARIOS |= {
    "row-of-another-tenant": Scenario(
        about="Value and companion pasted into the row of another tenant.",
        expect=MISMATCH,
        row={"organization_id": "8"},
        written_row={"organization_id": "7"},
    ),
    "row-altered": Scenario(
        about="The companion's row altered.", expect=MISMATCH, edit_companion=altered('"7"', '"8"')
    ),
    "row-one-of-two-differs": Scenario(
        about="One column fits and one does not.",
        expect=MISMATCH,
        row={"organization_id": "7", "region": "us"},
        written_row={"organization_id": "7", "region": "eu"},
    ),
    "row-null-for-text": Scenario(
        about="The row's column was set to NULL.",
        expect=MISMATCH,
        row={"organization_id": None},
        written_row={"organization_id": "7"},
    ),
    "row-text-for-null": Scenario(
        about="The row's column was NULL.",
        expect=MISMATCH,
        row={"organization_id": ""},
        written_row={"organization_id": None},
    ),
    "row-other-spelling": Scenario(
        about="Texts are compared as they are.",
        expect=MISMATCH,
        row={"organization_id": "\u00e9"},
        written_row={"organization_id": "e\u0301"},
    ),
    "row-without-common-column": Scenario(
        about="No column that both know.", expect=MISMATCH, row={"tenant": "7"}, written_row={"organization_id": "7"}
    ),
    "row-of-constants-for-columns": Scenario(
        about="Written for columns; the context is made of constants by now.",
        expect=MISMATCH,
        row={},
        written_row={"organization_id": "7"},
    ),
    "row-of-columns-for-constants": Scenario(
        about="Written for constants; the context starts from columns by now.",
        expect=MISMATCH,
        row={"organization_id": "7"},
        written_row={},
    ),
}
