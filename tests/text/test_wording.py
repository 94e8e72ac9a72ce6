"""Numbers in messages agree with their words."""

import re
from pathlib import Path

import pytest

import vault_fields
from vault_fields.text.counting import counted

PACKAGE = Path(vault_fields.__file__).parent

# A number that is computed, right before a plural.
_UNCOUNTED = re.compile(r"\{[^{}]*\} (?:rows|keys|values|events|versions|objects|KEKs)\b")

# Never one.
_LEFT = ["{max_rows_per_key * data_key_max_uses:,} rows"]


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 rows were"), (1, "1 row was"), (2, "2 rows were"), (1000, "1,000 rows were")]
)
def test_one_is_one(number, expected) -> None:
    assert counted(number, "row was", "rows were") == expected


def test_no_message_counts_past_it() -> None:
    texts = (path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    assert [found for text in texts for found in _UNCOUNTED.findall(text)] == _LEFT
