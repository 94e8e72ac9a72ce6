"""Value columns that do not open."""

from tests.vectors.scenario import (
    DECRYPTION,
    ENVELOPE,
    KEY_ID,
    OTHER_KEY,
    PLAINTEXT,
    Scenario,
    altered,
    cut,
    flipped,
    replaced,
    sealed_altered,
    trailing_bit,
)

SCENARIOS: dict[str, Scenario] = {}

# The value column, altered.

ID_END = len(f"$vf$1${KEY_ID}")

SCENARIOS |= {
    "value-empty": Scenario(about="The column is empty.", expect=PLAINTEXT, edit_value=replaced("")),
    "value-plaintext": Scenario(
        about="The column was never encrypted.", expect=PLAINTEXT, edit_value=replaced("123-45-6789")
    ),
    "value-cut-in-header": Scenario(about="$vf", expect=PLAINTEXT, edit_value=cut(3)),
    "value-cut-in-version": Scenario(about="$vf$1", expect=PLAINTEXT, edit_value=cut(5)),
    "value-cut-after-header": Scenario(about="$vf$1$", expect=ENVELOPE, edit_value=cut(6)),
    "value-cut-in-key-id": Scenario(about="The id is cut.", expect=ENVELOPE, edit_value=cut(ID_END - 1)),
    "value-cut-after-key-id": Scenario(about="Nothing after the id.", expect=ENVELOPE, edit_value=cut(ID_END)),
    "value-cut-before-base64": Scenario(about="Only the last $.", expect=ENVELOPE, edit_value=cut(ID_END + 1)),
    "value-cut-in-nonce": Scenario(about="8 digits of base64.", expect=ENVELOPE, edit_value=cut(ID_END + 1 + 8)),
    "value-cut-after-nonce": Scenario(about="Only the nonce.", expect=ENVELOPE, edit_value=cut(ID_END + 1 + 16)),
    "value-27-bytes": Scenario(
        about="A byte less than nonce and tag have.", expect=ENVELOPE, edit_value=sealed_altered(lambda raw: raw[:27])
    ),
    "value-28-bytes": Scenario(
        about="Nonce and tag of another ciphertext.", expect=DECRYPTION, edit_value=sealed_altered(lambda raw: raw[:28])
    ),
    "value-cut-by-a-byte": Scenario(
        about="The last byte of the tag is missing.",
        expect=DECRYPTION,
        edit_value=sealed_altered(lambda raw: raw[:-1]),
    ),
    "value-longer-by-a-byte": Scenario(
        about="A byte after the tag.", expect=DECRYPTION, edit_value=sealed_altered(lambda raw: raw + b"\0")
    ),
    "value-twice": Scenario(
        about="The sealed bytes twice.", expect=DECRYPTION, edit_value=sealed_altered(lambda raw: raw + raw)
    ),
    "value-wrong-nonce": Scenario(about="A bit of the nonce.", expect=DECRYPTION, edit_value=flipped(0)),
    "value-wrong-ciphertext": Scenario(about="A bit of the ciphertext.", expect=DECRYPTION, edit_value=flipped(12)),
    "value-wrong-tag": Scenario(about="A bit of the tag.", expect=DECRYPTION, edit_value=flipped(-1)),
    "value-wrong-key": Scenario(
        about="Sealed with another key than its companion names.", expect=DECRYPTION, sealed_with=OTHER_KEY
    ),
    "value-not-utf-8": Scenario(about="Authentic, and not text.", expect=DECRYPTION, plaintext=b"\xff\xfe"),
    "value-surrogate": Scenario(about="Authentic, and a lone surrogate.", expect=DECRYPTION, plaintext=b"\xed\xa0\x80"),
}

# Its header.

SCENARIOS |= {
    "version-2": Scenario(about="A later version.", expect=ENVELOPE, edit_value=altered("$vf$1$", "$vf$2$")),
    "version-0": Scenario(about="No version is 0.", expect=ENVELOPE, edit_value=altered("$vf$1$", "$vf$0$")),
    "version-01": Scenario(about="1 has one spelling.", expect=ENVELOPE, edit_value=altered("$vf$1$", "$vf$01$")),
    "version-11": Scenario(about="Two digits.", expect=ENVELOPE, edit_value=altered("$vf$1$", "$vf$11$")),
    "version-of-1000-digits": Scenario(
        about="A version without end.", expect=ENVELOPE, edit_value=altered("$vf$1$", f"$vf${'1' * 1000}$")
    ),
    "version-missing": Scenario(about="Not a header.", expect=PLAINTEXT, edit_value=altered("$vf$1$", "$vf$$")),
    "version-fullwidth": Scenario(
        about="A digit that is not ASCII.", expect=PLAINTEXT, edit_value=altered("$vf$1$", "$vf$\uff11$")
    ),
    "header-upper-case": Scenario(about="Not a header.", expect=PLAINTEXT, edit_value=altered("$vf$", "$VF$")),
    "header-after-space": Scenario(about="Not a header.", expect=PLAINTEXT, edit_value=altered("$vf$", " $vf$")),
    "header-after-byte-order-mark": Scenario(
        about="Not a header.", expect=PLAINTEXT, edit_value=altered("$vf$", "\ufeff$vf$")
    ),
}

# Its base64.

SCENARIOS |= {
    "base64-trailing-bits-1": Scenario(
        about="An ignored bit before =.", expect=ENVELOPE, plaintext="a", edit_value=trailing_bit("=")
    ),
    "base64-trailing-bits-2": Scenario(
        about="An ignored bit before ==.", expect=ENVELOPE, plaintext="abc", edit_value=trailing_bit("==")
    ),
    "base64-no-padding-1": Scenario(about="= is missing.", expect=ENVELOPE, plaintext="a", edit_value=cut(-1)),
    "base64-no-padding-2": Scenario(about="== is missing.", expect=ENVELOPE, plaintext="abc", edit_value=cut(-2)),
    "base64-half-padding": Scenario(about="= for ==.", expect=ENVELOPE, plaintext="abc", edit_value=cut(-1)),
    "base64-surplus-padding-1": Scenario(
        about="= after whole bytes.", expect=ENVELOPE, plaintext="ab", edit_value="{}=".format
    ),
    "base64-surplus-padding-2": Scenario(
        about="== after whole bytes.", expect=ENVELOPE, plaintext="ab", edit_value="{}==".format
    ),
    "base64-surplus-padding-4": Scenario(
        about="==== after whole bytes.", expect=ENVELOPE, plaintext="ab", edit_value="{}====".format
    ),
    "base64-surplus-padding-after-padding": Scenario(
        about="== for =.", expect=ENVELOPE, plaintext="a", edit_value="{}=".format
    ),
    "base64-padding-inside": Scenario(
        about="Two base64 texts, one after the other.",
        expect=ENVELOPE,
        plaintext="abc",
        edit_value=lambda text: text + text.rpartition("$")[2],
    ),
    "base64-newline-at-end": Scenario(about="As base64 tools write it.", expect=ENVELOPE, edit_value="{}\n".format),
    "base64-newline-inside": Scenario(
        about="Folded lines.", expect=ENVELOPE, edit_value=lambda text: text[:-8] + "\n" + text[-8:]
    ),
    "base64-space-inside": Scenario(
        about="A space.", expect=ENVELOPE, edit_value=lambda text: text[:-8] + " " + text[-8:]
    ),
    "base64-url-alphabet": Scenario(
        about="- and _ for + and /, which this text has.",
        expect=ENVELOPE,
        plaintext="the text whose base64 has + and / in it, 13",
        edit_value=lambda text: text[:ID_END] + text[ID_END:].replace("+", "-").replace("/", "_"),
    ),
    "base64-not-ascii": Scenario(
        about="A digit that is not ASCII.", expect=ENVELOPE, edit_value=lambda text: text[:-4] + "\uff21" + text[-3:]
    ),
    "base64-dollar-inside": Scenario(
        about="A third part.", expect=ENVELOPE, edit_value=lambda text: text[:-4] + "$" + text[-3:]
    ),
}

# Its label, the values it is bound to, and its key id.

SCENARIOS |= {
    "label-wrong": Scenario(
        about="A value of another column.", expect=DECRYPTION, written_label="clinic.Patient.notes"
    ),
    "label-not-former": Scenario(
        about="A value of another column, which is not among the former labels.",
        expect=DECRYPTION,
        former_labels=("clinic.Patient.social",),
        written_label="clinic.Patient.notes",
    ),
    "label-other-case": Scenario(about="Case counts.", expect=DECRYPTION, written_label="clinic.patient.ssn"),
    "label-with-bound-value": Scenario(
        about="A label that looks like a label and a bound value.",
        expect=DECRYPTION,
        bound=("1",),
        written_label='clinic.Patient.ssn","1',
        written_bound=(),
    ),
    "bound-wrong": Scenario(about="A value of another row.", expect=DECRYPTION, bound=("1",), written_bound=("2",)),
    "bound-null": Scenario(about="NULL is not the empty text.", expect=DECRYPTION, bound=(None,), written_bound=("",)),
    "bound-missing": Scenario(about="Written before it was bound.", expect=DECRYPTION, bound=("1",), written_bound=()),
    "bound-unexpected": Scenario(
        about="Bound when written, and not declared so.", expect=DECRYPTION, bound=(), written_bound=("1",)
    ),
    "bound-in-other-order": Scenario(
        about="The order counts.", expect=DECRYPTION, bound=("1", "2"), written_bound=("2", "1")
    ),
    "bound-split-elsewhere": Scenario(
        about="Texts are not joined.", expect=DECRYPTION, bound=("ab", "c"), written_bound=("a", "bc")
    ),
    "key-id-of-another-key": Scenario(
        about="Value and companion name different data keys.", expect=ENVELOPE, envelope_id="another"
    ),
    "key-id-other-case": Scenario(about="Case counts.", expect=ENVELOPE, envelope_id=KEY_ID.upper()),
    "key-id-empty": Scenario(about="No id.", expect=ENVELOPE, edit_value=altered(KEY_ID, "")),
    "key-id-129-characters": Scenario(about="An id that is too long.", expect=ENVELOPE, key_id="k" * 129),
    "key-id-with-slash": Scenario(about="A character that ids do not have.", expect=ENVELOPE, key_id="a/b"),
    "key-id-with-space": Scenario(about="A character that ids do not have.", expect=ENVELOPE, key_id="a b"),
    "key-id-with-newline": Scenario(about="A newline at the end.", expect=ENVELOPE, key_id="ab\n"),
    "key-id-not-ascii": Scenario(about="A letter that is not ASCII.", expect=ENVELOPE, key_id="é"),
    "key-id-changed-in-both": Scenario(
        about="Value and companion agree on an id that the proof does not have.",
        expect=DECRYPTION,
        envelope_id="another",
        edit_companion=altered(KEY_ID, "another"),
    ),
}
