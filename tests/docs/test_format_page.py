"""What the format page says is what the code does."""

import json
import re
from pathlib import Path

import pytest

from tests.vectors.generate import HERE
from vault_fields import exceptions
from vault_fields.keys import DATA_KEY_BYTES, MAX_ITEMS, MAX_NAME_LENGTH, MAX_VALUE_LENGTH, KeyContext
from vault_fields.stored import blindindex, companion, envelope
from vault_fields.stored.companion import PROOF_BYTES, Companion
from vault_fields.stored.envelope import MAX_PLAINTEXT_BYTES, NONCE_BYTES, TAG_BYTES, Envelope

PAGE = (Path(__file__).parent.parent.parent / "docs" / "format.md").read_text("utf-8")
VECTOR = json.loads((HERE / "text.json").read_text("ascii"))


def section(heading):
    return re.split(r"^## ", PAGE.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(heading):
    cells = [re.split(r" *\| *", line)[1:-1] for line in section(heading).splitlines() if line.startswith("|")]
    return cells[2:]


def box(text):
    return [line.strip() for line in text.splitlines() if line.strip()[:1] in {"┌", "│", "└"} and line.strip()]


def test_the_diagram_is_that_of_the_code() -> None:
    assert len(box(PAGE)) == 5
    assert box(PAGE) == box(envelope.__doc__)


def test_the_diagram_has_the_sizes_of_the_code() -> None:
    diagram = "\n".join(box(PAGE))
    assert re.search(r"nonce +(\d+)", diagram)[1] == str(NONCE_BYTES)
    assert re.search(r"tag +(\d+)", diagram)[1] == str(TAG_BYTES)
    assert re.search(r'"(\d+)"', diagram)[1] == str(envelope.VERSION)
    assert f"| `v` | `{companion.VERSION}` | the version of the companion |" in PAGE
    least, most = re.search(r"(\d+)–(\d+) characters", diagram).groups()
    assert envelope._KEY_ID.pattern == f"[A-Za-z0-9_.:-]{{{least},{most}}}"
    assert "│ A-Za-z0-9_.:-    │" in diagram


def test_the_header_is_that_of_the_code() -> None:
    assert envelope.encode(Envelope("id", b"")).removesuffix("id$") == "$vf$1$"
    assert "```text\n$vf$1$<data-key id>$<base64 of nonce ‖ ciphertext ‖ tag>\n" in PAGE


def test_the_limits_are_those_of_the_code() -> None:
    shortest = Companion("", "k", "", KeyContext({"n": ""}), {}, bytes(PROOF_BYTES))
    assert companion.decode(companion.encode(shortest)) == shortest
    assert {what: (least, most) for what, least, most in rows("Limits")} == {
        what: (f"{least:,}", f"{most:,}")
        for what, least, most in [
            (
                "the value column, characters",
                len(envelope.encode(Envelope("k", bytes(NONCE_BYTES + TAG_BYTES)))),
                envelope._MAX_LENGTH,
            ),
            ("data-key id, characters", 1, 128),
            ("nonce, bytes", NONCE_BYTES, NONCE_BYTES),
            ("plaintext, bytes", 0, MAX_PLAINTEXT_BYTES),
            ("tag, bytes", TAG_BYTES, TAG_BYTES),
            ("the companion column, characters", len(companion.encode(shortest)), companion._MAX_LENGTH),
            ("`vault`, characters", 0, companion._MAX_ALIAS_LENGTH),
            ("`keys`, characters", 0, companion.MAX_ENCRYPTED_KEYS_LENGTH),
            ("`context`, items", 1, MAX_ITEMS),
            ("a name in `context`, characters", 1, MAX_NAME_LENGTH),
            ("a value in `context`, characters", 0, MAX_VALUE_LENGTH),
            ("`row`, columns", 0, MAX_ITEMS),
            ("a name in `row`, characters", 1, MAX_NAME_LENGTH),
            ("a text in `row`, characters", 0, companion._MAX_ROW_TEXT_LENGTH),
            ("proof, bytes", PROOF_BYTES, PROOF_BYTES),
            ("data key, bytes", DATA_KEY_BYTES, DATA_KEY_BYTES),
        ]
    }


def test_the_members_are_those_of_the_code_in_their_order() -> None:
    assert tuple(row[0].strip("`") for row in rows("The companion column")) == companion._MEMBERS


def test_the_arrays_are_those_of_the_code() -> None:
    assert '\n["vault_fields",1,"<app_label.Model.field>",<each value bound to, as text>…]\n' in PAGE
    label, bound = "<app_label.Model.field>", "<each>"
    assert envelope.associated_data(label, [bound]).decode() == f'["vault_fields",1,"{label}","{bound}"]'
    assert '\n["vault_fields proof",2,"<vault>","<id>","<keys>",<context>,<row>]\n' in PAGE
    message = companion.proof_message(Companion("<vault>", "<id>", "<keys>", KeyContext({"a": "b"}), {})).decode()
    assert message == '["vault_fields proof",2,"<vault>","<id>","<keys>",{"a":"b"},{}]'


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000])
def test_the_length_of_an_envelope_is_as_said(size) -> None:
    assert "43 + 4⌈(n + 28) / 3⌉ characters" in PAGE
    text = envelope.encode(Envelope("i" * 36, bytes(NONCE_BYTES + size + TAG_BYTES)))
    assert len(text) == 43 + 4 * -(-(size + 28) // 3)


def test_the_worked_example_is_a_vector() -> None:
    """Its literals may be folded over several lines."""
    lines = re.findall(r"""^(?:\.\.\.     |>>> value = )(['"])(.*)\1$""", section("A worked example"), re.MULTILINE)
    assert "".join(text for _, text in lines) == VECTOR["value"] + VECTOR["companion"]
    assert ">>> data_key = bytes(range(32))\n" in PAGE
    assert bytes(range(32)).hex() == VECTOR["data_key"]
    assert f"\n{VECTOR['plaintext']!r}\n" in section("A worked example")


def test_the_errors_of_reading_exist_and_are_those_of_the_vectors() -> None:
    named = set(re.findall(r"`([A-Z]\w+(?:Error|Mismatch|Found|Refused))`", section("Reading")))
    assert named == {json.loads(path.read_text("ascii"))["expect"] for path in HERE.glob("*.json")} - {"valid"}
    assert all(issubclass(getattr(exceptions, name), exceptions.VaultFieldsError) for name in named)


def test_the_files_that_the_page_names_exist() -> None:
    root = Path(__file__).parent.parent.parent
    named = re.findall(r"`(tests/[\w./]+)`", PAGE)
    assert set(named) == {
        *("tests/vectors/", "tests/independent_decoder.py", "tests/vectors/text.json"),
        *("tests/vectors/indexes/", "tests/independent_index.py", "tests/vectors/indexes/hashes.json"),
    }
    assert all((root / name).exists() for name in named)


def test_the_sub_key_is_that_of_the_code() -> None:
    assert '\n["vault_fields index",1,"<label>"]\n' in PAGE
    assert blindindex.info("<label>").decode() == '["vault_fields index",1,"<label>"]'


def test_the_hashes_of_the_worked_example_are_vectors() -> None:
    vectors = json.loads((HERE / "indexes" / "hashes.json").read_text("ascii"))
    whole, truncated = vectors[0], next(vector for vector in vectors if vector["bits"] == 16)
    assert (whole["index_key"], whole["label"], whole["text"]) == (
        VECTOR["data_key"],
        VECTOR["label"],
        VECTOR["plaintext"],
    )
    for vector in (whole, truncated):
        assert f"UUID('{vector['hash']}')" in section("The blind index")
