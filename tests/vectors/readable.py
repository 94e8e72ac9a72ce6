"""Values that open."""

from tests.vectors.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {}

# Plaintexts.

SCENARIOS |= {
    "text": Scenario(about="The plain case."),
    "text-empty": Scenario(about="The empty text is a value.", plaintext=""),
    "text-1-byte": Scenario(about="29 bytes: base64 with one padding character.", plaintext="a"),
    "text-2-bytes": Scenario(about="30 bytes: base64 without padding.", plaintext="ab"),
    "text-3-bytes": Scenario(about="31 bytes: base64 with two padding characters.", plaintext="abc"),
    "text-multibyte": Scenario(about="Characters of 1 to 4 bytes.", plaintext="aé組🔑 مرحبا"),
    "text-not-normalized": Scenario(about="Both spellings of one letter, neither changed.", plaintext="\u00e9e\u0301"),
    "text-controls": Scenario(
        about="Every control character.", plaintext="".join(map(chr, [*range(33), *range(127, 160)]))
    ),
    "text-noncharacters": Scenario(about="The ends of the planes.", plaintext="\ufeff\ufffe\uffff\U0010ffff"),
    "text-100-kB": Scenario(about="A long text.", plaintext="0123456789 abcdefghi é組🔑\n" * 3000),
    "json-object": Scenario(
        about="JSON is text to this format.", plaintext='{"b":[1,-2.5e3,"x",null,true,false],"a":{},"é":"組🔑\\n"}'
    ),
    "json-array": Scenario(about="A nested array.", plaintext="[[],[[]],[[],[[]]]]"),
    "json-string": Scenario(about="A string, with its quotes.", plaintext='"\\"text\\""'),
    "json-empty-string": Scenario(about="Not the empty text.", plaintext='""'),
    "json-integer": Scenario(about="More digits than a double holds.", plaintext="12345678901234567890123"),
    "json-float": Scenario(about="A number with a fraction.", plaintext="0.1"),
    "json-zero": Scenario(about="Zero is a value.", plaintext="0"),
    "json-true": Scenario(about="True.", plaintext="true"),
    "json-false": Scenario(about="False is a value.", plaintext="false"),
    "json-null": Scenario(about="JSON's null, which is not a database NULL.", plaintext="null"),
    "json-empty-object": Scenario(about="An empty object is a value.", plaintext="{}"),
    "json-empty-array": Scenario(about="An empty array is a value.", plaintext="[]"),
}

# Values of other types: canonical texts, and the length that they are filled to.

TYPED = [
    ("char", "EncryptedCharField", 0, {"": " spaces at both ends stay "}),
    ("small-integer", "EncryptedSmallIntegerField", 6, {"": "-32768"}),
    ("integer", "EncryptedIntegerField", 11, {"": "5", "-lowest": "-2147483648", "-zero": "0"}),
    ("big-integer", "EncryptedBigIntegerField", 20, {"": "9223372036854775807"}),
    ("positive-small-integer", "EncryptedPositiveSmallIntegerField", 5, {"": "32767"}),
    ("positive-integer", "EncryptedPositiveIntegerField", 10, {"": "2147483647"}),
    ("positive-big-integer", "EncryptedPositiveBigIntegerField", 19, {"": "42"}),
    ("decimal", "EncryptedDecimalField", 11, {"": "1.50", "-negative": "-999999.99", "-zero": "0.00"}),
    ("float", "EncryptedFloatField", 24, {"": "0.1", "-long": "-2.2250738585072014e-308", "-whole": "1.0"}),
    ("boolean", "EncryptedBooleanField", 5, {"-true": "true", "-false": "false"}),
    ("date", "EncryptedDateField", 0, {"": "2026-11-29", "-first": "0001-01-01"}),
    ("datetime", "EncryptedDateTimeField", 0, {"": "2026-11-29T09:30:00.000000Z"}),
    ("time", "EncryptedTimeField", 0, {"": "09:30:00.000001"}),
    ("duration", "EncryptedDurationField", 21, {"": "86402000003", "-negative": "-1"}),
    ("uuid", "EncryptedUUIDField", 0, {"": "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"}),
    ("address", "EncryptedGenericIPAddressField", 39, {"-4": "192.0.2.1", "-6": "2001:db8::1"}),
    ("address-mapped", "EncryptedGenericIPAddressField", 39, {"": "::ffff:192.0.2.1"}),
    ("binary", "EncryptedBinaryField", 0, {"": "AP8=", "-empty": ""}),
]

SCENARIOS |= {
    f"typed-{name}{case}": Scenario(about=f"The value of an {kind}.", plaintext=text, kind=kind, length=length)
    for name, kind, length, texts in TYPED
    for case, text in texts.items()
}

# What a reader knows: contexts, rows, labels, bound values.

MAXIMAL_CONTEXT = {f"{number}{character * 119}": character * 500 for number, character in enumerate("aéß組字🔑😀xyz")}
MAXIMAL_ROW = {f"{number}{character * 119}": character * 4096 for number, character in enumerate("aéß組字🔑😀xyz")}
SPECIAL = '"\\/\b\t\n\f\r\x01\x1f\x7f\x85\u2028 \ud7ff\ue000<&>'

SCENARIOS |= {
    "context-maximal": Scenario(
        about="10 items, names of 120 and values of 500 characters, of 1 to 4 bytes each.", context=MAXIMAL_CONTEXT
    ),
    "context-multibyte-names": Scenario(
        about="Names that are not ASCII.",
        context={"größe": "1", "組織": "2", "🔑": "3"},
        row={"größe": "1", "組織": "2", "🔑": "3"},
    ),
    "context-in-code-point-order": Scenario(
        about="U+FF5E comes before U+1F511, which in UTF-16 would be the other way round.",
        context={"\uff5e": "1", "🔑": "2", "b": "3", "B": "4", "a": "5"},
        row={"\uff5e": "1", "🔑": "2", "b": "3", "B": "4", "a": "5"},
    ),
    "context-escapes": Scenario(
        about="Which characters are escaped in JSON, and how.",
        context={SPECIAL: SPECIAL},
        row={SPECIAL: SPECIAL},
    ),
    "context-not-normalized": Scenario(
        about="Two spellings of one letter are two names.",
        context={"e\u0301": "1", "\u00e9": "2"},
        row={"e\u0301": "1", "\u00e9": "2"},
    ),
    "context-empty-value": Scenario(about="A value of a context may be empty.", context={"organization_id": ""}),
    "row-maximal": Scenario(
        about="10 columns, names of 120 and texts of 4,096 characters, of 1 to 4 bytes each.", row=MAXIMAL_ROW
    ),
    "row-null": Scenario(about="A column that is NULL.", row={"organization_id": "7", "region": None}),
    "row-empty-text": Scenario(about="A column that holds the empty text.", row={"organization_id": ""}),
    "row-without-columns": Scenario(about="The context is made of constants alone.", row={}),
    "row-with-added-column": Scenario(
        about="The context has an item more than when the value was written.",
        row={"organization_id": "7", "region": "eu"},
        written_row={"organization_id": "7"},
    ),
    "row-with-removed-column": Scenario(
        about="The context has an item less than when the value was written.",
        row={"organization_id": "7"},
        written_row={"organization_id": "7", "region": "eu"},
    ),
    "label-former": Scenario(
        about="Written before the field was renamed.",
        former_labels=("clinic.Patient.social",),
        written_label="clinic.Patient.social",
    ),
    "label-former-of-several": Scenario(
        about="Written before the model and then the field were renamed.",
        former_labels=("clinic.Patient.social", "clinic.Person.social"),
        written_label="clinic.Person.social",
    ),
    "label-current-beside-former": Scenario(
        about="Written after the field was renamed.", former_labels=("clinic.Patient.social",)
    ),
    "label-multibyte": Scenario(about="A label that is not ASCII.", label="klinik.Patientenakte.größe"),
    "bound-one": Scenario(about="Tied to one column.", bound=("0193a1b2-0000-7000-8000-000000000001",)),
    "bound-two": Scenario(about="Tied to two columns, in the order of the declaration.", bound=("b", 'a"\\é🔑')),
    "bound-empty": Scenario(about="Tied to a column that holds the empty text.", bound=("",)),
    "bound-and-former-label": Scenario(
        about="Tied to a column, and written before the field was renamed.",
        bound=("1",),
        former_labels=("clinic.Patient.social",),
        written_label="clinic.Patient.social",
    ),
    "key-id-1-character": Scenario(about="The shortest id.", key_id="k"),
    "key-id-128-characters": Scenario(about="The longest id.", key_id="k" * 128),
    "key-id-every-character": Scenario(
        about="Every character that an id may have.",
        key_id="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-",
    ),
    "keys-maximal": Scenario(about="65,536 characters of encrypted keys.", keys="wrap" * 16384),
    "vault-other": Scenario(about="A vault that is not the default one.", vault="other"),
    "vault-maximal": Scenario(about="An alias of 200 characters.", vault="é組🔑x" * 50),
}
